"""The workflow: what a result depends on, found from the sources themselves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cache
import contents
import headlines
import missing
import plan
import pytest
import sources
import yaml

from ima.cache.store import locate_store, lock_store
from ima.data.folder_check import check_data_folder
from ima.errors import CacheLockedError, NotebookError
from ima.notebook.reachable_code import list_imported_modules
from ima.notebook.runner import read_notebook_parameters

ROOT = Path(__file__).parents[1]
CELL = "# Page\n\n```{{code-cell}} ipython3\n:tags: [hide-input]\n\n{code}\n```\n"


@pytest.fixture
def package(tmp_path):
    """A package of which each module imports the next, one of them late and one never."""
    modules = {
        "__init__": "",
        "first": "from ima import second\n",
        "second": "def late():\n    from ima.deep.third import name\n    return name\n",
        "deep/__init__": "",
        "deep/third": "import numpy\nname = 1\n",
        "apart": "",
    }
    for name, text in modules.items():
        path = tmp_path / "ima" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def reached(package, code):
    page = package / "page.md"
    page.write_text(CELL.format(code=code), encoding="utf-8")
    found = sources.notebook_modules(page, root=package)
    return {path.relative_to(package / "ima").as_posix() for path in found}


@pytest.mark.parametrize(
    "code",
    [
        "from ima.first import x",
        "import ima.first as f  # why",
        "from ima import (\n    first,\n)",
        "import numpy\nfrom ima import first",
    ],
)
def test_a_notebook_depends_on_what_it_can_reach(package, code):
    everything = {"__init__.py", "first.py", "second.py", "deep/__init__.py", "deep/third.py"}
    assert reached(package, code) == everything


def test_prose_and_other_modules_do_not_count(package):
    assert reached(package, "x = 1") == set()
    page = package / "page.md"
    page.write_text("from ima import first\n\n" + CELL.format(code="from ima import apart"))
    before = sources.notebook_code(page, root=package)
    page.write_text("Other prose.\n\n" + CELL.format(code="from ima import apart"))
    (package / "ima" / "first.py").write_text("changed = True\n", encoding="utf-8")
    assert sources.notebook_code(page, root=package) == before
    (package / "ima" / "apart.py").write_text("changed = True\n", encoding="utf-8")
    assert sources.notebook_code(page, root=package) != before


def test_docstrings_comments_and_layout_do_not_count(package):
    page = package / "page.md"
    page.write_text(CELL.format(code="from ima import first"))
    second = package / "ima" / "second.py"

    def digest(text):
        second.write_text(text, encoding="utf-8")
        return sources.notebook_code(page, root=package)

    before = digest("def late():\n    return 1\n")
    assert (
        digest('"""Now documented."""\n\n# Why.\ndef late():\n    """Return."""\n    return 1\n')
        == before
    )
    assert digest("def late():\n    return 2\n") != before


def notebook_rooms(name):
    modules = sources.notebook_modules(ROOT / "notebooks" / f"{name}.md")
    return {path.relative_to(ROOT / "ima").parts[0].removesuffix(".py") for path in modules}


@pytest.fixture
def checkout(tmp_path):
    """The package and its notebooks, to plant changes in."""
    shutil.copytree(ROOT / "ima", tmp_path / "ima", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def digests(root):
    list_imported_modules.cache_clear()
    pages = sorted(root.joinpath("notebooks").glob("*.md"))
    found = {page.stem: sources.notebook_code(page, root=root) for page in pages}
    return found | {
        "a cache": sources.capture_code(root=root),
        "a world": sources.worlds(root=root),
    }


@pytest.fixture(scope="module")
def before():
    """The digests of this repository; those of an unchanged copy are the same."""
    return digests(ROOT)


@pytest.fixture
def find_reruns(checkout, before):
    """Change a module of the copy; return what runs again."""

    def change(module, text):
        path = checkout / "ima" / module
        path.write_text(text(path.read_text(encoding="utf-8")), encoding="utf-8")
        return {name for name, digest in digests(checkout).items() if digest != before[name]}

    return change


def test_a_changed_docstring_reruns_nothing(find_reruns):
    module = "pruning/masks.py"
    assert find_reruns(module, lambda text: text.replace('"""', '"""Another word. ', 1)) == set()
    assert find_reruns(module, lambda text: f"{text}# A comment.\n") == set()


def test_a_change_in_pruning_reruns_neither_findings_1_and_3_nor_caches(find_reruns):
    rerun = find_reruns("pruning/masks.py", lambda text: f"{text}\nPLANTED = 1\n")
    assert {"finding2", "finding2-transfer", "implication4", "alpha-subnet"} <= rerun
    assert not {name for name in rerun if name.startswith(("finding1", "finding3"))}
    assert not {"a cache", "a world"} & rerun


def test_a_change_of_a_method_reruns_the_pages_that_find_it_by_its_file(find_reruns):
    module = "token_reduction/methods/first.py"
    rerun = find_reruns(module, lambda text: f"{text}\nPLANTED = 1\n")
    assert {"implication3", "token-reduction"} <= rerun
    assert not {"a cache", "finding1", "finding2"} & rerun


def test_a_change_of_a_figure_keeps_the_caches(find_reruns):
    rerun = find_reruns("figures/style.py", lambda text: f"{text}\nPLANTED = 1\n")
    assert {"finding1", "caching"} <= rerun
    assert not {"a cache", "a world"} & rerun


def test_a_change_of_a_world_remakes_its_samples_and_keeps_the_findings(find_reruns):
    rerun = find_reruns("miniature/scenes.py", lambda text: f"{text}\nPLANTED = 1\n")
    assert "a world" in rerun
    assert not {"a cache", "finding1", "finding3"} & rerun


def test_findings_do_not_depend_on_the_command_line():
    for name in ("world", "caching", "finding1"):
        rooms = notebook_rooms(name)
        assert "errors" in rooms
        assert "cli" not in rooms


def test_a_zoo_without_models_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="make zoo"):
        sources.weights(tmp_path, model="llama-mini/vit/image-caption")
    with pytest.raises(SystemExit, match="make zoo"):
        sources.weights(tmp_path)


def test_a_run_depends_on_the_numbers_that_it_reads(tmp_path):
    table, summary = tmp_path / "data" / "rates" / "a.json", tmp_path / "zoo" / "sweep" / "b.json"
    for path in (table, summary):
        path.parent.mkdir(parents=True)
        path.write_text("1", encoding="utf-8")

    def read(**run):
        return sources.read_files(run, zoo=tmp_path / "zoo", root=tmp_path)

    assert read() == ""
    before = read(tables=["data/rates"]), read(summaries=["sweep"])
    table.write_text("2", encoding="utf-8")
    after = read(tables=["data/rates"]), read(summaries=["sweep"])
    assert before[0] != after[0]
    assert before[1] == after[1]
    summary.write_text("2", encoding="utf-8")
    assert read(summaries=["sweep"]) != before[1]


def test_the_page_of_error_rates_reads_what_its_parameter_names():
    declared = read_notebook_parameters(ROOT / "notebooks" / "error-rates.md")
    (parameter,) = [each for each in declared if each.name == "table"]
    folders = configured()["runs"]["error-rates"]["tables"]
    assert Path(parameter.default).parent.as_posix() in folders
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_a_touch_counts(tmp_path):
    page = tmp_path / "page.md"
    page.touch()
    before = sources.touched(page)
    os.utime(page, ns=(1, 1))
    assert sources.touched(page) != before


@pytest.fixture
def making(tmp_path, monkeypatch):
    """Make a pretended cache; the notebook notes whether it found an older one."""
    store = tmp_path / "made.zarr"
    log = []

    def run(source, *, output, parameters):
        log.append(sorted(path.name for path in store.glob("*")))
        store.mkdir(exist_ok=True)
        (store / "data").write_text(str(parameters["samples"]), encoding="utf-8")
        if parameters["samples"] < 0:
            message = "stopped"
            raise NotebookError(message)

    monkeypatch.setattr(cache.runner, "run_notebook", run)

    def make(samples=3, code="a"):
        cache.make(
            notebook=tmp_path / "page.md",
            page=tmp_path / "page.ipynb",
            stamp=tmp_path / "made.json",
            parameters={"samples": samples, "out": str(store)},
            code=code,
        )
        return (tmp_path / "made.json").read_bytes()

    make.log, make.store = log, store
    make.stamp = tmp_path / "made.json"
    return make


def test_a_cache_looked_at_again_keeps_its_stamp(making):
    assert making() == making()
    assert making.log == [[], ["data"]]
    assert len(json.loads(making.stamp.read_text(encoding="utf-8"))["sha256"]) == 64


def test_a_cache_of_other_code_or_settings_is_made_anew(making):
    first = making()
    assert making(code="b") == first  # other code, same bytes: nothing that reads it runs again
    assert making(samples=4) != first
    assert making.log == [[], [], []]


def test_a_cache_that_another_build_writes_is_not_removed(making):
    first = making()
    with (
        lock_store(locate_store(str(making.store))),
        pytest.raises(CacheLockedError, match="Another process is writing"),
    ):
        making(samples=4)
    assert (making.store / "data").read_text(encoding="utf-8") == "3"
    # Nor does this build take for its own what the other one goes on with.
    assert making() == first


def test_a_stopped_cache_is_continued_and_leaves_no_stamp(making):
    for _ in range(2):
        with pytest.raises(NotebookError):
            making(samples=-1)
    assert making.log == [[], ["data"]]
    assert not making.stamp.exists()


def own_folder(path, *splits):
    path.mkdir(parents=True)
    lines = [json.dumps({"id": str(i), "split": split}) for i, split in enumerate(splits)]
    (path / "samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path


def configured(**given):
    settings = yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text(encoding="utf-8"))
    return plan.complete({**settings, "size": "small", **given})


def test_a_readers_model_is_a_family_beside_the_others(tmp_path):
    data = own_folder(tmp_path / "mine", *["test"] * 5, *["calibration"] * 3)
    config = configured(own_model="org/model", own_data=str(data), own_device="cuda")
    made = plan.caches(config)
    own = made["own-mine"]
    assert (own["model"], own["dataset"], own["device"]) == ("org/model", str(data), "cuda")
    assert (own["samples"], own["keep_tokens"], own["logit_lens"]) == (5, 5, 5)
    assert own["out"] == "data/caches/small/org-model--mine.zarr"
    calibration = made["calibration-own-mine"]
    assert calibration["dataset"] == f"{data}:calibration"
    assert (calibration["samples"], calibration["unit"]) == (3, 3)
    assert calibration["out"] == "data/caches/small/org-model--mine-calibration.zarr"
    assert plan.chosen(config, "finding1")[-1] == "own-mine"
    assert plan.chosen(config, "finding2")[-1] == "calibration-own-mine"


def test_pages_that_run_a_readers_model_run_it_on_its_device(tmp_path):
    data = own_folder(tmp_path / "mine", "test", "calibration")
    given = {"own_model": "org/model", "own_data": str(data)}
    for device, expected in (("cuda:1", {"cuda:1"}), ("auto", {None}), ("", {None})):
        config = configured(**given, own_device=device)
        for run in ("finding1-norms", "finding3", "finding3-controls"):
            assert {plan.parameters(config, run).get("device")} == expected
    config = configured(**given, own_device="cuda")
    # They run no model, take no device, or open no cache of the reader's model.
    for run in ("finding1", "finding2", "implication4", "cosine"):
        assert "device" not in plan.parameters(config, run)


def test_without_calibration_samples_there_is_no_cache_of_them(tmp_path):
    data = own_folder(tmp_path / "mine", "test")
    config = configured(own_model="m", own_data=f"{data},mini-image-qa", own_samples="1")
    assert "calibration-own-mine" not in plan.caches(config)
    assert plan.caches(config)["own-mine"]["samples"] == 1
    assert plan.caches(config)["calibration-own-mini-image-qa"]["samples"] == 1


def test_the_example_folder_is_a_family_with_usable_samples(monkeypatch):
    example = ROOT / "examples" / "own-model"
    given = yaml.safe_load((example / "models.yaml").read_text(encoding="utf-8"))
    settings = yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text(encoding="utf-8"))
    for name, entries in given.items():
        settings[name] |= entries
    monkeypatch.chdir(ROOT)
    made = plan.caches(plan.complete({**settings, "size": "small"}))
    assert {"my-model-pictures", "calibration-my-model-pictures"} <= set(made)
    lines, problems = check_data_folder(example / "pictures")
    assert (len(lines), problems) == (24, [])
    assert made["my-model-pictures"]["out"] in (example / "README.md").read_text(encoding="utf-8")
    model = made["my-model-pictures"]["model"]
    assert (ROOT / "data" / "zoo" / "multitask" / model / "card.json").is_file()


def test_data_sets_of_one_name_are_refused(tmp_path):
    first, second = (own_folder(tmp_path / side / "caps", "test") for side in "ab")
    with pytest.raises(SystemExit, match=r"have the name caps: .*a/caps and .*b/caps"):
        configured(own_model="m", own_data=f"{first},{second}")
    folder = own_folder(tmp_path / "image-qa", "test")
    with pytest.raises(SystemExit, match="have the name image-qa"):
        configured(own_model="m", own_data=str(folder))
    assert configured(own_model="m", own_data=f"{first},{first}")["data"]["caps"] == str(first)


def test_any_character_may_stand_in_a_readers_samples(tmp_path):
    data = own_folder(tmp_path / "mine", "test")
    file = data / "samples.jsonl"
    record = {**json.loads(file.read_text().splitlines()[0]), "prompt": "one\u2028two\u0085three"}
    file.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8-sig")
    made = plan.caches(configured(own_model="m", own_data=str(data)))
    assert made["own-mine"]["samples"] == 1


def test_half_of_what_is_needed_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="MODEL is given and DATA is not"):
        configured(own_model="m")
    with pytest.raises(SystemExit, match="DATA is given and MODEL is not"):
        configured(own_data="m")
    with pytest.raises(SystemExit, match=r"holds no samples\.jsonl"):
        plan.caches(configured(own_model="m", own_data=str(tmp_path)))


def test_other_weights_or_samples_make_another_cache(tmp_path):
    data = own_folder(tmp_path / "mine", "test")
    before = sources.samples(str(data))
    assert sources.samples("mini-image-qa") == ""
    assert sources.samples(f"{data}:calibration") == before
    (data / "more.png").touch()
    assert sources.samples(str(data)) != before
    assert sources.weights(tmp_path, model=str(data)) != before
    assert sources.weights(tmp_path, model="org/a") != sources.weights(tmp_path, model="org/b")


def test_an_edition_can_leave_a_cache_of_a_family_to_larger_ones():
    family = {"caches": {"image-qa": "a", "image-caption": "b"}, "larger": {"image-qa": "standard"}}
    for size, expected in (("small", {"b"}), ("standard", {"a", "b"}), ("full", {"a", "b"})):
        made = plan.caches(configured(families={"one": family}, size=size))
        assert {values["model"] for values in made.values()} == expected


def test_the_caches_of_large_models_are_those_that_begin_first():
    for size in ("small", "standard"):
        settings = configured(size=size)
        large, made = plan.large_caches(settings), plan.caches(settings)
        assert large == {name for name, values in made.items() if "smollm2" in values["model"]}
        assert 0 < len(large) < len(made)


def test_an_edition_can_leave_a_family_to_the_others():
    small = plan.chosen(configured(), "implication4")
    standard = plan.chosen(configured(size="standard"), "implication4")
    assert small == ["calibration-llava-mini-3-image-caption", "calibration-llava-mini-3-image-qa"]
    assert set(small) < set(standard)
    assert standard[0] == "calibration-llama-mini-image-caption"
    own = configured(own_model="org/model", own_data="mini-image-qa")
    assert plan.chosen(own, "implication4")[-1] == "calibration-own-mini-image-qa"
    paths = plan.parameters(configured(), "implication4")["caches"]
    assert len(paths) == 2
    for size in ("small", "standard", "full"):
        config = configured(size=size)
        opened = {run: plan.chosen(config, run) for run in config["runs"]}
        assert all(set(names) <= set(plan.caches(config)) for names in opened.values())
        assert opened["finding3-training"] == []


def test_what_needs_parts_that_are_not_fetched_is_left_out_and_named(monkeypatch):
    families = {
        "real": {"parts": ["smollm2", "dinov2"], "caches": {"image-qa": "smollm2/dinov2/image-qa"}},
        "mini": {"caches": {"image-qa": "llama-mini/vit/image-qa"}},
    }
    monkeypatch.setattr(plan, "is_fetched", lambda part: part.name not in {"dinov2", "drawings"})
    config = configured(families=families)
    assert list(plan.families(config)) == ["mini"]
    assert plan.missing_parts(config) == {"real": ["dinov2"]}
    assert plan.missing_runs({"runs": {"page": {"parts": ["drawings"]}, "other": {}}}) == {
        "page": ["drawings"]
    }
    assert "drawings" not in config["runs"]
    own = config["runs"]["own-model"]["otherwise"]
    assert own.items() <= plan.parameters(config, "own-model").items()
    pages = [
        part["chapters"]
        for part in contents.read_contents(shown="a", without=["drawings"])["parts"]
    ]
    assert {"file": "book/runs/drawings"} not in pages[0]
    assert {"file": "book/runs/caching-a"} in pages[0]
    notice = missing.make_notice({"real": ["dinov2"], "drawings": ["drawings"]})
    assert "`real`, `drawings`" in notice
    assert "dinov2, drawings. Run `ima models fetch`" in notice
    monkeypatch.setattr(plan, "is_fetched", lambda part: True)
    config = configured(families=families)
    assert list(plan.families(config)) == ["real", "mini"]
    assert not own.keys() & plan.parameters(config, "own-model").keys()
    assert "drawings" in configured()["runs"]
    assert missing.make_notice({}) == ""


@pytest.mark.parametrize("size", plan.SIZES)
@pytest.mark.parametrize(
    ("run", "folder", "parameter"),
    [
        ("browse", "browsing", "models"),
        ("teal", "codes", "codebooks"),
        ("onellm", "onellm", "models"),
    ],
)
def test_pages_of_trained_systems_name_models_of_both_zoos(
    monkeypatch, run, folder, parameter, size
):
    for fetched in (False, True):
        monkeypatch.setattr(plan, "is_fetched", lambda part, fetched=fetched: fetched)
        given = plan.parameters(configured(size=size), run)
        assert given[parameter].keys() <= given["samples"].keys()
        named = [*given[parameter]]
        for others in given[parameter].values():
            named += [others] if isinstance(others, str) else others
        has_real_models = any(name.startswith("smollm2") for name in named)
        assert has_real_models == (fetched and size != "small")
        for name in named:
            assert (ROOT / "data" / "zoo" / folder / name / "card.json").is_file()


def test_the_front_page_says_what_pages_found(tmp_path):
    def write(name, *outputs):
        cells = [{"cell_type": "markdown", "source": ["(label)=\n", f"# Page {name}\n", "Text"]}]
        cells += [{"cell_type": "code", "source": [], "outputs": list(outputs)}]
        path = tmp_path / f"{name}.ipynb"
        path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
        return path

    def glue(name, text):
        data = {"application/papermill.record/text/plain": repr(text)}
        return {"metadata": {"scrapbook": {"name": name}}, "data": data}

    silent = write("a", glue("samples", "3"))
    assert headlines.make_section([silent]) == ""
    loud = write("b", {"output_type": "stream", "text": ""}, glue("headline", "It's 0.5."))
    section = headlines.make_section([silent, loud])
    assert section.splitlines() == [
        "One result to remember:",
        "",
        "- [Page b](runs/b.ipynb): It's 0.5.",
    ]


def test_a_cache_of_a_connector_between_parts_depends_on_all_their_digests(tmp_path):
    folder = tmp_path / "connectors" / "language" / "encoder" / "image-caption"
    folder.mkdir(parents=True)
    card = {"kind": "trained", "sha256": "1", "parts": {"language": "2", "encoder": "3"}}
    digests = set()
    for changes in ({}, {"sha256": "4"}, {"parts": {"language": "2", "encoder": "4"}}):
        (folder / "card.json").write_text(json.dumps({**card, **changes}), encoding="utf-8")
        digests.add(sources.weights(tmp_path, model="language/encoder/image-caption"))
    assert len(digests) == 3
