"""A zoo in the making: what is made again, what is kept, and what is delivered."""

import pytest
import torch

from ima.data.samples import open_samples
from ima.errors import ModelError, ParameterError, UnknownNameError
from ima.files import read_json, write_json
from ima.miniature import connectors, encoders, language_model, short_runs
from ima.miniature.workshop import REDUCED_ZOO_PLAN, ZooPart, ZooWorkshop
from ima.miniature.zoo import choose_parts, make_zoo_parts, train_zoo
from ima.models import list_models, load_model
from ima.models.zoo import hash_state_dict, make_checkpoint_path
from ima.studies.model_summary import PROXIES
from ima.studies.short_runs import read_short_runs, train_short_runs

PART = "encoders/vit"


def test_a_part_of_another_recipe_is_made_again(tmp_path):
    workshop = ZooWorkshop(tmp_path, REDUCED_ZOO_PLAN)
    assert not workshop.is_done(PART, {"steps": 1})
    workshop.finish_part(PART, {"recipe": {"steps": 1}})
    assert workshop.is_done(PART, {"steps": 1})
    assert not workshop.is_done(PART, {"steps": 2})
    assert not workshop.get_part_folder(PART).exists()


def test_a_checkpoint_of_another_recipe_is_dropped(tmp_path):
    workshop = ZooWorkshop(tmp_path, REDUCED_ZOO_PLAN)
    workshop.is_done(PART, {"steps": 1})
    workshop.get_checkpoint_path(PART).write_bytes(b"half")
    assert not workshop.is_done(PART, {"steps": 1})
    assert workshop.get_checkpoint_path(PART).exists()
    workshop.is_done(PART, {"steps": 2})
    assert not workshop.get_checkpoint_path(PART).exists()


def test_weights_kept_on_the_way_survive_a_kill(tmp_path):
    workshop = ZooWorkshop(tmp_path, REDUCED_ZOO_PLAN)
    workshop.is_done(PART, {"steps": 1})
    kept = make_checkpoint_path(workshop.get_part_folder(PART), 1)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"early")
    assert not workshop.is_done(PART, {"steps": 1})
    assert kept.exists()
    assert not workshop.is_done(PART, {"steps": 2})
    assert not kept.exists()


@pytest.mark.parametrize("keep", [True, False])
def test_parts_of_the_present_zoo_are_kept_only_when_asked(tmp_path, keep):
    write_json(tmp_path / PART / "card.json", {"recipe": {"steps": 1}})
    workshop = ZooWorkshop(tmp_path, REDUCED_ZOO_PLAN, keep=keep)
    assert workshop.is_done(PART, {"steps": 1}) is keep
    assert not workshop.is_done(PART, {"steps": 2})


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_delivered_leaves_other_parts_alone_unless_it_is_all(tmp_path, whole):
    write_json(tmp_path / PART / "card.json", {"recipe": "old"})
    write_json(tmp_path / "encoders/other/card.json", {"recipe": "other"})
    workshop = ZooWorkshop(tmp_path, REDUCED_ZOO_PLAN)
    assert not workshop.is_done(PART, {"steps": 1})
    workshop.finish_part(PART, {"recipe": {"steps": 1}})
    workshop.replace_old_parts([PART], whole=whole)
    assert read_json(tmp_path / PART / "card.json") == {"recipe": {"steps": 1}}
    assert (tmp_path / "encoders/other").exists() is not whole
    assert not workshop.place.exists()


def part(name, **needs):
    return ZooPart(name, {}, lambda recipe: {}, needs=needs)


def test_chosen_parts_come_with_what_they_need():
    parts = [part("a"), part("b", x="a"), part("c", x="b"), part("d")]
    assert [p.name for p in choose_parts(parts, ["c"])] == ["a", "b", "c"]
    assert [p.name for p in choose_parts(parts, ["[ad]"])] == ["a", "d"]
    assert choose_parts(parts, []) == parts
    with pytest.raises(UnknownNameError, match="Unknown part 'e'"):
        choose_parts(parts, ["a", "e"])


def test_every_part_stands_behind_what_it_needs(tmp_path):
    parts = make_zoo_parts(ZooWorkshop(tmp_path, REDUCED_ZOO_PLAN))
    seen = set()
    for one in parts:
        assert set(one.needs.values()) <= seen, one.name
        seen.add(one.name)
    assert len(seen) == len(parts)
    for objective in encoders.PRETRAINING_OBJECTIVES:
        of = {spec.name for spec in encoders.MINI_ENCODERS.values() if spec.objective == objective}
        assert {encoders.MINI_ENCODERS[name].modality for name in of} == {"image", "video", "audio"}
        for language in language_model.MINI_LANGUAGE_MODELS:
            tasks = [name for name in seen if name.startswith(f"connectors/{language}/")]
            found = sum(name.split("/")[2] in of for name in tasks)
            assert found == (6 if language == "opt-mini" or objective == "supervised" else 0)


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="device must be 'cpu' or 'cuda'; got 'tpu'"):
        train_zoo(root=tmp_path, reduced=True, device="tpu")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_reduced_zoo_trains_and_loads(tmp_path, monkeypatch):
    root = tmp_path / "zoo"
    train_zoo(root=root, reduced=True, device="cpu")
    monkeypatch.setenv("IMA_ZOO", str(root))
    records = list_models()
    supervised = [s for s in encoders.MINI_ENCODERS.values() if s.objective == "supervised"]
    assert (
        len(records)
        == len(language_model.MINI_LANGUAGE_MODELS)
        + 2 * (len(encoders.MINI_ENCODERS) + len(supervised))
        + 4
    )
    assert all(record["scores"] and record["floors"] for record in records)
    model = load_model("llama-mini/ast/audio-qa")
    assert len(model.generate(open_samples("mini-audio-qa", n=2), max_new_tokens=3)) == 2
    assert not (root / ".training").exists()
    kept = next(r["checkpoints"] for r in records if r["name"] == "llama-mini/ast/audio-qa")
    assert kept[0] == 0
    assert len(kept) > len(connectors.CHECKPOINT_RATIOS["qa"])
    hashes = {load_model(f"llama-mini/ast/audio-qa@{step}").weights_hash for step in kept}
    assert len(hashes) == len(kept)
    load_model("opt-mini/mae/image-caption")
    first, second = (load_model(f"llava-mini-{variant}") for variant in (1, 2))
    assert first.weights_hash != second.weights_hash
    tuned, frozen = (m.language.model.language_model.state_dict() for m in (first, second))
    assert not all(torch.equal(tuned[name], frozen[name]) for name in frozen)
    assert len({load_model(f"llava-mini-4@{step}").weights_hash for step in (0, 1, 4)}) == 3
    state = hash_state_dict(load_model("llama-mini").language.state_dict())
    cards = [
        card
        for pattern in ("connectors/llama-mini/*/*", "multitask/*", "skipping/*")
        for card in root.glob(f"{pattern}/card.json")
    ]
    assert {read_json(card)["language_state"] for card in cards} == {state}
    swept = train_short_runs(
        runs=short_runs.SHORT_RUNS[:2], plan=REDUCED_ZOO_PLAN, samples=16, resamples=10
    )
    found = read_short_runs()
    assert list(found) == sorted(run.name for run in short_runs.SHORT_RUNS[:2])
    first_run = found[short_runs.SHORT_RUNS[0].name]
    assert first_run.samples == 16
    assert set(first_run.proxies) == set(PROXIES)
    assert {"exact_set", "chair_s"} <= set(first_run.scores)
    assert first_run.model == "opt-mini/vit/image-caption"
    before = {path: path.read_bytes() for path in swept.iterdir()}
    # What is there is not made again.
    train_short_runs(
        runs=short_runs.SHORT_RUNS[:2], plan=REDUCED_ZOO_PLAN, samples=16, resamples=10
    )
    assert {path: path.read_bytes() for path in swept.iterdir()} == before
    altered = root / "connectors/llama-mini/ast/audio-qa/checkpoints"
    next(altered.iterdir()).write_bytes(b"")
    with pytest.raises(ModelError, match="differ from their card"):
        [load_model(f"llama-mini/ast/audio-qa@{step}") for step in kept]
