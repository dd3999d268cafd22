"""`ima train`: options that contradict each other are refused before anything is read."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("option", "given"), [("language", "llama-mini"), ("encoder", "vit")])
def test_a_pair_and_another_part_are_refused(run_ima, tmp_path, option, given):
    out = tmp_path / "out"
    code, _, err = run_ima(
        *("train", "--pair", "opt-6.7b/clip", f"--{option}", given),
        *("--data", "mini-image-caption", "--out", out),
    )
    assert code == 1
    assert f"--pair opt-6.7b/clip sets --{option}" in err
    assert f"--{option} {given} is given" in err
    assert not out.exists()
