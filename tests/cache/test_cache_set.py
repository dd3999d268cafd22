"""Cache sets: caches of one language model opened together; other caches are refused."""

from __future__ import annotations

import pytest

from ima.cache.cache_set import open_cache_set, open_cache_sets
from ima.cache.reader import open_cache
from ima.data.samples import open_samples
from ima.errors import CacheError, ParameterError, UnknownNameError
from ima.measures import cones, labelled_states


@pytest.fixture(scope="module")
def stores(tiny_zoo, tmp_path_factory):
    from ima.capture.writer import create_cache

    folder = tmp_path_factory.mktemp("caches")
    made = {}
    for model in ("vit/image-caption", "vit/image-qa", "ast/audio-caption"):
        name = model.split("/")[1]
        made[name] = create_cache(
            f"llama-mini/{model}",
            dataset=f"mini-{name}",
            samples=6,
            hook_points=["attn_out", "resid_post"],
            path=folder / f"{name}.zarr",
            progress=False,
        )
    return made


def test_members_and_means_agree(stores):
    cache_set = open_cache_set(list(stores.values()))
    assert cache_set.name == "llama-mini (ST)"
    assert list(cache_set.means) == ["mini-image-caption", "mini-image-qa", "mini-audio-caption"]
    assert list(cache_set.members["modality"]) == ["image", "image", "audio"]
    assert cache_set.tasks["mini-image-qa"] == "qa"
    assert cache_set.layers == [0, 1, 2, 3]
    assert (cache_set.members["perceptual"] > 0).all()
    means = cache_set.means["mini-image-qa"]
    assert means.dims == ("sample", "kind", "layer", "hidden")


def test_the_text_of_a_sample_is_the_reference_that_the_model_reads(stores):
    texts = open_cache_set([stores["image-caption"]]).list_references()
    asked = open_samples("mini-image-caption", n=6)
    assert texts == {"mini-image-caption": [sample.references[0] for sample in asked]}
    assert all(len(sample.references) > 1 for sample in asked)


def test_texts_are_what_the_model_reads(stores):
    texts = open_cache_set(list(stores.values())).list_texts()
    for name, own in texts.items():
        samples = open_samples(name, n=6)
        assert own == [f"{sample.prompt} {sample.references[0]}" for sample in samples]


def test_one_picture_is_one_content_in_both_tasks(stores):
    cache_set = open_cache_set(list(stores.values()))
    listed = labelled_states.list_labelled_states(
        cache_set.means, modalities=cache_set.modalities, tasks=cache_set.tasks
    )
    assert listed["content"].nunique() == 12
    terms = cones.compute_similarity_terms(cache_set.means, resamples=3)
    assert terms.attrs["samples"] == 12


def test_the_first_of_each_modality_can_be_selected(stores):
    whole = open_cache_set(list(stores.values()))
    first = whole.select_first_per_modality()
    assert list(first.modalities.values()) == list(dict.fromkeys(whole.modalities.values()))
    assert list(first.means) == list(first.trees) == list(first.members.index)


def test_another_tap_begins_at_layer_one(stores):
    assert open_cache_set([stores["image-qa"]], hook_point="attn_out").layers == [1, 2, 3]


def test_a_hook_point_that_was_not_cached_is_named(stores):
    with pytest.raises(
        UnknownNameError, match=r"Unknown hook point 'mlp_post'.*attn_out, resid_post.*made without"
    ):
        open_cache_set([stores["image-qa"]], hook_point="mlp_post")


def test_no_caches_are_refused():
    with pytest.raises(ParameterError, match="ima cache create"):
        open_cache_set([])


def test_a_missing_cache_is_named(tmp_path):
    with pytest.raises(CacheError, match="nowhere"):
        open_cache_set([tmp_path / "nowhere.zarr"])


def test_the_same_cache_twice_is_refused(stores):
    with pytest.raises(ParameterError, match="given twice"):
        open_cache_set([stores["image-qa"], stores["image-qa"]])


def test_two_language_models_are_refused(stores, monkeypatch):
    def renamed(path):
        tree = open_cache(path)
        if "audio" in str(path):
            tree.attrs["model"] = {**tree.attrs["model"], "name": "opt-mini/ast/audio-caption"}
        return tree

    monkeypatch.setattr("ima.cache.cache_set.open_cache", renamed)
    with pytest.raises(ParameterError, match=r"of 2 language.*llama-mini \(ST\), opt-mini \(ST\)"):
        open_cache_set(list(stores.values()))


def test_caches_are_grouped_by_language_model_and_setup(stores, monkeypatch):
    def renamed(path):
        tree = open_cache(path)
        if "audio" in str(path):
            tree.attrs["model"] = {**tree.attrs["model"], "name": "opt-mini/ast/audio-caption"}
        return tree

    monkeypatch.setattr("ima.cache.cache_set.open_cache", renamed)
    found = open_cache_sets(list(stores.values()))
    assert list(found) == ["llama-mini (ST)", "opt-mini (ST)"]
    assert list(found["llama-mini (ST)"].means) == ["mini-image-caption", "mini-image-qa"]
    with pytest.raises(ParameterError, match="No caches given"):
        open_cache_sets([])
    path = stores["image-qa"]
    with pytest.raises(ParameterError, match=r"A cache is given twice: .*image-qa\.zarr"):
        open_cache_sets([path, path])


def test_arrays_of_all_caches_know_which_contents_they_share(stores):
    cache_set = open_cache_set(list(stores.values()))
    norms = cache_set.read_arrays("norms/resid_post/median")
    assert list(norms) == list(cache_set.means)
    assert norms["mini-image-qa"].dims == ("sample", "kind", "layer")
    ids = [norms[name]["id"].values.tolist() for name in norms]
    assert ids[0] == ids[1] != ids[2]
    with pytest.raises(CacheError, match=r"holds no /logit_lens\. It holds: .*means"):
        cache_set.read_arrays("logit_lens/entropy")
    with pytest.raises(CacheError, match=r"holds no /samples/score\. It holds: .*references"):
        cache_set.read_arrays("samples/score")
