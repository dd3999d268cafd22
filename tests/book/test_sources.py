"""The book's sources: the table of contents, the prose, and the workflow that feeds them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import api
import plan
import pytest
import yaml
from contents import read_contents

from ima.notebook import runner
from ima.notebook.parameters import check_parameter_values

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
# Decimals that are no results, with the reason why each may be typed.
TYPED: dict[tuple[str, str], str] = {}
# Code, math, roles, links and html hold numbers that are not prose.
NOT_PROSE = re.compile(
    r"^---\n.*?\n---$"
    r"|^(`{3,}|~{3,}).*?^\1"
    r"|\$\$.*?\$\$|\$[^$\n]*\$"
    r"|\{[\w:-]+\}`[^`]*`|`[^`]*`"
    r"|\]\([^)]*\)|https?://\S+|<[^>\n]*>",
    flags=re.DOTALL | re.MULTILINE,
)


def config():
    return yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text(encoding="utf-8"))


def list_chapters():
    toc = read_contents()
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def test_every_chapter_has_a_source():
    settings = config()
    runs = {name: ROOT / "notebooks" / f"{name}.md" for name in [*settings["runs"], "caching"]}
    for chapter in list_chapters():
        path = ROOT / f"{chapter}.md"
        if chapter.startswith("book/runs/"):
            path = runs[chapter.removeprefix("book/runs/")]
        assert path.is_file(), chapter


def test_every_page_and_notebook_is_a_chapter():
    listed = list_chapters()
    assert len(listed) == len(set(listed))
    for page in PAGES:
        assert f"book/{page.stem}" in listed
    for notebook in NOTEBOOKS:
        runs = [f"book/runs/{notebook.stem}", f"book/runs/{notebook.stem}-"]
        assert any(chapter == runs[0] or chapter.startswith(runs[1]) for chapter in listed)


def typed_results(text):
    """Return the numbers with decimals or a percent sign that stand in the prose of a page."""
    prose = NOT_PROSE.sub(" ", text)
    prose = re.sub(r"\b[FI]\d\.\d\b", " ", prose)  # the ids of claims
    numbers = re.findall(r"\b\d+[.,]\d+\b|\b\d+(?:\.\d+)?\s?%", prose)
    # The level of an interval is chosen, not measured.
    return [number for number in numbers if number.replace("\u00a0", " ") != "95 %"]


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.stem)
def test_no_result_is_typed(path):
    """A number in the prose comes from the code that made it."""
    numbers = typed_results(path.read_text(encoding="utf-8"))
    assert [number for number in numbers if (path.name, number) not in TYPED] == []


def test_the_search_for_typed_results_finds_them():
    text = (
        "The gap of F1.1 is 0.31, or 12 % (95 % interval). `0.5` and $0.5$ and {glue:text}`x.5` "
        "are no prose.\n\n```\n0.7\n```\n"
    )
    assert typed_results(text) == ["0.31", "12 %"]


@pytest.mark.parametrize("size", ["small", "standard", "full"])
def test_the_workflow_gives_notebooks_parameters_that_they_take(size):
    settings = plan.complete({**config(), "size": size})
    caching = runner.read_notebook_parameters(ROOT / "notebooks" / "caching.md")
    for values in plan.caches(settings).values():
        check_parameter_values(caching, values=values)
    for name in settings["runs"]:
        taken = runner.read_notebook_parameters(ROOT / "notebooks" / f"{name}.md")
        check_parameter_values(taken, values=plan.parameters(settings, name))


def test_the_published_edition_has_every_model_of_the_zoo():
    settings = {**config(), "size": "full"}
    held = {model for entry in settings["families"].values() for model in entry["caches"].values()}
    zoo = ROOT / "data" / "zoo"
    cards = [*zoo.glob("connectors/*/*/*/card.json"), *zoo.glob("multitask/*/card.json")]
    assert held == {json.loads(path.read_text(encoding="utf-8"))["name"] for path in cards}


def test_an_unknown_edition_is_refused():
    with pytest.raises(SystemExit, match="Available: small, standard, full"):
        plan.caches({**config(), "size": "huge"})


def test_every_edition_holds_the_smaller_ones():
    editions = [set(plan.caches({**config(), "size": size})) for size in plan.SIZES]
    assert editions[0] < editions[1] <= editions[2]


def test_sizes_grow():
    sizes = config()["sizes"]
    for kind in sizes["standard"]:
        counts = [sizes[name][kind]["samples"] for name in ("small", "standard", "full")]
        assert counts == sorted(counts)
    for size in sizes.values():
        own = size["findings"]
        assert own["keep_tokens"] <= own["samples"]
        assert own["logit_lens"] <= own["samples"]
    assert config()["size"] == "standard"


def test_the_book_shows_every_room_and_every_module_that_a_reader_calls():
    listed = api.rooms()
    toc = (ROOT / "book" / "_toc.yml").read_text(encoding="utf-8")
    overview = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    for room in listed:
        assert f"book/_generated/api/{room}\n" in toc
        assert f"(api-{room})" in overview
    shown = {module for modules in listed.values() for module in modules}
    for group in ("measures", "claims", "figures"):
        for path in (ROOT / "ima" / group).glob("[!_]*.py"):
            # A module of constants has nothing to call.
            calls = re.search(
                r"^(def|class) [a-zA-Z]", path.read_text(encoding="utf-8"), re.MULTILINE
            )
            assert (f"ima.{group}.{path.stem}" in shown) == bool(calls)


def test_every_citation_has_an_entry():
    entries = set(
        re.findall(
            r"^@\w+\{(\w+),",
            (ROOT / "book" / "references.bib").read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
    )
    cited = set()
    claims = (ROOT / "ima" / "claims").glob("*.py")  # the page beside the paper cites other work
    for path in [*PAGES, *NOTEBOOKS, *claims]:
        for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", path.read_text(encoding="utf-8")):
            cited |= {key.strip() for key in keys.split(",")}
    assert cited == entries


def test_math_is_drawn_from_files_of_the_book():
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    script = settings["sphinx"]["config"]["mathjax_path"]
    assert (ROOT / "book" / "_static" / script).is_file()
    fonts = (ROOT / "book" / "_static" / "mathjax" / "output").rglob("*.woff")
    assert len(list(fonts)) > 20
