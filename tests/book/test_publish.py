"""What becomes of the built site: one document for print, a folder for a host."""

from __future__ import annotations

from pathlib import Path

import pdf
import publish
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
PAGE = """<html><head><link rel="stylesheet" href="{up}_static/a.css"></head><body><article>
<section id="{name}"><h1>{title}<a class="headerlink" href="#x">#</a></h1>
<p><a href="{link}">there</a> <a href="https://example.org/x">out</a></p>
<img src="{up}_images/a.svg" alt="a"><details class="hide">code</details></section>
<section id="how"><h2>How this page was made</h2><p>secret</p></section>
</article></body></html>"""


@pytest.fixture
def site(tmp_path):
    pages = {
        "book/index": ("index", "Front", "runs/one.html#one"),
        "book/runs/one": ("one", "First", "../index.html"),
        "book/runs/two": ("two", "Second", "../api.html"),
        "book/api": ("api", "API", "index.html"),
    }
    for path, (name, title, link) in pages.items():
        file = tmp_path / "html" / f"{path}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * path.count("/")
        file.write_text(PAGE.format(up=up, name=name, title=title, link=link), encoding="utf-8")
    (tmp_path / "html" / "index.html").write_text("front", encoding="utf-8")
    toc = {
        "root": "book/index",
        "parts": [
            {"caption": "Part", "chapters": [{"file": f"book/runs/{n}"} for n in ("one", "two")]},
            {"caption": "Use", "chapters": [{"file": "book/api"}]},
        ],
    }
    (tmp_path / "toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    return tmp_path


def test_the_document_has_numbered_chapters_whose_links_lead_to_each_other(site):
    parts = pdf.list_chapters(site / "toc.yml")
    assert parts == [
        ("", ["book/index"]),
        ("Part", ["book/runs/one", "book/runs/two"]),
        ("Use", []),
    ]
    soup = BeautifulSoup(pdf.join_pages(site / "html", parts), "html.parser")
    assert [title.get_text() for title in soup.select("section.chapter h1")] == [
        "Front", "1  First", "2  Second",
    ]  # fmt: skip
    assert [link.get_text() for link in soup.select("nav.contents a")] == ["1  First", "2  Second"]
    ids = {tag["id"] for tag in soup.find_all(id=True)}
    inner = [a["href"] for a in soup.find_all("a") if a["href"].startswith("#")]
    assert "#book-runs-one--one" in inner
    assert {address[1:] for address in inner} - {""} <= ids
    # A page that is not printed is no dead link, and other sites stay.
    assert inner.count("#") == 1
    assert soup.find("a", href="https://example.org/x")
    assert {image["src"] for image in soup.find_all("img")} == {"_images/a.svg"}
    assert soup.find("link")["href"] == "_static/a.css"
    text = soup.get_text()
    assert "secret" not in text
    assert "code" not in text


def test_a_book_that_is_not_built_is_said_so(site):
    (site / "html" / "book" / "runs" / "two.html").unlink()
    with pytest.raises(SystemExit, match="make book"):
        pdf.join_pages(site / "html", pdf.list_chapters(site / "toc.yml"))
    with pytest.raises(SystemExit, match="make book"):
        publish.publish(site / "nothing", out=site / "out")


def test_a_page_that_moved_leaves_a_redirect(site):
    moved = site / "redirects.yml"
    moved.write_text("book/old/one.html: book/runs/one.html\n", encoding="utf-8")
    out = site / "out"
    out.mkdir()
    (out / "of yesterday").touch()
    publish.publish(site / "html", out=out, redirects=moved)
    assert not (out / "of yesterday").exists()
    assert (out / ".nojekyll").is_file()
    page = BeautifulSoup((out / "book/old/one.html").read_text(encoding="utf-8"), "html.parser")
    target = out / "book" / "old" / page.find("a")["href"]
    assert target.resolve() == (out / "book/runs/one.html").resolve()
    assert page.find("meta", attrs={"http-equiv": "refresh"})["content"].endswith(
        page.find("a")["href"]
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("book/old.html: book/gone.html", "no page book/gone.html"),
        ("book/api.html: book/index.html", "a page stands at book/api.html"),
    ],
)
def test_a_redirect_that_cannot_be_is_refused(site, entry, message):
    moved = site / "redirects.yml"
    moved.write_text(entry, encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        publish.publish(site / "html", out=site / "out", redirects=moved)
    assert not (site / "out").exists()


def test_binder_finds_the_notebooks_and_what_to_install(site):
    runs = site / "html" / "_sources" / "book" / "runs"
    runs.mkdir(parents=True)
    (runs / "one.ipynb").write_text("{}", encoding="utf-8")
    out = publish.write_notebook_branch(
        site / "html", out=site / "notebooks", address="https://example.org/a/ima"
    )
    assert (out / "book" / "runs" / "one.ipynb").is_file()
    requirement = (out / "requirements.txt").read_text(encoding="utf-8")
    assert requirement.startswith("ima[models,book] @ git+https://example.org/a/ima")
    assert "dirty" not in requirement
    assert (out / "runtime.txt").read_text(encoding="utf-8") == "python-3.11\n"


def test_the_sample_workflow_builds_what_make_publishes():
    text = (ROOT / "examples" / "publish" / "pages.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    steps = jobs["build"]["steps"]
    commands = [step["run"] for step in steps if "make " in step.get("run", "")]
    assert len(commands) == 2
    targets = {word for command in commands for word in command.split() if "=" not in word}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for target in targets - {"make"})
    (push,) = [step for step in steps if "git push" in step.get("run", "")]
    assert push["working-directory"] == str(publish.NOTEBOOKS)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    branch = config["repository"]["branch"]
    assert f"--initial-branch {branch}\n" in push["run"]
    assert push["run"].strip().endswith(f" {branch}")
    (upload,) = [step for step in steps if "upload-pages" in step.get("uses", "")]
    assert upload["with"]["path"] == "_build/publish"
    assert jobs["deploy"]["needs"] == "build"
    assert yaml.safe_load((ROOT / "book" / "redirects.yml").read_text(encoding="utf-8")) == {}
