"""The built book: it stands alone, every link leads somewhere, every picture is described."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from page_notes import list_figures

from ima.claims import CLAIMS, ClaimRecord, read_unmeasurable_claims
from ima.claims.families import adjust_verdicts

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason="no book has been built: make book"
)


def pages():
    made = {"_static", "_sources", "_images", "_downloads"}
    return sorted(
        path for path in SITE.rglob("*.html") if not made & set(path.relative_to(SITE).parts)
    )


@pytest.fixture(scope="module")
def site():
    return {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in pages()
    }


def prose(site):
    """Leave out the listings of source code and the index of modules, which Sphinx writes."""
    return {
        path: soup
        for path, soup in site.items()
        if "_modules" not in path.parts and path.name != "py-modindex.html"
    }


def test_every_chapter_is_there():
    # Without the parts from packages, the book has fewer chapters than the template.
    toc = yaml.safe_load((ROOT / "book" / "_generated" / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    for chapter in [toc["root"], *chapters]:
        assert (SITE / f"{chapter}.html").is_file()


def test_nothing_is_fetched_from_elsewhere(site):
    for path, soup in site.items():
        fetched = [tag.get("src") for tag in soup.find_all(["script", "img", "iframe", "audio"])]
        fetched += [tag["href"] for tag in soup.find_all("link", rel="stylesheet")]
        remote = [url for url in fetched if url and re.match(r"(https?:)?//", url)]
        assert remote == [], path.name


def test_links_inside_the_book_lead_somewhere(site):
    anchors = {path: {tag["id"] for tag in soup.find_all(id=True)} for path, soup in site.items()}
    dead = []
    for path, soup in site.items():
        article = soup.find("article") or soup
        for tag in article.find_all("a", href=True):
            url = urlsplit(tag["href"])
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            known = anchors.get(target)
            missing = url.fragment and known is not None and unquote(url.fragment) not in known
            if not target.exists() or missing:
                dead.append(f"{path.name}: {tag['href']}")
    assert dead == []


def test_every_picture_is_described(site):
    for path, soup in prose(site).items():
        for tag in (soup.find("article") or soup).find_all("img"):
            alt = tag.get("alt", "")
            assert len(alt) > 20, f"{path.name}: {tag.get('src', '')[:60]}"
            assert not re.search(r"\.(png|svg|jpg)$", alt)


def test_there_is_one_search_box_on_a_page(site):
    for path, soup in site.items():
        shown = [
            form
            for form in soup.select("form.bd-search")
            if not form.find_parent(class_="search-button__search-container")
        ]
        assert len(shown) <= 1, path.name


def test_no_page_shows_what_should_have_been_filled_in(site):
    for path, soup in prose(site).items():
        text = (soup.find("article") or soup).get_text()
        for mark in ("{glue", "{numref}", "{cite", "{doc}"):
            assert mark not in text, path.name
        # An example of the API page may show an error; the output of a run may not.
        if "runs" in path.parts:
            assert "Traceback (most recent call last)" not in text, path.name


def test_claims_are_complete_records():
    records = json.loads((ROOT / "_build" / "claims.json").read_text(encoding="utf-8"))
    checked = [ClaimRecord.model_validate(entry) for entry in records]  # recomputes each verdict
    assert {"F1.1", "F1.2"} <= {record.claim for record in checked}
    for record in checked:
        assert (ROOT / record.notebook).is_file()
        assert record.interval is None or record.low <= record.value <= record.high
    assert all(not record.finding == record.reason == "" for record in checked)


def test_the_front_page_shows_every_claim_with_its_verdict(site):
    records = json.loads((ROOT / "_build" / "claims.json").read_text(encoding="utf-8"))
    measured = {(record["claim"], record["model"]) for record in records}
    page = site[SITE / "book" / "index.html"]
    head, *rows = page.find("table").find_all("tr")
    # The size of the language model stands below the name.
    models = [next(cell.stripped_strings) for cell in head.find_all("th")][1:]
    unserved = {
        one.model
        for one in read_unmeasurable_claims((ROOT / "book" / "runs").glob("*.claims.json"))
    }
    assert {model for _, model in measured} | unserved == set(models)
    cells = {
        (row.find("td").get_text(" ", strip=True).split()[0], model): cell
        for row in rows
        for model, cell in zip(models, row.find_all("td")[1:], strict=True)
    }
    assert list(dict.fromkeys(claim for claim, _ in cells)) == list(CLAIMS)
    for key, cell in cells.items():
        assert bool(cell.select(".unmeasured")) == (key not in measured), key
    adjusted = adjust_verdicts([ClaimRecord.model_validate(record) for record in records])
    for record in records:
        place = record["claim"], record["model"]
        verdict = adjusted[place] if record["reading"] == "as tested" else record["verdict"]
        label = f"{record['claim']} {record['reading']}: {verdict}"
        assert cells[place].select(f'a .{verdict.split()[0]}[aria-label="{label}"]')
    beside = site[SITE / "book" / "beside.html"].get_text(" ")
    for record in map(ClaimRecord.model_validate, records):
        assert str(record.interval or record.reason) in beside


def test_pages_of_claims_open_with_their_answers(site):
    for claim in CLAIMS.values():
        page = site[SITE / "book" / "runs" / f"{claim.page}.html"]
        titles = [box.find("strong").get_text() for box in page.select(".answer-box")]
        assert any(title.startswith(f"{claim.id} ") for title in titles), claim.page
        assert page.select(".verdict-figures img"), claim.page
        first = page.select_one(".answer-box")
        assert first.find_all_previous("div", class_="cell_output") == [], claim.page


def test_each_figure_offers_its_numbers_and_its_drawing(site):
    for path, soup in site.items():
        if path.parent.name != "runs":
            continue
        notebook = ROOT / "book" / "runs" / f"{path.stem}.ipynb"
        figures = list_figures(json.loads(notebook.read_text(encoding="utf-8")))
        notes = soup.select(".figure-note")
        assert len(notes) == len(figures), path.name
        for figure, note in zip(figures, notes, strict=True):
            links = {Path(a["href"]).suffix: a["href"] for a in note.find_all("a")}
            drawing = (path.parent / links[".svg"]).resolve().read_text(encoding="utf-8")
            assert drawing.strip() == figure.drawing.strip()
            assert (".csv" in links) == bool(figure.numbers)
            if figure.numbers:
                offered = (path.parent / links[".csv"]).resolve().read_text(encoding="utf-8")
                assert offered == figure.numbers


def test_a_phone_gets_the_narrow_drawing_beside_the_wide_one(site):
    wide = [image for soup in site.values() for image in soup.select("img.wide-figure")]
    assert wide
    for image in wide:
        narrow = image.find_next("img")
        assert "narrow-figure" in narrow["class"]
        assert narrow["alt"].split() == image["alt"].split()


def test_pages_say_how_they_were_made(site):
    for path, soup in site.items():
        if path.parent.name == "runs":
            text = soup.find("article").get_text(" ")
            assert "How this page was made" in text, path.name
            assert "Cite this page" in text, path.name
    assert "edition, built on" in site[SITE / "book" / "index.html"].get_text(" ")


def test_a_term_shows_what_it_means_where_it_is_linked(site):
    links = [
        term.find_parent("a") for soup in prose(site).values() for term in soup.select(".std-term")
    ]
    assert len(links) > 20
    assert all(len(link["title"]) > 20 for link in links)
