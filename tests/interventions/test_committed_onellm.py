"""OneLLM on the committed models: what the authors promise, where it holds here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ima.interventions import unified_effects as effects
from ima.measures.modality_alignment import align_modalities, compare_modalities
from ima.measures.router_weights import compare_routers
from ima.miniature.materials import load_zoo_language_model
from ima.miniature.views import MODALITY_NAMES, open_scene_samples
from ima.models.unified import load_unified_model, read_kept_router_weights
from ima.models.universal_connector import count_weights, read_router_weights
from ima.models.zoo import get_zoo_root, hash_state_dict

pytestmark = [pytest.mark.usefixtures("committed_zoo"), pytest.mark.slow, pytest.mark.timeout(1800)]
#: As on the page: samples that are captioned, and those whose states are compared.
_N_SAMPLES, _N_ALIGNED = 300, 120
#: What the committed models do not show; the page says the same. Found after the one training that
#: the recipe describes, which was then left as it was.
_NOT_SHOWN = {
    "one scene is more alike in two modalities with one connector",
    # Seven of fifteen pairs are more similar, and eight less.
    "modalities are more similar with one connector",
}


@pytest.fixture(scope="module")
def models(committed_zoo):
    return {arm: load_unified_model(arm) for arm in effects.ARM_NAMES}


@pytest.fixture(scope="module")
def samples():
    return {name: open_scene_samples(name, "test", n=_N_SAMPLES) for name in MODALITY_NAMES}


@pytest.fixture(scope="module")
def judged(models, samples):
    scores = {arm: effects.score_modalities(model, samples) for arm, model in models.items()}
    first = {name: own[:_N_ALIGNED] for name, own in samples.items()}
    means = {arm: effects.capture_modalities(model, first)["raw"] for arm, model in models.items()}
    return effects.judge_statements(
        scores,
        similarity={arm: compare_modalities(own, resamples=500) for arm, own in means.items()},
        matched={arm: align_modalities(own, resamples=500) for arm, own in means.items()},
        routers=compare_routers(read_kept_router_weights("shared")["weight"]),
    ).set_index("statement")


def test_what_the_authors_promise_holds_where_the_page_says_so(judged):
    not_shown = set(judged.index[~judged["holds"]])
    assert not_shown == _NOT_SHOWN, judged["measured"].to_dict()


def test_the_language_model_is_bit_for_bit_what_it_was(models):
    language, _ = load_zoo_language_model(get_zoo_root() / "language/llama-mini")
    digest = hash_state_dict(language.state_dict())
    plain = language.model.state_dict()
    for model in models.values():
        assert model.card["language_state"] == digest
        own = model.base.hook_points.trunk.state_dict()
        assert all(torch.equal(own[name], plain[name]) for name in plain)


def test_every_modality_has_equally_many_tokens_in_both_arms(models, samples):
    for model in models.values():
        for name, own in samples.items():
            batch = model.open(name).encode(own[:4])
            assert (batch.modality > 0).sum(dim=1).tolist() == [10] * 4


def test_both_arms_have_equally_many_weights_and_saw_the_same(models):
    shared, separate = models.values()
    sizes = [count_weights(model.connector) for model in models.values()]
    assert sizes == [model.card["parameters"] for model in models.values()]
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]
    assert shared.card["data"] == separate.card["data"]
    differing = {
        key for key, value in shared.card["recipe"].items() if separate.card["recipe"][key] != value
    }
    assert differing == {"shared"}


def test_routers_differ_beyond_a_permutation_null(models):
    kept = read_kept_router_weights("shared")["weight"]
    np.testing.assert_allclose(
        kept, read_router_weights(models["shared"].connector)["weight"], atol=1e-5
    )
    found = compare_routers(kept)
    assert found.p < 0.05
    assert found.share > found.null_high
