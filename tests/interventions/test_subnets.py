"""The α-SubNet, its rivals, and compressed checkpoints that are the pruned model bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima import cli
from ima.capture.writer import create_cache
from ima.errors import ModelError, ParameterError
from ima.models import load_model, sparse_checkpoint
from ima.models.linear_layers import get_linear_weights
from ima.pruning import alpha_subnet, structured
from ima.pruning.masks import Masks, compute_masks_from_cache
from ima.pruning.sparsegpt import compute_sparsegpt_masks
from ima.pruning.wanda import apply_masks

NAMES = ("llama-mini/vit/image-caption", "llama-mini/vit/image-qa")


@pytest.fixture(scope="module")
def caches(tiny_zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subnets")
    found = {}
    for at, name in enumerate(NAMES):
        path = folder / f"{at}.zarr"
        given = {"samples": 4, "unit": 2, "taps": ["ln1"], "inputs": True}
        create_cache(load_model(name), dataset=image_set(4 + at)[at:], path=path, **given)
        found[name] = path
    return found


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model(NAMES[0])


def masks_at(model, caches, sparsity=0.5):
    return [compute_masks_from_cache(model, path, sparsity=sparsity) for path in caches.values()]


def equally_sparse(model, caches, *, sparsity):
    """Return each task's own mask and every rival of the α-SubNet."""
    own = {
        name: compute_masks_from_cache(model, path, sparsity=sparsity)
        for name, path in caches.items()
    }
    paths = list(caches.values())
    return own | {
        name: alpha_subnet.build_baseline_masks(model, paths, which=name, sparsity=sparsity)
        for name in alpha_subnet.BASELINE_MASKS
    }


def state(model):
    return {name: value.clone() for name, value in model.language.state_dict().items()}


def test_the_alpha_subnet_is_what_all_tasks_keep(model, caches):
    own = masks_at(model, caches)
    found = alpha_subnet.build_alpha_subnet(own)
    for name, kept in found.kept.items():
        assert (kept == (own[0].kept[name] & own[1].kept[name])).all()
    assert found.sparsity > max(one.sparsity for one in own)
    table = alpha_subnet.compute_layer_sparsity(found)
    sizes = {name: kept[0].size for name, kept in found.kept.items()}
    weighted = sum(table[name].sum() * size for name, size in sizes.items())
    assert weighted / (sum(sizes.values()) * len(table)) == pytest.approx(found.sparsity)
    assert [part["weights_hash"] for part in found.attributes["of"]] != []
    with pytest.raises(ParameterError, match="needs the masks of two tasks or more; got 1"):
        alpha_subnet.build_alpha_subnet(own[:1])
    other = Masks({name: kept[:1] for name, kept in own[0].kept.items()})
    with pytest.raises(ParameterError, match="different language models"):
        alpha_subnet.build_alpha_subnet([own[0], other])


def test_masks_made_block_by_block_are_those_made_at_once(model, caches):
    paths = list(caches.values())
    at_once = {
        "alpha": alpha_subnet.build_alpha_subnet(masks_at(model, caches, 0.4)),
        "wanda": alpha_subnet.build_baseline_masks(
            model, paths, which=alpha_subnet.WANDA_ALL_TASKS, sparsity=0.4
        ),
        "magnitude": alpha_subnet.build_baseline_masks(
            model, paths, which=alpha_subnet.MAGNITUDE_PER_ROW, sparsity=0.4
        ),
    }
    for method, expected in at_once.items():
        found = alpha_subnet.build_lazy_masks(model, paths, method=method, sparsity=0.4).whole(
            model.layers
        )
        assert all((found.kept[name] == kept).all() for name, kept in expected.kept.items())
    with pytest.raises(ParameterError, match="needs the masks of two tasks"):
        alpha_subnet.build_lazy_masks(model, paths[:1])
    with pytest.raises(ParameterError, match="sparsity must be above 0 and below 1; got 0"):
        alpha_subnet.build_lazy_masks(model, paths, sparsity=0)


@pytest.mark.parametrize("asked", [0.3, 0.55, 0.8])
def test_the_alpha_subnet_of_a_sparsity_is_that_of_the_share_it_names(model, caches, asked):
    found = alpha_subnet.build_alpha_at_sparsity(model, list(caches.values()), sparsity=asked)
    share = found.attributes["sparsity"]
    again = alpha_subnet.build_alpha_subnet(masks_at(model, caches, share))
    assert all((again.kept[name] == kept).all() for name, kept in found.kept.items())
    assert found.sparsity <= asked
    widest = max(kept.shape[-1] for kept in found.kept.values())
    more = alpha_subnet.build_alpha_subnet(masks_at(model, caches, share + 1 / widest))
    assert more.sparsity > asked


def test_alpha_subnets_of_modalities_keep_what_their_tasks_do(model, caches):
    given = {"modalities": dict.fromkeys(NAMES, "image"), "sparsity": 0.5}
    found = alpha_subnet.build_modality_subnets(model, caches, **given)
    assert list(found) == ["image", "text", "all"]
    text = [
        compute_masks_from_cache(model, path, sparsity=0.5, kinds=["textual"])
        for path in caches.values()
    ]
    for name, kept in found["text"].kept.items():
        assert (kept == (text[0].kept[name] & text[1].kept[name])).all()
        assert (found["image"].kept[name] == found["all"].kept[name]).all()


def test_a_smaller_model_is_stored_without_what_left(model, caches, tmp_path):
    squares = alpha_subnet.sum_input_norms(model, list(caches.values()))
    structure = structured.select_kept_structure(model, squares, sparsity=0.5)
    size = sparse_checkpoint.write_structured_checkpoint(model, structure, tmp_path / "out")
    small, found = structured.shrink(model, structure), load_model(str(tmp_path / "out"))
    assert all(torch.equal(state(found)[name], value) for name, value in state(small).items())
    assert size.spent == pytest.approx(size.kept / size.weights * size.bits)
    assert size.whole < size.dense
    samples = image_set(2)
    assert found.generate(samples, max_new_tokens=4) == small.generate(samples, max_new_tokens=4)


def test_rivals_are_equally_sparse_and_know_what_they_say(model, caches):
    rivals = equally_sparse(model, caches, sparsity=0.6)
    assert list(rivals) == [*NAMES, *alpha_subnet.BASELINE_MASKS]
    for name, one in rivals.items():
        assert one.sparsity == pytest.approx(0.6, abs=0.03), name
    again = equally_sparse(model, caches, sparsity=0.6)
    for name, one in rivals.items():
        assert all((one.kept[key] == again[name].kept[key]).all() for key in one.kept)
    text = compute_masks_from_cache(model, caches[NAMES[0]], sparsity=0.6, kinds=["textual"])
    alone = equally_sparse(model, {NAMES[0]: caches[NAMES[0]]}, sparsity=0.6)
    for key, kept in text.kept.items():
        assert (alone[alpha_subnet.WANDA_TEXT].kept[key] == kept).all()
        assert (alone[alpha_subnet.WANDA_ALL_TASKS].kept[key] == alone[NAMES[0]].kept[key]).all()


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_a_compressed_model_is_the_masked_one_bit_for_bit(model, caches, tmp_path, sparsity):
    masks = compute_masks_from_cache(model, caches[NAMES[0]], sparsity=sparsity)
    size = sparse_checkpoint.write_sparse_checkpoint(model, masks, tmp_path / "out")
    with apply_masks(model, masks):
        expected = state(model)
    found = state(load_model(str(tmp_path / "out")))
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    # The zoo's weights are float16 on disk, and so are the values here.
    assert size.bits == 16
    assert size.spent <= 1.05 * size.bound
    assert size.whole < size.dense or sparsity < 0.5
    record = json.loads((tmp_path / "out" / sparse_checkpoint.SPARSE_RECORD_FILE).read_text())
    assert record["sparsity"] == pytest.approx(masks.sparsity)
    assert record["masks"]["dataset"] == "tiny"
    samples = image_set(3)
    with apply_masks(model, masks):
        said = model.generate(samples, max_new_tokens=4)
    assert load_model(str(tmp_path / "out")).generate(samples, max_new_tokens=4) == said


def test_updated_weights_are_stored_as_they_are(tiny_zoo, tmp_path):
    model = load_model(NAMES[0])
    masks = compute_sparsegpt_masks(model, model.batches(list(image_set(4))), sparsity=0.5)
    sparse_checkpoint.write_sparse_checkpoint(model, masks, tmp_path / "out")
    with apply_masks(model, masks):
        expected = get_linear_weights(model)
    with pytest.raises(ParameterError, match="come with updated weights"):
        masks.save(tmp_path / "masks.zarr")
    found = get_linear_weights(load_model(str(tmp_path / "out")))
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_damaged_or_foreign_checkpoints_are_refused(model, caches, tmp_path):
    (masks, _) = masks_at(model, caches)
    sparse_checkpoint.write_sparse_checkpoint(model, masks, tmp_path / "out")
    record = json.loads((tmp_path / "out" / sparse_checkpoint.SPARSE_RECORD_FILE).read_text())
    weights = tmp_path / "out" / "block-002.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    with pytest.raises(ModelError, match="not the ones that their card describes"):
        sparse_checkpoint.load_sparse_checkpoint(tmp_path / "out")
    weights.write_bytes(whole)
    path = tmp_path / "out" / sparse_checkpoint.SPARSE_RECORD_FILE
    path.write_text(json.dumps({**record, "weights_hash": "0"}))
    with pytest.raises(ModelError, match=r"was made of .* with weights 0; now"):
        sparse_checkpoint.load_sparse_checkpoint(tmp_path / "out")
    path.write_text(json.dumps({**record, "schema_version": "9"}))
    with pytest.raises(ModelError, match="holds 'ima-subnet' '9'"):
        sparse_checkpoint.load_sparse_checkpoint(tmp_path / "out")
    with pytest.raises(ModelError, match="No compressed checkpoint at"):
        sparse_checkpoint.load_sparse_checkpoint(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    with pytest.raises(ParameterError, match="is there and is no compressed checkpoint"):
        sparse_checkpoint.write_sparse_checkpoint(model, masks, tmp_path / "full")
    foreign = Masks(masks.kept, {"weights_hash": "1"})
    with pytest.raises(ParameterError, match="were made of a model with weights 1"):
        sparse_checkpoint.write_sparse_checkpoint(model, foreign, tmp_path / "new")
    fewer = Masks(dict(list(masks.kept.items())[:1]))
    with pytest.raises(ParameterError, match="The masks are of"):
        sparse_checkpoint.write_sparse_checkpoint(model, fewer, tmp_path / "new")
    narrow = Masks({name: kept[..., :-1] for name, kept in masks.kept.items()})
    with pytest.raises(ParameterError, match=r"The mask of .* has shape"):
        sparse_checkpoint.write_sparse_checkpoint(model, narrow, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_two_of_four_are_what_torch_holds_as_sparse(model, caches):
    paths = list(caches.values())
    masks = alpha_subnet.build_lazy_masks(model, paths, pattern="2:4").whole(model.layers)
    from torch.sparse import _semi_structured_conversions as conversions

    for name, kept in masks.kept.items():
        grouped = kept.reshape(*kept.shape[:-1], -1, 4)
        assert (grouped.sum(-1) == 2).all()
        weight = get_linear_weights(model)[name][0] * kept[0]
        rows, columns = (32 * (-(-size // 32)) for size in weight.shape)
        dense = torch.zeros(rows, columns, dtype=torch.float16)
        dense[: weight.shape[0], : weight.shape[1]] = torch.from_numpy(weight).half()
        held, meta = conversions.sparse_semi_structured_from_dense_cutlass(dense)
        assert held.shape[1] == columns // 2
        back = conversions.sparse_semi_structured_to_dense_cutlass(held, meta)
        assert torch.equal(back, dense)
    for wrong in ("4:2", "half", "2:"):
        with pytest.raises(ParameterError, match="A pattern is two numbers such as 2:4"):
            alpha_subnet.build_lazy_masks(model, paths, pattern=wrong)


def command(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*map(str, words)])
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


WAYS = {
    "alpha": (),
    "wanda": ("--method", "wanda"),
    "2:4": ("--pattern", "2:4"),
    "magnitude": ("--method", "magnitude"),
    "neurons": ("--pattern", "neurons"),
}


@pytest.mark.parametrize("extra", WAYS.values(), ids=list(WAYS))
def test_the_command_writes_a_model_that_loads(model, caches, tmp_path, capsys, extra):
    given = [word for path in caches.values() for word in ("--caches", path)]
    out = tmp_path / "out"
    code, said, _ = command(capsys, "subnet", NAMES[0], *given, "--out", out, *extra, "--json")
    assert code == 0
    record = json.loads(said)
    assert record["bits per weight"] <= 1.05 * record["bound"]
    assert record["loads"]["pruned"]["seconds"] > 0
    found = get_linear_weights(load_model(str(out)))
    left = sum((weight != 0).sum() for weight in found.values())
    whole = sum(weight.size for weight in get_linear_weights(model).values())
    assert left / whole == pytest.approx(1 - record["sparsity"], abs=0.02)


@pytest.mark.parametrize("extra", [(), ("--pattern", "2:4")])
def test_the_command_updates_what_stays(tiny_zoo, tmp_path, capsys, extra):
    model = load_model(NAMES[0])
    paths = [tmp_path / f"{task}.zarr" for task in ("caption", "qa")]
    for path in paths:
        dataset = f"mini-image-{path.stem}:calibration"
        create_cache(
            model, dataset=dataset, path=path, samples=4, unit=2, taps=["ln1"], inputs=True
        )
    given = ("--caches", paths[0], "--caches", paths[1], "--method", "sparsegpt")
    out = tmp_path / "out"
    code, said, _ = command(capsys, "subnet", NAMES[0], *given, "--out", out, *extra, "--json")
    assert code == 0
    assert json.loads(said)["bits per weight"] <= 1.05 * json.loads(said)["bound"]
    found, before = get_linear_weights(load_model(str(out))), get_linear_weights(model)
    for name, weight in found.items():
        kept = weight != 0
        assert kept.mean() == pytest.approx(0.5, abs=0.05)
        assert np.abs(weight - before[name])[kept].max() > 1e-3
        if extra:
            assert (kept.reshape(*kept.shape[:-1], -1, 4).sum(-1) <= 2).all()


def test_the_command_refuses_what_it_cannot_do(model, caches, tmp_path, capsys):
    given = [word for path in caches.values() for word in ("--caches", path)]
    out = ("--out", tmp_path / "out")
    for extra, message in (
        (("--sparsity", "1.0"), "sparsity must be above 0 and below 1; got 1.0"),
        (
            ("--method", "magic"),
            "method must be one of alpha, wanda, magnitude, sparsegpt; got 'magic'",
        ),
    ):
        code, _, said = command(capsys, "subnet", NAMES[0], *given, *out, *extra)
        assert code == 1
        assert message in " ".join(said.split())
    plain = tmp_path / "plain.zarr"
    create_cache(model, dataset=image_set(2), path=plain, samples=2, taps=["ln1"])
    code, _, said = command(capsys, "subnet", NAMES[0], "--caches", plain, "--caches", plain, *out)
    assert code == 1
    assert "The cache holds no /inputs" in said
    assert not (tmp_path / "out").exists()
