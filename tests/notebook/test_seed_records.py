"""Pages run on connectors that were trained again, and the zoo keeps what they record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import plan
import pytest
import yaml
from tinyhub import save_parts

from ima import claims
from ima.cache.cache_set import open_cache_sets
from ima.claims import seeds
from ima.drawings import zoo as recipes
from ima.errors import CacheDifferentError, ParameterError, UnknownNameError
from ima.models import zoo
from ima.notebook import seed_records
from ima.notebook.runner import read_notebook_parameters
from ima.stats.intervals import Interval
from ima.studies import retrained
from ima.studies.retrained import Retraining
from ima.training import train_connector

ROOT = Path(__file__).parents[2]
IMAGE, AUDIO = "drawings-image-caption", "sounds-audio-caption"
#: Parameters that change no value, or only figures.
SHOWN_ONLY = {"resamples", "paired", "embedded", "sequential"}


@pytest.fixture
def pages_run(tmp_path, monkeypatch):
    """Seeds are not trained, and a page records a value that depends on its caches."""
    monkeypatch.setattr(zoo, "get_zoo_root", lambda: tmp_path)
    for model in seed_records.SEEDED_MODELS.values():
        card = tmp_path / "connectors" / model / zoo.CARD_FILE
        card.parent.mkdir(parents=True)
        recipe = retrained.make_recipe(Retraining("seed 0", seed=0, model=model))
        card.write_text(json.dumps({"recipe": recipe}), encoding="utf-8")
    runs: list[tuple[str, list[str]]] = []

    def run(source, *, output, parameters):
        assert parameters["other_seeds"] is False
        names = [Path(path).name.removesuffix("-findings.zarr") for path in parameters["caches"]]
        runs.append((source.stem, names))
        value = 0.3 + sum("seed-0" not in name for name in names) / 10
        dataset = ", ".join(sorted(name.split("-", 2)[2].removeprefix("1-") for name in names))
        given = {"model": "smollm2 (ST)", "dataset": dataset}
        interval = Interval(value, value - 0.1, value + 0.1, n=64)
        records = [
            claims.make_claim_record("F3.1", "as stated", interval=interval, **given),
            claims.make_untestable_record("F3.1", "as tested", n=0, **given),
        ]
        claims.write_claim_records(records, parameters["claims"])

    monkeypatch.setattr(seed_records, "run_notebook", run)
    monkeypatch.setattr("ima.capture.writer.create_cache", lambda *_, **__: None)
    monkeypatch.setattr(seed_records, "open_cache_set", lambda paths: None)
    monkeypatch.setattr(seed_records, "_read_weights", lambda path: path.name)
    monkeypatch.setattr(seed_records, "retrain_connector", lambda **_: None)
    trained = tmp_path / ".training" / "retrained"
    monkeypatch.setattr(
        seed_records, "train_again", lambda one: trained / one.name.replace(" ", "-")
    )
    one_page = tuple(page for page in seed_records.SEEDED_PAGES if page.name == "finding3")
    monkeypatch.setattr(seed_records, "SEEDED_PAGES", one_page)
    return runs


def measure(**given):
    return seed_records.measure_seeds(repository=ROOT, **given)


def test_the_zoos_own_connector_has_one_name():
    assert retrained.OWN.name == seeds.FIRST_SEED


def test_one_connector_is_replaced_among_the_data_sets_of_each_edition(pages_run):
    measure(only=["seed 0", "seed 1"])
    first, second = pages_run[:2], pages_run[2:]
    assert [len(names) for _, names in first] == [2, 4]
    assert all(name.startswith("seed-0") for _, names in first for name in names)
    replaced = [[name for name in names if "seed-0" not in name] for _, names in second]
    assert replaced == [[f"seed-1-{IMAGE}"]] * 2
    kept = {one.name: one for one in seeds.list_seed_records()}
    assert list(kept) == ["seed 0", "seed 1"]
    assert [one.value for one in kept["seed 1"].measurements] == pytest.approx([0.4, 0.4])
    assert {len(one.dataset.split(", ")) for one in kept["seed 1"].measurements} == {2, 4}
    assert kept["seed 1"].recipes[IMAGE]["seed"] == 1


def test_a_connector_that_an_edition_lacks_is_measured_among_the_others(pages_run):
    measure(only=["video seed 1"])
    assert [len(names) for _, names in pages_run] == [4]


def test_what_is_measured_is_not_repeated_unless_a_reading_changes(pages_run, monkeypatch):
    measure(only=["seed 1"])
    times = len(pages_run)
    measure(only=["seed 1"])
    assert len(pages_run) == times
    path = seeds.get_seed_path("seed 1")
    record = json.loads(path.read_text(encoding="utf-8"))
    record["measurements"][0]["version"] = "01234567"
    path.write_text(json.dumps(record), encoding="utf-8")
    measure(only=["seed 1"])
    assert len(pages_run) == 2 * times
    changed = {"findings": {**seed_records.CACHE_SETTINGS["findings"], "samples": 8}}
    monkeypatch.setattr(seed_records, "CACHE_SETTINGS", changed)
    measure(only=["seed 1"])
    assert len(pages_run) == 3 * times
    assert seeds.read_seed_records(path).samples == 8


def test_pages_share_caches_and_only_those_of_other_weights_are_replaced(pages_run, monkeypatch):
    asked = []

    def create(model, *, path, overwrite=False, **_):
        asked.append((path.name, overwrite))
        if path.name.startswith("seed-1") and not overwrite:
            message = "It is of other weights."
            raise CacheDifferentError(message)

    monkeypatch.setattr("ima.capture.writer.create_cache", create)
    measure(only=["seed 1"])
    assert {name for name, overwrite in asked if overwrite} == {f"seed-1-{IMAGE}-findings.zarr"}
    kept = [name for name, overwrite in asked if not overwrite and name.startswith("seed-0")]
    assert len(kept) == 4
    assert kept.count(f"seed-0-{AUDIO}-findings.zarr") == 2


def test_a_connector_of_permuted_pictures_is_no_seed(pages_run):
    measure(only=["permuted"])
    assert pages_run == []


def test_what_is_missing_is_said_before_anything_is_trained(tmp_path, pages_run):
    with pytest.raises(UnknownNameError, match="Did you mean 'seed 1'"):
        measure(only=["seed_1"])
    with pytest.raises(UnknownNameError, match="Did you mean 'finding3'"):
        measure(pages=["finding33"])
    with pytest.raises(ParameterError, match="run this in a clone of the repository"):
        seed_records.measure_seeds(repository=tmp_path)


def is_part(own, whole):
    """Return whether a value is the edition's, or of lists and mappings a part of it."""
    if isinstance(whole, dict):
        return own.items() <= whole.items()
    return set(own) <= set(whole) if isinstance(whole, list) else own == whole


def test_seeds_are_measured_as_the_standard_edition_measures():
    config = plan.complete(yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text()))
    for kind, settings in seed_records.CACHE_SETTINGS.items():
        sizes = config["sizes"]["standard"][kind]
        assert {**settings, **sizes} == dict(settings)
    family = config["families"]["smollm2"]
    assert dict(seed_records.SEEDED_MODELS) == {
        config["data"][name]: model for name, model in family["caches"].items()
    }
    small = [name for name in family["caches"] if name not in family["larger"]]
    assert (
        tuple(config["data"][name] for name in small),
        tuple(seed_records.SEEDED_MODELS),
    ) == seed_records.SEEDED_SETS
    runs = config["runs"]
    for page in seed_records.SEEDED_PAGES:
        declared = {
            one.name: one.default
            for one in read_notebook_parameters(ROOT / "notebooks" / f"{page.name}.md")
        }
        asked = {**declared, **runs[page.name].get("parameters", {})}
        for name, value in asked.items():
            if name not in SHOWN_ONLY | {"caches", "claims", "masks", "other_seeds"}:
                own = page.parameters.get(name, declared[name])
                assert is_part(own, value), (page.name, name)
        assert declared["other_seeds"] is True
        assert runs[page.name]["summaries"] == ["retrained/records"]
    models = {one.model for one in retrained.RETRAININGS}
    assert models < set(seed_records.SEEDED_MODELS.values())


@pytest.fixture
def tiny_zoo_of_two_seeds(tmp_path, monkeypatch):
    """A zoo with one tiny connector, and its training with another seed."""
    save_parts(tmp_path)
    recipe = {
        "language": str(tmp_path / "language"),
        "encoder": str(tmp_path / "vit"),
        "data": "mini-image-caption",
        "samples": 16,
        "epochs": 1,
        "batch_size": 8,
        "width": 16,
        "feed_forward": 16,
        "word_steps": 2,
        "checkpoints": 0,
        "device": "cpu",
    }
    model = "tiny/vit/image-caption"
    monkeypatch.setattr(recipes, "PRETRAINED_RECIPES", {model: recipe})
    monkeypatch.setenv("IMA_ZOO", str(tmp_path / "zoo"))
    root = tmp_path / "zoo"
    settings = recipes.make_training_settings(
        model, out=tmp_path / "first", features=root / ".training" / "features"
    )
    folder = root / "connectors" / model
    recipes._move_model(Path(train_connector(settings)), folder, name=model)
    again = (Retraining("seed 1", seed=1, model=model),)
    monkeypatch.setattr(seed_records, "RETRAININGS", again)
    monkeypatch.setattr(seed_records, "retrain_connector", lambda **_: None)
    monkeypatch.setattr(seed_records, "SEEDED_MODELS", {"mini-image-caption": model})
    monkeypatch.setattr(seed_records, "SEEDED_SETS", (("mini-image-caption",),))
    few = {"samples": 12, "keep_tokens": 4, "loss": False}
    monkeypatch.setattr(seed_records, "CACHE_SETTINGS", {"findings": few})
    page = next(page for page in seed_records.SEEDED_PAGES if page.name == "finding3-blocks")
    page = replace(page, parameters={"resamples": 20})
    monkeypatch.setattr(seed_records, "SEEDED_PAGES", (page,))
    return SimpleNamespace(root=root, page=page)


@pytest.mark.slow
def test_a_page_runs_on_both_seeds_and_its_records_cover_them(tiny_zoo_of_two_seeds, tmp_path):
    root = tiny_zoo_of_two_seeds.root
    measure()
    first, second = seeds.list_seed_records()
    assert (first.name, second.name) == ("seed 0", "seed 1")
    assert first.weights != second.weights
    caches = sorted((root / ".training" / "retrained" / "caches").glob("*/seed-0-*.zarr"))
    cache_sets = open_cache_sets(caches)
    (record,) = cache_sets
    written = root / ".training" / "retrained" / "runs" / "seed-0-1-finding3-blocks.claims.json"
    own = claims.read_claim_records(written)
    assert {one.model for one in own} == {record}
    covered = claims.cover_seeds(own, cache_sets)
    measured = [one for one in covered if one.spread]
    assert measured
    for one in measured:
        assert one.seeds == 2
        assert one.spread.by_part["mini-image-caption"][0] == one.spread.value
        assert one.spread.lowest < one.spread.highest
