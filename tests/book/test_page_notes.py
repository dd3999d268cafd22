"""What is added to pages when the site is built: answers, notes below figures, terms, labels."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import bibliography
import glossary
import page_notes
import page_weight
import pytest
import yaml

from ima import claims
from ima.figures.figure_data import CSV
from ima.figures.phone import NARROW_SVG
from ima.stats.intervals import Interval

ROOT = Path(__file__).parents[2]
DRAWING = "<svg>\n<path/>\n</svg>"


def figure_cell(**forms):
    settings = {"figure": {"name": "fig-a", "caption": "c"}, "image": {"alt": "A line:\nit rises."}}
    data = {"image/svg+xml": DRAWING, **forms}
    return {
        "cell_type": "code",
        "id": "a",
        "metadata": {"mystnb": settings},
        "source": "plot()",
        "outputs": [{"output_type": "execute_result", "data": data, "metadata": {}}],
    }


def notebook(*cells):
    own = {"source": "notebooks/finding3.md", "commit": "abc1234", "python": "3.11.7"}
    own |= {"packages": {"ima": "0.1.0"}}
    own["caches"] = [{"path": "data/a.zarr", "samples": 32, "sha256": "0123456789abcdef"}]
    run = {"start_time": "2026-11-30T04:00:00", "duration": 93.4}
    title = {"cell_type": "markdown", "id": "t", "metadata": {}, "source": "# Finding 3: x\n"}
    return {"cells": [title, *cells], "metadata": {"ima": own, "papermill": run}}


def annotate(made, records=()):
    book = page_notes.Book("A book", "Its authors", "small")
    annotated = page_notes.annotate(made, page="finding3", records=records, figures={}, book=book)
    return annotated["cells"]


def test_the_answer_takes_the_place_of_the_claim():
    quoted = "The paper's claims:\n\n> **F3.1** {glue:text}`f31`\n>\n"
    quoted += "> **F3.3** {glue:text}`f33`\n\nMore.\n"
    cell = {"cell_type": "markdown", "id": "q", "metadata": {}, "source": quoted}
    record = claims.make_claim_record(
        "F3.1", "as tested", interval=Interval(0.4, 0.3, 0.5, n=60), model="a", dataset="d"
    )
    made = notebook(cell)
    before = copy.deepcopy(made)
    text = annotate(made, [record])[1]["source"]
    assert "**F3.1 Alignment over depth: holds.**" in text
    assert "**F3.3 Steering blocks: not measured in this edition.**" in text
    assert "{glue" not in text
    assert text.endswith("More.\n")
    assert made == before, "the notebook on disk is another's"
    # A cell may end with the claim.
    cell["source"] = "> **F3.1** {glue:text}`f31`"
    assert "holds.**" in annotate(notebook(cell), [record])[1]["source"]


def test_every_claim_is_quoted_where_its_page_begins():
    for claim in claims.CLAIMS.values():
        text = (ROOT / claim.notebook).read_text(encoding="utf-8")
        quoted = [match[1] for match in page_notes._CLAIM.finditer(text)]
        assert claim.id in quoted, claim.notebook


def test_a_note_follows_each_figure():
    cells = annotate(notebook(figure_cell(**{CSV: "x,y\n1,2\n3,4\n", NARROW_SVG: DRAWING})))
    note = cells[2]["source"]
    assert "CSV, 2 rows" in note
    assert 'download="fig-a.svg"' in note
    assert ":class: narrow-figure\n" in note
    assert ':alt: "A line: it rises."\n' in note
    assert cells[1]["metadata"]["mystnb"]["image"]["classes"] == "wide-figure"
    (plain,) = [
        cell for cell in annotate(notebook(figure_cell())) if "figure-note" in cell["source"]
    ]
    assert "CSV" not in plain["source"]
    assert "narrow-figure" not in plain["source"]


def test_the_last_section_says_when_from_what_and_how_to_cite():
    text = annotate(notebook())[-1]["source"]
    for part in ("30 November 2026", "93 s", "abc1234", "small edition", "`a.zarr`", "0123456789"):
        assert part in text
    assert "32" in text
    assert "Its authors. *Finding 3: x*. In: A book. Small edition" in text
    # A notebook of an older run says what it can.
    bare = notebook()
    bare["metadata"] = {}
    assert "an unknown day" in annotate(bare)[-1]["source"]


def test_all_numbers_are_in_one_archive_of_the_same_bytes(tmp_path):
    pages = {"one": notebook(figure_cell(**{CSV: "x\n1\n"})), "two": notebook(figure_cell())}
    page_notes.write_figure_files(pages, folder=tmp_path / "a")
    page_notes.write_figure_files(pages, folder=tmp_path / "b")
    archive = tmp_path / "a" / "figures.zip"
    assert archive.read_bytes() == (tmp_path / "b" / "figures.zip").read_bytes()
    with zipfile.ZipFile(archive) as files:
        assert files.namelist() == ["one/fig-a.csv"]
    assert (tmp_path / "a" / "one" / "fig-a.csv").read_text(encoding="utf-8") == "x\n1\n"
    assert not (tmp_path / "a" / "two").joinpath("fig-a.csv").exists()


TERMS = ["perceptual token", "PvsT", "cache", "IMA score"]


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("The perceptual\ntokens rise.", "The {term}`perceptual tokens <perceptual token>` rise."),
        ("PvsT and PvsT.", "{term}`PvsT <PvsT>` and PvsT."),
        ("A cache.", "A cache."),
        ("# PvsT\n`PvsT` [PvsT](x) $PvsT$\n| PvsT |\n> PvsT", None),
        ("```python\nPvsT\n```\n", None),
        ("{ref}`PvsT` MyPvsT", None),
        (":::{image} a.svg\n:alt: PvsT rises\n:::", None),
        ("*IMA score*", "*{term}`IMA score <IMA score>`*"),
    ],
)
def test_the_first_mention_in_prose_is_linked(text, linked):
    assert glossary.link_terms(text, TERMS, linked=set()) == (text if linked is None else linked)


def test_a_page_links_a_term_once():
    linked = set()
    first = glossary.link_terms("PvsT", TERMS, linked=linked)
    assert first == "{term}`PvsT <PvsT>`"
    assert glossary.link_terms("PvsT", TERMS, linked=linked) == "PvsT"


def test_the_glossary_names_its_terms():
    terms = glossary.read_terms((ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))
    assert {"perceptual token", "α-SubNet", "IMA score"} <= set(terms)
    assert terms == sorted(terms, key=lambda term: term.replace("α", "a").lower())


def test_labels_say_author_and_year():
    class Person:
        def __init__(self, last):
            self.prelast_names, self.last_names = [], [last]

    class Entry:
        def __init__(self, *names, year="2024", key="k"):
            self.persons = {"author": [Person(name) for name in names]}
            self.fields, self.key = {"year": year}, key

    entries = [Entry("Sun"), Entry("Sun"), Entry("Li", "Wu"), Entry("A", "B", "C"), Entry(key="z")]
    labels = list(bibliography.AuthorYearLabel().format_labels(entries))
    assert labels == ["Sun, 2024", "Sun, 2024b", "Li and Wu, 2024", "A et al., 2024", "z, 2024"]


PAGE = """<html><head>
<link rel="preload" as="font" href="../webfonts/fa-solid-900.woff2" />
<link rel="preload" as="font" href="../webfonts/fa-brands-400.woff2" />
<script src="../_static/vendor/fontawesome/6/js/all.min.js?digest=1"></script>
<script>window.MathJax = {"options": {"x": "math|y"}}</script>
<script defer="defer" src="../_static/mathjax/tex-mml-chtml.js?v=1"></script>
</head><body><section class="tex2jax_ignore mathjax_ignore">{}</section></body></html>"""


def test_a_page_loads_what_it_uses():
    plain = page_weight.lighten(PAGE.replace("{}", "no formula"), folder=Path())
    assert "fa-solid" in plain
    for part in ("fa-brands", "all.min.js", "MathJax", "mathjax/"):
        assert part not in plain
    formulas = page_weight.lighten(PAGE.replace("{}", '<div class="math">x</div>'), folder=Path())
    assert "mathjax/tex-mml" in formulas
    assert "window.MathJax" in formulas


def test_a_button_that_has_only_an_icon_has_a_name():
    page = '<details><summary><span class="toctree-toggle"><i></i></span></summary></details>'
    assert 'summary aria-label="Show' in page_weight.lighten(page, folder=Path())


def test_a_drawing_has_its_size_before_it_loads(tmp_path):
    (tmp_path / "a.svg").write_text('<?xml?>\n<svg height="36pt" width="72.2pt" x="1">')
    (tmp_path / "b.svg").write_text("<svg viewBox='0 0 1 1'>")
    page = '<img alt="a" src="a.svg"/><img src="a.svg" style="width: 1px"/><img src="b.svg"/>'
    page += '<img class="wide-figure" src="a.svg"/>'
    first, second, third, fourth = page_weight.lighten(page, folder=tmp_path).split("/>")[:4]
    assert 'width="96" height="48"' in first
    # What loads late may be missing in print.
    assert "lazy" not in first
    assert 'height="48" loading="lazy"' in fourth
    assert "width=" not in second
    assert "width=" not in third


def test_a_long_table_of_results_opens_on_a_click():
    def table(rows, kind='class="dataframe"'):
        return f"<table border=1 {kind}>{'<tr><td>1</td></tr>' * (rows + 1)}</table>"

    short, long = table(12), table(13)
    assert page_weight.fold_long_tables(short) == short
    folded = page_weight.fold_long_tables(f"<p>{long}{short}</p>")
    assert folded.count("<details") == 1
    assert "<summary>Table of 13 rows</summary>" in folded
    assert "<details" in page_weight.fold_long_tables(table(13, 'id="T_1a2b"'))
    # The front page's table of claims is none of these.
    assert "<details" not in page_weight.fold_long_tables(table(20, 'class="table"'))


def test_the_style_sheet_of_icons_keeps_those_that_are_used():
    style = (
        '.fa-lg{font-size:2em}.fa-a:before{content:"\\61"}.fa-b:before,.fa-c:before{content:"b"}'
    )
    kept = page_weight.drop_unused_icons(style, used={"fa-c"})
    assert kept == '.fa-lg{font-size:2em}.fa-b:before,.fa-c:before{content:"b"}'


def test_the_extensions_are_those_of_the_book():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    # Terms are linked in what the notes add, and sizes are those of the pages as written,
    # also where a page is weighed with its data.
    assert list(config["sphinx"]["local_extensions"]) == [
        "page_notes",
        "glossary",
        "bibliography",
        "page_weight",
        "explorer_page",
        "all_cores",
    ]
