"""The page Explore: what others wrote is whole, data are weighed, and a browser shows our numbers.

A small page with the scripts of the book opens caches of a tiny model in Chromium; without it,
these tests are skipped. The tests of the built page are in test_browser.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import explorer_page
import pytest
import vendor
from pdf import serve
from tinyexplorer import MAPPED, SHOWN, make_caches, write_tiny_explorer

from ima.cache.cache_set import open_cache_sets
from ima.measures.cones import average_terms_by_curve, compute_similarity_terms

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "book" / "_static"
CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")
HEAD = "".join(
    [f'<link rel="stylesheet" href="_static/{style}">' for style in explorer_page.STYLES]
    + [f'<script defer src="_static/{script}"></script>' for script in explorer_page.SCRIPTS]
)
PAGE = f"""<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>Explore</title><link rel="icon" href="data:,">{HEAD}</head><body><main><h1>Explore</h1>
<h2>In the browser</h2><div id="explorer" data-folder="data"><p>python -m http.server</p></div>
</main></body></html>"""


def test_vendored_files_are_those_that_were_recorded():
    record = json.loads(vendor.RECORD.read_text(encoding="utf-8"))
    listed = {vendor.RECORD.name}
    for name, entry in record.items():
        content = (vendor.VENDOR / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
        assert entry["packages"] == {each: vendor.VERSIONS[each] for each in vendor.FILES[name]}
        for licence in entry["licences"]:
            assert "Permission is hereby granted" in (vendor.VENDOR / licence).read_text()
        assert len(entry["licences"]) == len(entry["packages"])
        listed |= {name, *entry["licences"]}
    assert {path.name for path in vendor.VENDOR.iterdir()} == listed
    # The page loads all of it and nothing else of others.
    loaded = [*explorer_page.STYLES, *explorer_page.SCRIPTS]
    assert {f"vendor/{name}" for name in record} == {n for n in loaded if n.startswith("vendor/")}
    assert all((STATIC / name).is_file() for name in loaded)


@pytest.fixture
def site(tmp_path):
    """A site with a page that loads a script, a picture and data, and links a page."""
    notebook = tmp_path / "explore.ipynb"
    folder = tmp_path / "made"
    parameters = {"out": str(folder)}
    notebook.write_text(json.dumps({"metadata": {"ima": {"parameters": parameters}}}))
    page = tmp_path / "html" / f"{explorer_page.PAGE}.html"
    page.parent.mkdir(parents=True)
    page.write_text('<script src="a.js?v=1"></script><img src="a.svg"><a href="other.html">x</a>')
    sizes = {"a.js": 10, "a.svg": 20, "other.html": 1000}
    for name, size in sizes.items():
        (page.parent / name).write_bytes(bytes(size))
    (folder / "x.zarr").mkdir(parents=True)
    (folder / "index.json").write_text("{}")
    (folder / "x.zarr" / "zarr.json").write_bytes(bytes(50))
    return notebook, tmp_path / "html"


class _App:
    """What the extension asks of Sphinx."""

    def __init__(self, notebook, site, pages):
        self.outdir = str(site)
        self.builder = type("Builder", (), {"format": "html"})
        self.env = type(
            "Env", (), {"found_docs": pages, "doc2path": lambda _, name: str(notebook)}
        )()


def test_the_page_is_weighed_with_its_data(site):
    notebook, folder = site
    explorer_page.finish_page(_App(notebook, folder, {explorer_page.PAGE}), None)
    page = (folder / f"{explorer_page.PAGE}.html").stat().st_size
    assert explorer_page.weigh_page(folder) == {"page": page + 30, "data": 52}


def test_a_page_that_is_too_heavy_is_refused(site, monkeypatch):
    notebook, folder = site
    monkeypatch.setattr(explorer_page, "LARGEST", 80)
    with pytest.raises(SystemExit, match=r"weighs .*at most 80 are allowed\. Lower its parameter"):
        explorer_page.finish_page(_App(notebook, folder, {explorer_page.PAGE}), None)


def test_data_that_are_gone_are_said_so(site, tmp_path):
    notebook, folder = site
    shutil.rmtree(tmp_path / "made")
    with pytest.raises(SystemExit, match=r"made, which is gone.*--forcerun run_explore"):
        explorer_page.finish_page(_App(notebook, folder, {explorer_page.PAGE}), None)


def test_a_book_without_the_page_gets_no_data(site):
    notebook, folder = site
    explorer_page.finish_page(_App(notebook, folder, set()), None)
    assert not (folder / explorer_page.DATA).exists()


@pytest.fixture(scope="module")
def served(tiny_zoo, tmp_path_factory):
    """The folder of a small page with data and whole caches beside it, and its address."""
    folder = tmp_path_factory.mktemp("served")
    paths = make_caches(folder / "caches")
    write_tiny_explorer(paths, folder / "data")
    shutil.copytree(STATIC, folder / "_static")
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    with serve(folder) as address:
        yield folder, f"{address}/page.html", open_cache_sets(paths)


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("response", lambda r: r.status >= 400 and opened.problems.append(r.url))
    yield opened
    opened.close()


def open_page(page, address):
    page.goto(address)
    page.wait_for_selector("#explorer[data-ready]")


def read_curves(page):
    """Return the numbers of the table of curves, by curve and layer."""
    cells = page.evaluate(
        "[...document.querySelectorAll('#explorer td[data-curve]')].map(cell => "
        "[cell.dataset.curve, cell.parentElement.cells[0].textContent, cell.dataset.value])"
    )
    return {(curve, int(layer)): float(value) for curve, layer, value in cells}


def measure_curves(cache_set, hook_point):
    means = cache_set.read_hook_points()[hook_point]
    terms = average_terms_by_curve(compute_similarity_terms(means, resamples=2))["estimate"]
    return {
        (curve, int(layer)): pytest.approx(float(terms.sel(curve=curve, layer=layer)), abs=1e-6)
        for curve in ("PvsT", "PvsP", "TvsT")
        for layer in terms["layer"].values
    }


@needs_browser
@pytest.mark.parametrize(
    "query",
    ["", "?cache=/caches/mini-image-caption.zarr&cache=caches/mini-audio-caption.zarr"],
    ids=["stores of the book", "whole caches"],
)
def test_the_browser_computes_the_numbers_of_the_measures(page, served, query):
    _, address, cache_sets = served
    ((_, cache_set),) = cache_sets.items()
    open_page(page, f"{address}{query}")
    points = page.locator("#explorer select").nth(1)
    names = points.evaluate("select => [...select.options].map(option => option.value)")
    assert sorted(names) == sorted(cache_set.read_hook_points())
    for hook_point in names:
        points.select_option(hook_point)
        page.wait_for_function(
            "name => document.querySelector('.ex-values').textContent.includes(`, ${name}`)",
            arg=hook_point,
        )
        assert read_curves(page) == measure_curves(cache_set, hook_point)
    assert page.problems == []


@needs_browser
def test_the_keyboard_reaches_every_choice(page, served):
    _, address, cache_sets = served
    ((_, cache_set),) = cache_sets.items()
    open_page(page, address)
    values, slider = page.locator(".ex-values"), page.locator("input[type=range]")
    assert values.get_attribute("aria-live") == "polite"
    slider.focus()
    page.keyboard.press("Home")
    assert "layer 0:" in values.inner_text()
    page.keyboard.press("ArrowRight")
    assert "layer 1:" in values.inner_text()
    assert slider.get_attribute("aria-valuetext").startswith("layer 1 of")
    # One point is reached with the tabulator; arrows walk from there.
    assert page.locator(".ex-point[tabindex='0']").count() == 1
    page.locator(".ex-point[tabindex='0']").focus()
    page.keyboard.press("End")
    status, last = page.locator("#explorer [role=status]").last, 2 * SHOWN - 1
    assert page.locator(".ex-point").evaluate_all("all => all.map(Number).length") == 4 * SHOWN
    reference = page.evaluate("document.activeElement.getAttribute('aria-label')")
    own = cache_set.open_first_samples("mini-audio-caption", n=SHOWN)[-1]
    assert own.references[0] in reference
    assert "textual tokens" in reference
    assert page.locator("#explorer select").nth(2).input_value() == str(last)
    assert "audio caption" in status.inner_text()
    page.keyboard.press("Home")
    first = cache_set.trees["mini-image-caption"]["samples"]["prediction"].values[0]
    assert first in page.locator(".ex-sample").inner_text()


@needs_browser
def test_a_point_shows_picture_sound_and_words(page, served):
    _, address, cache_sets = served
    ((_, cache_set),) = cache_sets.items()
    open_page(page, address)
    page.locator(".ex-point[data-sample='1']").first.dispatch_event("mouseenter")
    picture = page.locator(".ex-sample img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    reference = cache_set.open_first_samples("mini-image-caption", n=2)[1].references[0]
    assert reference in picture.get_attribute("alt")
    rows = page.get_by_role("region", name="Words at the chosen layer").locator("tbody tr")
    tree = cache_set.trees["mini-image-caption"]
    assert rows.count() == int(tree["samples"]["n_perceptual"][1])
    grid = page.get_by_role("region", name="First words at all layers").locator("tbody tr")
    assert grid.count() == tree.attrs["layout"]["layers"] + 1
    page.locator("#explorer select").nth(2).select_option(str(SHOWN))
    audio = page.locator(".ex-sample audio")
    seconds = audio.evaluate(
        "sound => new Promise((resolve, reject) => { sound.preload = 'auto';"
        " sound.onerror = reject; sound.onloadedmetadata = () => resolve(sound.duration);"
        " sound.load(); })"
    )
    sound = cache_set.open_first_samples("mini-audio-caption", n=1)[0].load()
    assert seconds == pytest.approx(len(sound) / 16_000, abs=0.01)
    assert page.problems == []


@needs_browser
def test_a_hook_point_without_a_map_says_where_there_is_one(page, served):
    _, address, _ = served
    open_page(page, address)
    page.locator("#explorer select").nth(1).select_option("ln1")
    page.get_by_text(f"no map at ln1. It has one at {', '.join(MAPPED)}.").wait_for()
    assert not page.locator(".ex-map").is_visible()
    page.locator("#explorer select").nth(1).select_option("attn_out")
    page.locator(".ex-map").wait_for()


@needs_browser
def test_damaged_bytes_are_said_so(page, served, tmp_path):
    folder, _, _ = served
    shutil.copytree(folder, tmp_path / "copy")
    (chunk,) = (tmp_path / "copy" / "caches").glob("mini-image-*/means/resid_post/mean/c/0/0/0/0")
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    with serve(tmp_path / "copy") as address:
        open_page(page, f"{address}/page.html?cache=caches/mini-image-caption.zarr")
        alert = page.get_by_role("alert").inner_text()
        assert "mini-image-caption.zarr/means/resid_post/mean: A chunk fails its checksum" in alert
        # Other choices stay.
        page.locator("#explorer select").nth(1).select_option("attn_out")
        page.wait_for_function("document.querySelectorAll('td[data-curve]').length > 0")
        assert page.get_by_role("alert").count() == 0


@needs_browser
def test_an_address_without_a_cache_is_said_so_beside_the_books(page, served):
    _, address, cache_sets = served
    open_page(page, f"{address}?cache=caches/none.zarr")
    assert "No cache at" in page.get_by_role("alert").inner_text()
    ((name, _),) = cache_sets.items()
    assert page.locator(".ex-values").inner_text().startswith(name)


@needs_browser
def test_from_a_disk_the_notice_stays(page, served):
    folder, _, _ = served
    page.goto((folder / "page.html").as_uri())
    page.wait_for_timeout(500)
    assert page.locator("#explorer").inner_text() == "python -m http.server"
    assert page.problems == []


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_readers_with_other_ways_of_reading_are_served(page, served, width, theme):
    from axe_playwright_python.sync_playwright import Axe

    _, address, _ = served
    page.set_viewport_size({"width": width, "height": 844})
    open_page(page, address)
    ground = "#121212" if theme == "dark" else "#fff"
    page.evaluate(
        "([theme, ground]) => { const root = document.documentElement; root.dataset.theme = theme;"
        " root.style.cssText = `background: ${ground};"
        " color: ${theme === 'dark' ? '#eee' : '#111'};"
        " --pst-color-background: ${ground}; --pst-color-surface: ${ground};"
        " --pst-color-text-muted: ${theme === 'dark' ? '#bbb' : '#555'}`; }",
        [theme, ground],
    )
    page.locator("#explorer summary").click()
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:100]) for each in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
