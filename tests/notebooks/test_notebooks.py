"""Notebooks: each runs on tiny models, and its prose holds no number that a run did not make."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html import escape
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest

from ima import claims
from ima.bench.records import BenchRecord, write_records
from ima.claims.readings import READING_NAMES
from ima.data.folders import write_data_folder
from ima.data.samples import SampleSet, open_samples
from ima.drawings.rungs import LADDER_FOLDER, RUNGS
from ima.errors import ModelError
from ima.miniature import short_runs
from ima.models import load_model
from ima.notebook import runner
from ima.studies import ladder, model_summary
from ima.studies.short_runs import SWEEP_FOLDER, read_short_runs
from ima.systems.records import read_system_records

SOURCES = Path(__file__).parents[2] / "notebooks"
GLUED = re.compile(r"\{glue:text\}`([^`:]+)(?::[^`]*)?`")
MODELS = {
    f"{modality}-{task}": f"llama-mini/{encoder}/{modality}-{task}"
    for encoder, modality in {"vit": "image", "timesformer": "video", "ast": "audio"}.items()
    for task in ("caption", "qa")
}
# A second family, which reads the same pictures.
OTHERS = {task: f"opt-mini/vit/{task}" for task in ("image-caption", "image-qa")}
PAIRS = [*MODELS.items(), *OTHERS.items()]
CALIBRATED = ["image-caption", "audio-qa"]


def run(name, folder, /, **parameters):
    path = runner.run_notebook(
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
    from ima.capture.writer import create_cache

    folder = tmp_path_factory.mktemp("caches")
    return [
        str(
            create_cache(
                model,
                dataset=f"mini-{name}",
                samples=16,
                hook_points=["attn_out", "resid_post"],
                keep_tokens=4,
                logit_lens=8,
                predict=name.endswith("qa"),
                path=folder / f"{model.replace('/', '-')}.zarr",
                progress=False,
            )
        )
        for name, model in PAIRS
    ]


@pytest.fixture(scope="module")
def calibrated(tiny_zoo, tmp_path_factory):
    from ima.capture.writer import create_cache

    folder = tmp_path_factory.mktemp("calibration")
    return [
        str(
            create_cache(
                model,
                dataset=f"mini-{name}:calibration",
                samples=8,
                unit=2,
                hook_points=["resid_post"],
                input_norms=True,
                loss=False,
                path=folder / f"{model.replace('/', '-')}.zarr",
                progress=False,
            )
        )
        for name, model in [*((n, MODELS[n]) for n in CALIBRATED), *OTHERS.items()]
    ]


@pytest.mark.slow
def test_world_runs_on_a_zoo(tiny_zoo, tmp_path):
    known = check_page(run("world", tmp_path, shown=2, generated=1, counted=300))
    assert known["shared"] == "0"


@pytest.mark.slow
def test_caching_runs_on_a_model(tiny_zoo, tmp_path):
    parameters = {"samples": 5, "keep_tokens": 2, "out": str(tmp_path / "one.zarr")}
    notebook = run("caching", tmp_path, **parameters)
    known = check_page(notebook)
    assert known["n"] == "5"
    assert (tmp_path / "one.zarr" / "zarr.json").is_file()


@pytest.mark.slow
def test_a_readers_model_goes_from_its_folder_to_verdicts(multitask_zoo, tmp_path):
    """The gallery: own model, own data, cache, and a page through papermill with its output."""
    known = run(
        "own-model",
        tmp_path,
        model="llava-tiny",
        dataset="mini-image-caption",
        samples=10,
        folder=str(tmp_path / "own"),
    )
    assert outputs(known, "stream") == []
    shown = [output.data.get("text/markdown") for output in outputs(known, "execute_result")]
    records = claims.read_claim_records(tmp_path / "own" / "finding3.claims.json")
    assert records
    (answers,) = filter(None, shown)
    for record in records:
        assert f"{record.claim} {record.reading} is " in answers
    inner = nbformat.read(tmp_path / "own" / "executed.ipynb", as_version=4)
    assert outputs(inner, "error") == []
    assert any("image/svg+xml" in o.data for o in outputs(inner, "execute_result"))
    assert float(glued(known)["minutes"].strip("'")) < 10


@pytest.mark.slow
def test_faults_shows_each_message(tiny_zoo, tmp_path):
    notebook = run("faults", tmp_path, scratch=str(tmp_path / "faults"))
    check_page(notebook)
    shown = [output.data.get("text/plain", "") for output in outputs(notebook, "display_data")]
    messages = [text for text in shown if text.startswith("Error: ")]
    begun = [
        "Hook point 'resid_post', layer 3: NaN or infinite",
        "is not finished: 4 of 6 samples. Finish it with: ima cache create",
        "Array 'means/resid_post/mean' of",
        "Another process is writing",
        "holds another cache:",
        "was replaced or removed after it was opened",
    ]
    assert len(messages) == len(begun)
    for message, part in zip(messages, begun, strict=True):
        assert part in message
    results = [output.data["text/plain"] for output in outputs(notebook, "execute_result")]
    assert results[-3] == "True"
    assert results[-1] == "((1,), True)"


@pytest.mark.slow
def test_benchmark_runs_on_a_model_and_shows_the_last_run_of_a_day(tiny_zoo, tmp_path):
    for name, commit, ratio in (("2026-11-30", "first", 1.5), ("2026-11-30-2", "second", 2.5)):
        own = BenchRecord("write", "a store", 1.0, "s", ratio, 2.0, 7, "cpu", against="plain files")
        machine = {"device": "a processor", "cores": 2, "date": "2026-11-30", "commit": commit}
        write_records(tmp_path / "kept" / f"{name}.json", [own], machine=machine)
    given = {"samples": 2, "repeats": 1, "recorded": str(tmp_path / "kept"), "shape": "tiny"}
    known = check_page(run("benchmark", tmp_path, **given))
    assert known["recorded_commit"] == "'second'"
    assert (known["unmet"], known["limited"]) == ("1", "1")


@pytest.mark.slow
def test_the_page_on_workers_says_what_breaks_first(tmp_path):
    page = check_page(run("workers", tmp_path, samples=10_000, workers=10))
    known = {name: text.strip("'") for name, text in page.items()}
    assert known["workers"] == "10"
    parts = ("requests of the store", "tasks of the scheduler", "marks of finished units")
    for name, called in (("fast", "accelerators"), ("slow", "cores")):
        assert re.match(rf"[\d,]+ {called} (take|saturate)", known[name])
        assert any(part in known[name] for part in parts)
    assert float(known["nominal"]) >= 1


def test_caching_runs_on_part_of_the_hook_points(tiny_zoo, tmp_path):
    known = check_page(
        run(
            "caching",
            tmp_path,
            model="llama-mini/ast/audio-qa",
            dataset="mini-audio-qa",
            samples=4,
            hook_points=["mlp_post"],
            out=str(tmp_path / "two.zarr"),
        )
    )
    assert known["hook_point"] == "'mlp_post'"


@pytest.mark.slow
def test_finding1_records_what_it_prints(stores, tmp_path):
    path = tmp_path / "finding1.claims.json"
    given = {"caches": stores, "claims": str(path), "resamples": 50, "embedded": 6}
    notebook = run("finding1", tmp_path, **given)
    known = check_page(notebook)
    records = claims.read_claim_records(path)
    readings = [(claim, reading) for claim in ("F1.1", "F1.2") for reading in READING_NAMES]
    for start, family in ((0, "llama-mini (ST)"), (4, "opt-mini (ST)")):
        own = records[start : start + 4]
        assert [(entry.claim, entry.reading) for entry in own] == readings
        assert {entry.model for entry in own} == {family}
    assert len(records) == 8
    assert records[0].n == int(known["contents"]) == 48
    # All texts of one data set of captions have at least two wordings.
    assert 8 <= records[1].n <= 48
    assert records[1].verdict != "not testable here"
    shown = "".join(
        output.data.get("text/html", "") for output in outputs(notebook, "execute_result")
    )
    for entry in records[:4]:
        assert escape(entry.finding) in shown


@pytest.mark.slow
def test_finding1_says_that_a_few_samples_cannot_test_wording(tiny_zoo, tmp_path):
    from ima.capture.writer import create_cache

    cache = create_cache(
        MODELS["audio-caption"],
        dataset="mini-audio-caption",
        samples=5,
        hook_points=["resid_post"],
        keep_tokens=4,
        path=tmp_path / "few.zarr",
        progress=False,
    )
    path = tmp_path / "finding1.claims.json"
    given = {"caches": [str(cache)], "claims": str(path), "resamples": 20, "embedded": 5}
    notebook = run("finding1", tmp_path, **given)
    check_page(notebook)
    stated, tested, *_ = claims.read_claim_records(path)
    assert stated.value is not None
    assert (tested.verdict, tested.n) == ("not testable here", 0)
    assert "No data set has two wordings" in tested.reason


FINDINGS = {
    "finding1-norms": {"F1.3": 2, "F1.4": 2},
    "finding1-words": {"F1.5": 2},
    "finding3": {"F3.1": 2},
    "finding3-blocks": {"F3.3": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FINDINGS))
def test_a_finding_records_what_it_prints(stores, tmp_path, name):
    path = tmp_path / "claims.json"
    check_page(
        run(name, tmp_path, caches=stores, claims=str(path), resamples=20, **FEW.get(name, {}))
    )
    records = claims.read_claim_records(path)
    for family in ("llama-mini (ST)", "opt-mini (ST)"):
        counted = Counter(entry.claim for entry in records if entry.model == family)
        assert counted == FINDINGS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finding1-norms", "finding1-words"])
def test_a_page_says_what_one_data_set_cannot_test(stores, tmp_path, name):
    path = tmp_path / "claims.json"
    given = {"caches": stores[:1], "claims": str(path), "resamples": 20, **FEW.get(name, {})}
    check_page(run(name, tmp_path, **given))
    records = claims.read_claim_records(path)
    untested = [entry.reason for entry in records if entry.verdict == "not testable here"]
    other_texts = ["The reading compares the texts of two data sets, and there is one."]
    assert untested == (other_texts if name == "finding1-words" else [])
    assert all(entry.finding or entry.reason for entry in records)


FEW = {"finding1-norms": {"controlled": 4}, "finding3": {"neighbours": 3, "permutations": 2}}


@pytest.mark.slow
def test_the_page_for_browsers_writes_what_it_shows(tiny_zoo, tmp_path):
    from tinyexplorer import SHOWN, make_caches

    paths = [str(path) for path in make_caches(tmp_path)]
    folder = tmp_path / "explorer"
    page = run(
        "explore", tmp_path, caches=paths, out=str(folder), shown=SHOWN, mapped=["resid_post"]
    )
    known = check_page(page)
    assert known["points"] == str(4 * SHOWN)
    (entry,) = json.loads((folder / "index.json").read_text(encoding="utf-8"))["models"]
    assert entry["name"] == known["first"].strip("'")
    assert page.metadata["ima"]["parameters"]["out"] == str(folder)


@pytest.mark.slow
def test_both_readings_stand_side_by_side(stores, tmp_path):
    known = check_page(run("fixes", tmp_path, caches=stores[: len(MODELS)], calibrated=4))
    assert known["answered"] == "48"


@pytest.mark.slow
def test_subnetworks_are_compared_and_exchanged(calibrated, tmp_path):
    path = tmp_path / "claims.json"
    given = {"caches": calibrated, "claims": str(path)}
    masks = tmp_path / "masks"
    known = check_page(run("finding2", tmp_path, masks=str(masks), sequential=4, **given))
    found = [(entry.claim, entry.reading) for entry in claims.read_claim_records(path)]
    assert found == [("F2.1", "as stated"), ("F2.1", "as tested")] * 2
    assert int(known["files"]) == len(list(masks.glob("*.zarr"))) == 12
    check_page(run("finding2-transfer", tmp_path, scored=4, **given))
    records = claims.read_claim_records(path)
    found = [(entry.claim, entry.reading, entry.model) for entry in records]
    models = [f"{name} (ST)" for name in ("llama-mini", "opt-mini")]
    readings = ("as stated", "as tested")
    assert found == [("F2.2", reading, model) for model in models for reading in readings]
    assert all("mask, tasks score" in entry.finding for entry in records)


@pytest.mark.slow
def test_one_subnetwork_is_compared_repaired_and_stored(calibrated, tmp_path):
    path = tmp_path / "claims.json"
    given = {"caches": calibrated, "scored": 3, "calibration": 4}
    check_page(run("implication4", tmp_path, claims=str(path), chosen_on=2, **given))
    swept = {"swept": [0.4, 0.7], "scored_in_sweep": 2, "steps": 2}
    page = run("alpha-subnet", tmp_path, **swept, **given)
    known = check_page(page)
    for said in ("alone", "by_all", "alone_by_chance", "all_by_chance"):
        assert re.fullmatch(r"'\d+%'", known[said])
    tables = [
        output.data["text/html"]
        for output in outputs(page, "execute_result")
        if "text/html" in output.data
    ]
    repaired = [table for table in tables if "gain of the whole model" in table]
    assert len(repaired) == 1
    assert len(re.findall(r"[+-]\d\.\d+ \[[+-]\d\.\d+, [+-]\d\.\d+\]", repaired[0])) == 2
    records = claims.read_claim_records(path)
    names, readings = ("llama-mini (ST)", "opt-mini (ST)"), ("as stated", "as tested")
    assert [(one.model, one.reading) for one in records] == [
        (m, r) for m in names for r in readings
    ]
    assert {one.claim for one in records} == {"I4"}
    for one in records:
        # The captions and the questions of opt-mini are about the same pictures.
        assert one.n == (6 if one.model == "llama-mini (ST)" else 3)
        said = "the best other mask on calibration samples" in one.finding
        assert said is (one.reading == "as tested")


@pytest.mark.slow
def test_alignment_is_followed_and_controlled(stores, tmp_path):
    path = tmp_path / "claims.json"
    given = {"claims": str(path), "samples": 6, "resamples": 20}
    drawn = {"draws": 3, "drawn": 4, "fewer": {"opt-mini (ST)": 0}}
    known = check_page(run("finding3-controls", tmp_path, caches=stores, **drawn, **given))
    assert known["read"] == "'llama-mini (ST): 3 × 4; opt-mini (ST): 1 × 6'"
    records = claims.read_claim_records(path)
    both = ["as stated", "as tested"]
    assert [(entry.model, entry.reading) for entry in records] == [
        (model, reading) for model in ("llama-mini (ST)", "opt-mini (ST)") for reading in both
    ]
    assert [entry.n for entry in records if entry.reading == "as tested"] == [3, 1]
    assert {entry.verdict for entry in records[1::2]} == {"not testable here"}
    given["models"] = ["llama-mini/vit/image-caption", "llama-mini/ast/audio-caption"]
    given["models"].append("opt-mini/vit/image-caption")
    check_page(run("finding3-training", tmp_path, caches=str(tmp_path / "steps"), **given))
    # Two runs of one language model are one model.
    assert [(entry.model, entry.reading) for entry in claims.read_claim_records(path)] == [
        (model, reading) for model in ("llama-mini (ST)", "opt-mini (ST)") for reading in both
    ]


@pytest.fixture
def swept_zoo(tiny_zoo, tmp_path, monkeypatch):
    """A tiny zoo with summaries of short runs, whose scores rise with one proxy and no other."""
    root = tmp_path / "zoo"
    shutil.copytree(tiny_zoo, root)
    rng = np.random.default_rng(0)
    for at, chosen in enumerate(r for r in short_runs.SHORT_RUNS if r.encoder == "vit"):
        proxies = {name: rng.random(11) for name in model_summary.PROXIES}
        proxies[model_summary.IMA_SCORE] = np.full(11, at / 10)
        scores = {"exact_set": np.full(11, at / 20), "chair_s": np.full(11, at / 30)}
        scores["chair_i"] = rng.random(11)
        model, dataset = "opt-mini/vit/image-caption", "mini-image-caption"
        one = model_summary.ModelSummary(model, dataset, "", 9, proxies, scores)
        record = {
            "run": {"encoder": "vit"},
            "recipe": {"parts": short_runs.hash_run_parts(root, "vit")},
        }
        path = root / SWEEP_FOLDER / f"{chosen.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record | one.to_record()))
    monkeypatch.setenv("IMA_ZOO", str(root))
    return root


@pytest.mark.slow
def test_the_ladder_says_which_rungs_are_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_ZOO", str(tmp_path))
    (tmp_path / LADDER_FOLDER).mkdir()
    names = [*ladder.MEASURES, ladder.TEXT_LOSS, model_summary.VALIDATION_LOSS, "exact_set"]
    for at, rung in enumerate(RUNGS[:-1]):
        intervals = {name: [at + k, at + k - 0.5, at + k + 0.5] for k, name in enumerate(names)}
        record = {"rung": {}, "measured": {"samples": 9}, "intervals": intervals}
        (tmp_path / LADDER_FOLDER / f"{rung.name}.json").write_text(json.dumps(record))
    known = check_page(run("ladder", tmp_path))
    assert known["absent"] == f"'{RUNGS[-1].name}'"
    assert (known["rungs"], known["all_rungs"], known["models"]) == ("10", "11", "8")
    for name in ("with_pictures", "without_pictures"):
        assert known[name].startswith("'Rungs with a lower loss on captions")
        assert "have a smaller IMA score, IMA score (input), matched" in known[name]
    assert known["score_r"].startswith("'1.00, p ")


@pytest.mark.slow
def test_models_are_compared_by_alignment_and_steered(swept_zoo, tmp_path):
    path = tmp_path / "claims.json"
    shared = {"models": [f"llama-mini/{name}" for name in ("vit/image-caption", "vit/image-qa")]}
    shared |= {"claims": str(path), "caches": str(tmp_path / "proxy"), "samples": 16}
    shared |= {"resamples": 10}
    known = check_page(run("implication1", tmp_path, **shared))
    found = {(entry.model, entry.reading): entry for entry in claims.read_claim_records(path)}
    # Short runs with one encoder are eight models as stated, and one that is independent.
    stated, tested = (found["opt-mini (ST)", reading] for reading in ("as stated", "as tested"))
    assert (stated.verdict, stated.value, stated.n) == ("supported", 1.0, 8)
    assert stated.finding.startswith("Over 8 models, a higher IMA score goes with a higher task")
    assert (tested.verdict, tested.n) == ("not testable here", 1)
    steps = found["llama-mini (ST)", "as stated"]
    assert (steps.n, steps.reason) == (6, "All 6 models have the same task score, 0.000.")
    other = found["llama-mini (ST)", "as tested"]
    assert other.reason.endswith("Found: image captions: vit; image questions: vit.")
    assert len(found) == 4
    assert known["of"] == known["up"] == "1"
    given = {"steered": "llama-mini/vit/image-caption", "layer": 1, "amounts": [-1.0, 0.0, 1.0]}
    given |= {"polls": ["poll-adversarial"], "calibration": 8, "contrasted": [1.0]}
    known = check_page(run("implication2", tmp_path, **shared, **given))
    found = {(entry.model, entry.reading): entry for entry in claims.read_claim_records(path)}
    assert found["opt-mini (ST)", "as stated"].verdict == "contradicted"
    assert found["llama-mini (ST)", "as stated"].n == 3
    assert len(found) == 4
    assert "move toward text" in known["conclusion"]
    assert known["apart_of"] == "1"


def answered(folder, model, task="qa"):
    """Write a data set whose references are what a model says, so that it scores."""
    given = list(open_samples(f"mini-image-{task}", n=12))
    said = load_model(model).generate(given)
    told = [
        replace(one, references=(text or "x",), truth={}, content=one.content_key)
        for one, text in zip(given, said, strict=True)
    ]
    write_data_folder(SampleSet("answered", "test", tuple(told)), folder)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for line in lines[8:]:
        line["split"] = "calibration"
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


@pytest.mark.usefixtures("multitask_zoo")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "retrained", "tasks"),
    [
        ("llama-mini/vit/image-qa", "", ["qa"]),
        ("llava-tiny", "llava-tiny-skipping", ["qa", "caption"]),
    ],
)
def test_models_leave_computation_out(tmp_path, name, retrained, tasks):
    path = tmp_path / "claims.json"
    sets = [answered(tmp_path / task, name, task) for task in tasks]
    given = {"models": [name], "single": ["opt-mini/vit/image-qa"], "large": [], "scored": 8}
    given |= {"datasets": sets, "start": 1}
    check_page(run("implication3", tmp_path, claims=str(path), **given))
    stated, tested = claims.read_claim_records(path)
    assert [(one.claim, one.reading) for one in (stated, tested)] == [
        ("I3", "as stated"),
        ("I3", "as tested"),
    ]
    # Questions and captions are about the same pictures.
    assert (stated.n, stated.null) == (8, 0.9)
    assert f"average over {len(sets)} data sets" in stated.finding or len(sets) == 1
    if "caption" in tasks:
        assert tested.n == 8
        assert ("can tell" in tested.finding) is (tested.verdict != "not testable here")
        assert ("cannot tell" in tested.reason) is (tested.verdict == "not testable here")
    else:
        assert (tested.verdict, tested.value) == ("not testable here", None)
        assert tested.reason == "None of the data sets has captions."
    # The other model answers nothing as it should: no fraction of its score is defined.
    (missing,) = claims.read_unmeasurable_claims([path])
    assert "scores 0 on" in missing.reason
    given = {"model": name, "retrained": retrained, "datasets": sets, "samples": 8, "searched": 4}
    given |= {"start": 1, "after_layer": 1, "layers": [1, 2], "starts": [1, 3], "repeats": 1}
    record = tmp_path / "token-reduction.systems.json"
    given |= {"systems": str(record), "ratios": [0.5, 1.0]}
    known = check_page(run("token-reduction", tmp_path, **given))
    recorded = {(own.system, own.dataset): own for own in read_system_records(record)}
    on_map = {"skipping", "vtw"} | ({"image-text"} if name == "llava-tiny" else set())
    assert recorded.keys() == {(system, data) for system in on_map for data in sets}
    assert all(own.cost.value <= 1 and own.score.n == 8 for own in recorded.values())
    # Few samples are never certain, not even where none changes.
    assert all(own.promised.low < own.promised.high for own in recorded.values())
    check_page(run("systems", tmp_path, records=[str(record)]))
    assert known["layers"] == "3"
    assert ("before" in known["returned"]) is bool(retrained)
    assert 0 <= int(known["good_count"]) <= int(known["plan_count"])


@pytest.mark.usefixtures("multitask_zoo")
@pytest.mark.slow
def test_demonstrations_leave_their_images(tmp_path):
    record = tmp_path / "demonstrations.systems.json"
    given = {"model": "llava-tiny", "samples": 4, "shots": 2, "systems": str(record)}
    known = check_page(run("demonstrations", tmp_path, **given))
    (own,) = read_system_records(record)
    assert own.cost.value < 1
    assert (own.alignment.n, own.outcome) == (4, "undecided")
    assert (known["depth"], known["layers"]) == ("2", "3")
    assert "n = 4" in known["words"]
    assert "lies above 0: exact answers with states" in known["promise"]
    assert known["promise"].rstrip("'\"").endswith("n = 4 episodes: undecided.")


@pytest.mark.usefixtures("browsing_zoo")
@pytest.mark.slow
def test_pictures_are_read_twice(tmp_path):
    record = tmp_path / "browse.systems.json"
    given = {"samples": {"two-pass": 12}, "aligned": 12, "resamples": 10, "systems": str(record)}
    notebook = run("browse", tmp_path, **given)
    known = check_page(notebook)
    (own,) = read_system_records(record)
    assert 1.5 < own.cost.value < 2.5
    assert own.score == own.promised
    assert own.model == "llama-mini/vit/image-qa"
    assert own.setting.startswith("3 queries")
    assert known["samples"] == "'12 with llama-mini/vit/image-qa'"
    assert "n = 12 (llama-mini/vit/image-qa)" in known["gain"]
    assert "With llama-mini/vit/image-qa we found" in known["promise"]
    assert re.search(r"All hold with llama|Not shown with llama.*: ", known["failed"])
    tables = [o.data.get("text/html", "") for o in outputs(notebook, "execute_result")]
    (described,) = [own for own in tables if "second pass" in own and "different" in own]
    assert described.count("standardised") == 6


@pytest.mark.usefixtures("codes_zoo")
@pytest.mark.slow
def test_pictures_are_words_of_the_vocabulary(tmp_path):
    record = tmp_path / "teal.systems.json"
    given = {"codebooks": ["teal-8", "teal-16"], "reader": "opt-mini/vit/image-caption"}
    given |= {"samples": 6, "lensed": 4, "aligned": 6, "resamples": 10, "systems": str(record)}
    known = check_page(run("teal", tmp_path, **given))
    (own,) = read_system_records(record)
    assert 0.9 < own.cost.value < 1.1
    assert own.score == own.promised
    assert "n = 6" in known["answer"]
    assert "With 16 codes" in known["answer"]
    assert known["sizes"] == "'8, 16'"
    assert "Not shown here: " in known["failed"] or "All hold here" in known["failed"]


@pytest.mark.usefixtures("unified_zoo")
@pytest.mark.slow
def test_one_connector_reads_six_modalities(tmp_path):
    record = tmp_path / "onellm.systems.json"
    given = {"samples": {"shared": 6}, "aligned": 6, "resamples": 10, "permutations": 19}
    notebook = run("onellm", tmp_path, **given, systems=str(record))
    known = check_page(notebook)
    (own,) = read_system_records(record)
    assert own.cost.value > 1
    # Random separate connectors do not read their samples, so that nothing can be lost.
    assert (own.promised, own.outcome) == (None, "not measured")
    # Pictures and their views show the same scenes, as clips and traces do.
    assert own.alignment.n == 18
    assert (own.model, own.dataset) == ("llama-mini", "6 modalities")
    assert own.setting.startswith("3 shared experts")
    assert known["samples"] == known["aligned"] == "'6 with llama-mini'"
    assert "n = 6 (llama-mini)" in known["gain"]
    assert "lies above -0.05: mean score over modalities" in known["promise"]
    assert own.reasons["promised"] in known["promise"]
    assert re.search(r"All hold with llama|Not shown with llama.*: ", known["failed"])
    assert "n = 18 tokens) with llama-mini" in known["routers"]
    assert "of 15 are more similar" in known["pairs"]
    tables = [o.data.get("text/html", "") for o in outputs(notebook, "execute_result")]
    (views,) = [own for own in tables if "a sample is" in own]
    assert views.count("no colours") == 2


@pytest.mark.slow
def test_parts_of_a_picture_are_highlighted(tmp_path):
    """On a model that recognises its objects: random weights name nothing that could switch."""
    given = {"models": {"llava-mini-3": "mini"}, "samples": {"llava-mini-3": 4}}
    given |= {"searched": {"llava-mini-3": 6}, "betas": [1.0, 5.0], "gammas": [2.0]}
    record = tmp_path / "highlight.systems.json"
    given |= {"systems": str(record), "resamples": 20}
    known = check_page(run("highlight", tmp_path, **given, alphas=[0.01]))
    (own,) = read_system_records(record)
    assert own.cost.value == pytest.approx(2, abs=0.1)
    assert own.promised.n == 4
    assert "n = 4 (found among 6 pictures)" in known["answer"]
    assert "lies above 0.8: captions that name the marked object first" in known["promise"]
    assert known["searched"] == "'6 for llava-mini-3'"
    assert known["counted"] == "'switched captions: 4, definite questions: 4'"
    assert known["aligned"].count("llava-mini-3, β = ") == 2


def test_language_models_are_compared_on_texts_alone(tmp_path, multitask_zoo):
    record = tmp_path / "sight.systems.json"
    given = {"languages": ["llama-mini"], "texts": 4, "permutations": 2, "resamples": 20}
    known = check_page(run("sight", tmp_path, **given, systems=str(record)))
    # Its zoo has no tuned arm.
    assert read_system_records(record) == []
    assert known["answer"].endswith("differ by exactly zero in every score: 1 of 1.'")
    assert "No model of this edition has a tuned language model." in known["answer"]
    assert known["promise"].rstrip("'\"").endswith("This edition has no model to measure it on.")
    assert "No tuned arm of llama-mini is in the zoo" in known["untuned"]
    assert known["passages"] == "'4 for llama-mini'"


def test_short_runs_of_other_weights_are_refused(swept_zoo):
    changed = next((swept_zoo / SWEEP_FOLDER).iterdir())
    record = json.loads(changed.read_text())
    record["recipe"]["parts"]["encoder"] = "0"
    changed.write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"another language model or encoder.*ima zoo sweep"):
        read_short_runs()


PAGES = sorted(path.stem for path in SOURCES.glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
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
        # What a sample says is never markup: a table's own format forgets the theme's escaping.
        for call in re.findall(r"\.format\((?:precision|\)|\").*", cell.source):
            assert "style" not in cell.source or 'escape="html"' in call, call
    comments = [
        parameter.comment for parameter in runner.read_notebook_parameters(SOURCES / f"{name}.md")
    ]
    assert comments
    assert all(comments)


@pytest.mark.parametrize("name", PAGES)
def test_figures_that_are_pointed_at_exist(name):
    text = (SOURCES / f"{name}.md").read_text(encoding="utf-8")
    names = re.findall(r"^    name: (fig-\S+)$", text, flags=re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(re.findall(r"\{numref\}`([^`]+)`", text)) <= set(names)
