"""Three readers of the built book, in a browser: on a phone, with the paper in hand, for a number.

They need Chromium. Without it, and without a built book, they are skipped.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import pytest
from pdf import serve

from ima.claims import CLAIMS

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
CHROMIUM = shutil.which("chromium")
PHONE, SCREENS = {"width": 390, "height": 844}, 2.5
LARGEST = 1_000_000  # bytes of the first page with all that it loads

pytestmark = [
    pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="no book: make book"),
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address():
    with serve(SITE) as root:
        yield f"{root}/book"


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


def test_on_a_phone_the_answer_picture_and_table_are_on_the_first_screens(browser, address):
    page = browser.new_page(viewport=PHONE)
    loaded = []
    page.on("response", lambda response: loaded.append(len(response.body())))
    page.add_init_script(
        "window.shift = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())"
        " window.shift += entry.value; }).observe({type: 'layout-shift', buffered: true});"
    )
    page.goto(f"{address}/index.html", wait_until="networkidle")
    end = page.evaluate(
        "document.querySelector('article table').getBoundingClientRect().bottom + scrollY"
    )
    assert end <= SCREENS * PHONE["height"]
    assert sum(loaded) < LARGEST
    assert page.evaluate("window.shift") < 0.1
    page.close()


@pytest.mark.parametrize("width", [1280, 1024, 768, 390])
def test_no_page_is_wider_than_its_screen(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    wide = {}
    for path in sorted((SITE / "book").rglob("*.html")):
        name = path.relative_to(SITE / "book").as_posix()
        page.goto(f"{address}/{name}", wait_until="load")
        beyond = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if beyond > 2:
            wide[name] = beyond
    page.close()
    assert wide == {}


def test_on_a_phone_letters_of_figures_can_be_read(browser, address):
    """A figure is drawn at 96 pixels an inch; what is shown narrower has smaller letters."""
    page = browser.new_page(viewport=PHONE)
    small = []
    for path in sorted((SITE / "book" / "runs").glob("*.html")):
        page.goto(f"{address}/runs/{path.name}", wait_until="load")
        scales = page.evaluate(
            "[...document.querySelectorAll('img[width]')].filter(i => i.offsetWidth).map("
            "i => [i.src, i.offsetWidth / Number(i.getAttribute('width'))])"
        )
        # Letters of figures have eight points or more, those of ticks and cells seven.
        small += [(path.name, src[-20:], s) for src, s in scales if s * 7 * 96 / 72 < 7]
    page.close()
    assert small == []


def test_with_the_paper_in_hand_each_claim_leads_to_its_page_and_numbers(page, address):
    page.goto(f"{address}/beside.html")
    for claim in CLAIMS.values():
        section = page.locator("section", has=page.locator("h2", has_text=f"{claim.id} ")).last
        assert claim.as_stated.figure in section.inner_text()
        link = section.get_by_role("link", name="The page of this claim")
        assert f"runs/{claim.page}.html" in link.get_attribute("href")
    section = page.locator("section", has=page.locator("h2", has_text="F1.1 ")).last
    section.locator("summary").click()
    assert "contents" in section.locator("details").inner_text()
    section.get_by_role("link", name="The page of this claim").click()
    page.wait_for_url("**/runs/finding1.html")
    assert "F1.1" in page.locator(".answer-box").first.inner_text()


def test_the_paper_beside_the_book_prints_on_four_sheets(page, address):
    page.goto(f"{address}/beside.html", wait_until="networkidle")
    printed = page.pdf(format="A4", prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page[^s]", printed)) <= 4


def test_the_numbers_of_a_figure_are_one_click_away(page, address):
    page.goto(f"{address}/runs/finding1.html")
    with page.expect_download() as taken:
        page.locator(".figure-note a[download]").first.click()
    rows = list(csv.DictReader(io.StringIO(Path(taken.value.path()).read_text(encoding="utf-8"))))
    assert rows
    assert {"panel", "series", "x", "y"} <= set(rows[0])
    page.goto(f"{address}/downloads.html")
    with page.expect_download() as taken:
        page.get_by_role("link", name="claims.json").first.click()
    assert taken.value.suggested_filename == "claims.json"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_stops_a_reader_with_another_way_of_reading(browser, address, theme):
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)
    page = context.new_page()
    errors = []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    found = {}
    for name in ("index", "beside", "glossary", "runs/finding3", "runs/implication2", "runs/zoo"):
        page.goto(f"{address}/{name}.html", wait_until="load")
        found[name] = [
            (violation["id"], violation["nodes"][0]["html"][:100])
            for violation in Axe().run(page).response["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
    context.close()
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert errors == []


@pytest.mark.skipif(
    not (SITE / "book/runs/explore.html").is_file(), reason="a book without the page Explore"
)
class TestExplore:
    """The page that opens caches in a browser."""

    def open(self, page, address):
        page.goto(f"{address}/runs/explore.html")
        page.wait_for_selector("#explorer[data-ready]")

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("width", [390, 1280])
    def test_it_opens_at_both_widths_and_in_both_themes(self, browser, address, width, theme):
        from axe_playwright_python.sync_playwright import Axe

        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
        page = context.new_page()
        errors = []
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        self.open(page, address)
        beyond = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert beyond <= 2
        found = Axe().run(page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"][:100]) for each in serious] == []
        assert errors == []
        context.close()

    def test_its_curves_are_those_of_the_still_picture(self, page, address):
        self.open(page, address)
        numbers = ROOT / "book/_generated/figures/explore/fig-explore-curves.csv"
        rows = list(csv.DictReader(io.StringIO(numbers.read_text(encoding="utf-8"))))
        models = page.locator("#explorer select").first
        for number, name in enumerate(dict.fromkeys(row["panel"] for row in rows)):
            models.select_option(str(number))
            page.wait_for_function(
                "name => document.querySelector('.ex-values').textContent.startsWith(name)",
                arg=name,
            )
            cells = page.evaluate(
                "[...document.querySelectorAll('#explorer td[data-curve]')].map(cell => "
                "[cell.dataset.curve, cell.parentElement.cells[0].textContent, cell.dataset.value])"
            )
            shown = {(curve, float(layer)): float(value) for curve, layer, value in cells}
            own = [row for row in rows if row["panel"] == name]
            drawn = {
                (re.search(r"\w+vs\w", row["series"])[0], float(row["x"])): float(row["y"])
                for row in own
            }
            assert shown.keys() == drawn.keys()
            assert all(shown[key] == pytest.approx(drawn[key], abs=1e-5) for key in drawn)

    def test_from_a_disk_it_shows_pictures_and_says_how_to_serve_it(self, page):
        page.goto((SITE / "book/runs/explore.html").as_uri())
        page.wait_for_timeout(500)
        assert "python -m http.server" in page.locator("#explorer .ex-notice").inner_text()
        images = page.locator("article img.wide-figure, article img.scrolled-figure")
        assert images.count() >= 3
        sizes = images.evaluate_all(
            "all => Promise.all(all.map(image => { image.loading = 'eager';"
            " return image.decode().then(() => image.naturalWidth); }))"
        )
        assert all(size > 100 for size in sizes)

    def test_no_other_page_loads_its_scripts(self):
        loading = [
            path.relative_to(SITE).as_posix()
            for path in SITE.rglob("*.html")
            if "explorer/explorer.js" in path.read_text(encoding="utf-8")
        ]
        assert loading == ["book/runs/explore.html"]
