"""Notebooks that readers take from the site and run, and the buttons of Binder and Colab."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import launch
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from ima.notebook import runner
from ima.notebook.kernels import CurrentPythonKernelManager
from ima.notebook.parameters import parse_parameter_cell

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
GITHUB = "https://github.com/name/ima"
# A page that opens caches with the package; a cache set has a name that its output shows.
PAGE = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A page

```{code-cell} ipython3
:tags: [parameters]

caches: list[str] = ["data/none.zarr"]  # finished caches
claims: str = "data/a.claims.json"  # claim records
```

```{code-cell} ipython3
import ima
from ima.cache.cache_set import open_cache_sets

ima.__file__, list(open_cache_sets(caches))
```
"""


def wrap(source, **own):
    """Return an unexecuted notebook as the runner would leave it."""
    notebook = dict(runner._read_notebook_source(source))
    notebook["metadata"] = {"ima": {"commit": "abc1234-dirty", "parameters": {}, **own}}
    return notebook


def make(notebook, *, address="", edition="small"):
    return launch.make_download(notebook, page="page", address=address, edition=edition)


def read_code(notebook):
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_installs_the_package_first_and_then_looks_for_its_caches(path):
    made = make(wrap(path), address=GITHUB)
    nbformat.validate(nbformat.from_dict({**made, "nbformat": 4, "nbformat_minor": 5}))
    install, *rest = read_code(made)
    assert install == f'%pip install --quiet "ima[models,book] @ git+{GITHUB}@abc1234"'
    for code in rest:
        ast.parse(code)
    tagged = [c for c in made["cells"] if "parameters" in c["metadata"].get("tags", [])]
    declared = parse_parameter_cell("".join(tagged[0]["source"]))
    assert declared == runner.read_notebook_parameters(path)
    lists = [each for each in declared if launch._lists_caches(each.default)]
    checks = [code for code in rest if "missing = [" in code]
    assert len(checks) == bool(lists)
    assert all(name.name in checks[0] for name in lists)


def test_the_parameters_of_the_run_stand_in_one_cell():
    path = ROOT / "notebooks" / "finding3.md"
    stores = [f"data/caches/small/a-long-name-of-a-model-and-a-data-set-{n}.zarr" for n in range(3)]
    values = {"caches": stores, "resamples": 100, "claims": "book/runs/finding3.claims.json"}
    notebook = wrap(path, parameters=values)
    injected = {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "x=1"}
    notebook["cells"].insert(2, injected)
    made = make(notebook)
    tagged = [c for c in made["cells"] if c["metadata"].get("tags") == ["parameters"]]
    declared = {each.name: each for each in parse_parameter_cell("".join(tagged[0]["source"]))}
    assert declared["caches"].default == stores
    assert declared["resamples"].default == 100
    # Records of a reader's run do not take the place of the book's.
    assert declared["claims"].default == "page.claims.json"
    assert all(each.comment for each in declared.values())
    assert "x=1" not in read_code(made)


def test_without_an_address_the_package_comes_from_a_clone():
    made = make(wrap(ROOT / "notebooks" / "finding1.md"))
    assert read_code(made)[0] == '%pip install --quiet --editable ".[models,book]"'
    note = "".join(made["cells"][0]["source"])
    assert "the site names no address" in note
    assert "wheel" in note


def test_an_address_that_pip_cannot_open_is_refused(monkeypatch):
    monkeypatch.delenv(launch.REPOSITORY_VARIABLE, raising=False)
    assert launch.read_repository("") == launch.read_repository(None) == ""
    assert launch.read_repository(f"{GITHUB}.git/") == GITHUB
    monkeypatch.setenv(launch.REPOSITORY_VARIABLE, "git@github.com:name/ima.git")
    with pytest.raises(SystemExit, match="begins with https://"):
        launch.read_repository(GITHUB)


@pytest.fixture(scope="module")
def executed(finished, tmp_path_factory):
    """A page that was run on a tiny cache."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.md").write_text(PAGE, encoding="utf-8")
    return runner.run_notebook(
        folder / "page.md", output=folder / "page.ipynb", parameters={"caches": [str(finished)]}
    )


# The glossary links pages that are not here, hence --keep-going. One process builds all sites.
BUILD = f"""
import json, os, sys
from jupyter_book.cli.main import main

for address, folder in json.loads(sys.argv[1]).items():
    os.environ[{launch.REPOSITORY_VARIABLE!r}] = address
    main(["build", folder, "-W", "--keep-going", "--all"], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def sites(executed, tmp_path_factory):
    """Strict sites of the front page and one notebook, with the book's own settings, by address."""

    def write_sources():
        folder = tmp_path_factory.mktemp("site")
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        local = config["sphinx"]["local_extensions"]
        config["sphinx"]["local_extensions"] = {name: str(ROOT / "workflow") for name in local}
        contents = {"format": "jb-book", "root": "book/index"}
        contents["chapters"] = [
            {"file": name} for name in ("book/runs/page", "book/glossary", "book/downloads")
        ]
        for name in ("_static", "_root"):
            shutil.copytree(ROOT / "book" / name, folder / "book" / name)
        for name in ("references.bib", "glossary.md"):
            shutil.copyfile(ROOT / "book" / name, folder / "book" / name)
        (folder / "book" / "runs").mkdir()
        shutil.copyfile(executed, folder / "book" / "runs" / "page.ipynb")
        texts = {
            "_config.yml": yaml.safe_dump(config, allow_unicode=True),
            "_toc.yml": yaml.safe_dump(contents, sort_keys=False),
            "book/index.md": "# Front\n",
            "book/downloads.md": "# Downloads\n",
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder

    folders = {address: write_sources() for address in ("", GITHUB)}
    made = subprocess.run(
        [sys.executable, "-c", BUILD, json.dumps({a: str(own) for a, own in folders.items()})],
        env={**os.environ, "IMA_EDITION": "small"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return {address: folder / "_build" / "html" for address, folder in folders.items()}


def read_page(site, name):
    path = site / "book" / name
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_buttons_are_there_where_an_address_is(sites):
    links = {
        address: [a["href"] for a in read_page(site, "runs/page.html").find_all("a", href=True)]
        for address, site in sites.items()
    }
    opened = "notebooks?urlpath=lab/tree/book/runs/page.ipynb"
    binder = f"https://mybinder.org/v2/gh/name/ima/{opened}"
    colab = "https://colab.research.google.com/github/name/ima/blob/notebooks/book/runs/page.ipynb"
    assert {binder, colab} <= set(links[GITHUB])
    remote = [link for link in links[""] if "binder" in link or "colab" in link]
    assert remote == []
    # A page without cells has nothing to launch.
    text = str(read_page(sites[GITHUB], "glossary.html"))
    assert "mybinder" not in text


def test_a_page_with_buttons_loads_nothing_from_elsewhere(sites):
    for site in sites.values():
        for path in site.rglob("*.html"):
            soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            loaded = [tag.get("src") for tag in soup.find_all(["script", "img", "iframe"])]
            loaded += [tag.get("href") for tag in soup.find_all("link", rel="stylesheet")]
            assert [url for url in loaded if url and re.match(r"(https?:)?//", url)] == []


def test_other_hosts_have_the_buttons_that_they_can():
    given = {"repository_url": "", "launch_buttons": {"binderhub_url": "b", "colab_url": "c"}}
    for address, expected in {
        "https://gitlab.com/name/ima": {"launch_buttons": {"binderhub_url": "b"}},
        "https://code.example.org/name/ima": {
            "launch_buttons": {"binderhub_url": "b"},
            "repository_provider": "gitlab",
        },
    }.items():
        chosen = launch.choose_theme_options(given, address=address)
        assert chosen == {"repository_url": address, **expected}
    assert launch.choose_theme_options(given, address="file:///ima") == {}


def read_download(site):
    """Return the notebook that the page of a site offers."""
    page = site / "book" / "runs" / "page.html"
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    offered = {
        (page.parent / link["href"]).resolve()
        for link in soup.find_all("a", href=re.compile(r"_sources/.*\.ipynb$"))
    }
    (path,) = offered  # the theme's button and the last section offer the same file
    return nbformat.read(path, as_version=4)


def execute(notebook, folder):
    client = NotebookClient(
        notebook,
        kernel_manager_class=CurrentPythonKernelManager,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return notebook


def test_a_notebook_without_its_caches_says_which_command_makes_them(sites, tmp_path):
    notebook = read_download(sites[""])
    for cell in notebook.cells:
        cell.source = cell.source.replace("%pip install", "#")
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = 'caches = ["data/caches/small/a.zarr"]'
    with pytest.raises(CellExecutionError) as caught:
        execute(notebook, tmp_path)
    (error,) = [o for c in notebook.cells for o in c.get("outputs", []) if o.get("ename")]
    assert error["ename"] == "SystemExit"
    assert f"Not in {tmp_path}: data/caches/small/a.zarr. Make them" in error["evalue"]
    made = "in a clone of the repository: SMALL=1 make book. Then run this notebook in the clone's"
    assert made in error["evalue"]
    # Plain words: no way through our code is shown.
    assert "open_cache_sets" not in str(caught.value)


def test_a_notebook_finds_caches_beside_it(sites, finished, tmp_path):
    notebook = read_download(sites[""])
    shutil.copytree(finished, tmp_path / "data" / "tiny.zarr")
    for cell in notebook.cells:
        cell.source = cell.source.replace("%pip install", "#")
        cell.source = cell.source.replace(str(finished), "data/tiny.zarr")
    shown = execute(notebook, tmp_path).cells[-1].outputs[-1]["data"]["text/plain"]
    assert "llama-mini (ST)" in shown


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone to install from")
def test_the_line_for_pip_installs_the_package_that_the_notebook_uses(
    executed, finished, tmp_path, monkeypatch
):
    """The line of a site whose repository is this clone, without the packages that are here."""
    (tmp_path / "installed").mkdir()  # Python looks only into folders that were there first
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "installed"))
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    # The page lies in no repository; the clone's newest commit is taken.
    notebook["metadata"]["ima"]["commit"] = runner.get_commit(ROOT)
    made = make(notebook, address=f"file://localhost{ROOT}")
    path = tmp_path / "page.ipynb"
    path.write_text(json.dumps(made), encoding="utf-8")
    done = execute(nbformat.read(path, as_version=4), tmp_path)
    shown = done.cells[-1].outputs[-1]["data"]["text/plain"]
    assert str(tmp_path / "installed" / "ima") in shown
    assert "llama-mini (ST)" in shown
