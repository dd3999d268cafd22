"""Notebooks: each runs on tiny models, and its prose holds no number that a run did not make."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from ima import claims, notebooks

SOURCES = Path(__file__).parents[2] / "notebooks"
GLUED = re.compile(r"\{glue:text\}`([^`:]+)(?::[^`]*)?`")
MODELS = {
    f"{modality}-{task}": f"llama-mini/{encoder}/{modality}-{task}"
    for encoder, modality in {"vit": "image", "timesformer": "video", "ast": "audio"}.items()
    for task in ("caption", "qa")
}


def run(name, folder, **parameters):
    path = notebooks.run(
        SOURCES / f"{name}.md", output=folder / f"{name}.ipynb", parameters=parameters
    )
    return nbformat.read(path, as_version=4)


def outputs(notebook, kind):
    return [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == kind
    ]


def glued(notebook):
    """Return what the run keeps for the prose."""
    return {
        output.metadata.scrapbook.name: output.data.get("application/papermill.record/text/plain")
        for output in outputs(notebook, "display_data")
        if "scrapbook" in output.metadata
    }


def check_page(notebook):
    """Check that a page has all its numbers and figures, and nothing on standard error."""
    assert outputs(notebook, "stream") == []
    known = glued(notebook)
    for cell in notebook.cells:
        texts = [cell.source] if cell.cell_type == "markdown" else []
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            texts.append(figure["caption"])
            shown = [o for o in cell.outputs if "image/svg+xml" in o.get("data", {})]
            assert len(shown) == 1, cell.source
        missing = {key for text in texts for key in GLUED.findall(text)} - known.keys()
        assert not missing
    return known


@pytest.fixture(scope="module")
def stores(tiny_zoo, tmp_path_factory):
    from ima import cache

    folder = tmp_path_factory.mktemp("caches")
    return [
        str(
            cache.create(
                model,
                dataset=f"mini-{name}",
                samples=12,
                taps=["resid_post"],
                path=folder / f"{name}.zarr",
                progress=False,
            )
        )
        for name, model in MODELS.items()
    ]


@pytest.mark.slow
def test_world_runs_on_a_zoo(tiny_zoo, tmp_path):
    known = check_page(run("world", tmp_path, shown=2, generated=1, counted=300))
    assert known["shared"] == "0"


def test_caching_runs_on_a_model(tiny_zoo, tmp_path):
    parameters = {"samples": 5, "keep_tokens": 2, "out": str(tmp_path / "one.zarr")}
    notebook = run("caching", tmp_path, **parameters)
    known = check_page(notebook)
    assert known["n"] == "5"
    assert (tmp_path / "one.zarr" / "zarr.json").is_file()


def test_caching_runs_on_part_of_the_taps(tiny_zoo, tmp_path):
    known = check_page(
        run(
            "caching",
            tmp_path,
            model="llama-mini/ast/audio-qa",
            dataset="mini-audio-qa",
            samples=4,
            taps=["fc1"],
            out=str(tmp_path / "two.zarr"),
        )
    )
    assert known["tap"] == "'fc1'"


@pytest.mark.slow
def test_finding1_records_what_it_prints(stores, tmp_path):
    path = tmp_path / "finding1.claims.json"
    notebook = run(
        "finding1",
        tmp_path,
        caches=stores,
        claims=str(path),
        resamples=50,
        permutations=1,
        embedded=6,
    )
    known = check_page(notebook)
    records = claims.read(path)
    assert [entry.claim for entry in records] == ["F1.1", "F1.2", "F1.2"]
    assert {entry.model for entry in records} == {"llama-mini (ST)"}
    assert records[0].n == int(known["contents"]) == 36
    verdicts = [known[key] for key in ("f11_verdict", "f12_verdict", "f12_cluster_verdict")]
    assert verdicts == [repr(entry.verdict) for entry in records]
    assert known["f11_result"] == repr(claims.sentence(records[0]))


@pytest.mark.parametrize("name", ["world", "caching", "finding1"])
def test_sources_follow_the_house_rules(name):
    notebook = jupytext.read(SOURCES / f"{name}.md")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", "", cell.source, flags=re.DOTALL)
            prose = re.sub(r"\b[FI]\d\.\d\b", "", prose)
            assert not re.search(r"\d\.\d", prose), f"a number typed by hand: {prose}"
            continue
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) < 15, cell.source
        if "figures." in cell.source and "theme" not in cell.source:
            figure, image = (cell.metadata["mystnb"][key] for key in ("figure", "image"))
            assert len(figure["caption"]) > 20
            assert len(image["alt"]) > 20
    comments = [parameter.comment for parameter in notebooks.parameters(SOURCES / f"{name}.md")]
    assert comments
    assert all(comments)


@pytest.mark.parametrize("name", ["world", "finding1"])
def test_figures_that_are_pointed_at_exist(name):
    text = (SOURCES / f"{name}.md").read_text(encoding="utf-8")
    names = re.findall(r"^    name: (fig-\S+)$", text, flags=re.MULTILINE)
    assert len(names) == len(set(names)) > 0
    assert set(re.findall(r"\{numref\}`([^`]+)`", text)) <= set(names)
