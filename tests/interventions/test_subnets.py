"""The α-SubNet, its rivals, and compressed checkpoints that are the pruned model bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima import cli
from ima.cache import create
from ima.errors import ModelError, ParameterError
from ima.interventions import Masks, compressed, masked, masks_from_cache, subnets
from ima.interventions.masks import weights_of
from ima.interventions.pruning import restored
from ima.interventions.sparsegpt import prune
from ima.models import load

NAMES = ("llama-mini/vit/image-caption", "llama-mini/vit/image-qa")


@pytest.fixture(scope="module")
def caches(tiny_zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subnets")
    found = {}
    for at, name in enumerate(NAMES):
        path = folder / f"{at}.zarr"
        given = {"samples": 4, "unit": 2, "taps": ["ln1"], "inputs": True}
        create(load(name), dataset=image_set(4 + at)[at:], path=path, **given)
        found[name] = path
    return found


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load(NAMES[0])


def masks_at(model, caches, sparsity=0.5):
    return [masks_from_cache(model, path, sparsity=sparsity) for path in caches.values()]


def state(model):
    return {name: value.clone() for name, value in model.language.state_dict().items()}


def test_the_alpha_subnet_is_what_all_tasks_keep(model, caches):
    own = masks_at(model, caches)
    found = subnets.alpha(own)
    for name, kept in found.kept.items():
        assert (kept == (own[0].kept[name] & own[1].kept[name])).all()
    assert found.sparsity > max(one.sparsity for one in own)
    table = subnets.sparsity_by_layer(found)
    sizes = {name: kept[0].size for name, kept in found.kept.items()}
    weighted = sum(table[name].sum() * size for name, size in sizes.items())
    assert weighted / (sum(sizes.values()) * len(table)) == pytest.approx(found.sparsity)
    assert [part["weights_hash"] for part in found.attributes["of"]] != []
    with pytest.raises(ParameterError, match="needs two masks or more; got 1"):
        subnets.alpha(own[:1])
    other = Masks({name: kept[:1] for name, kept in own[0].kept.items()})
    with pytest.raises(ParameterError, match="different language models"):
        subnets.alpha([own[0], other])


def test_rivals_are_equally_sparse_and_know_what_they_say(model, caches):
    rivals = subnets.equally_sparse(model, caches, sparsity=0.6)
    expected = [subnets.UNION, subnets.TEXT, subnets.SIZE, subnets.SIZE_OVERALL, subnets.RANDOM]
    assert list(rivals) == [*NAMES, *expected]
    for name, one in rivals.items():
        assert one.sparsity == pytest.approx(0.6, abs=0.03), name
    again = subnets.equally_sparse(model, caches, sparsity=0.6)
    for name, one in rivals.items():
        assert all((one.kept[key] == again[name].kept[key]).all() for key in one.kept)
    text = masks_from_cache(model, caches[NAMES[0]], sparsity=0.6, kinds=["textual"])
    alone = subnets.equally_sparse(model, {NAMES[0]: caches[NAMES[0]]}, sparsity=0.6)
    for key, kept in text.kept.items():
        assert (alone[subnets.TEXT].kept[key] == kept).all()
        assert (alone[subnets.UNION].kept[key] == alone[NAMES[0]].kept[key]).all()


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_a_compressed_model_is_the_masked_one_bit_for_bit(model, caches, tmp_path, sparsity):
    masks = masks_from_cache(model, caches[NAMES[0]], sparsity=sparsity)
    size = compressed.write(model, masks, tmp_path / "out")
    with masked(model, masks):
        expected = state(model)
    found = state(load(str(tmp_path / "out")))
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    # The zoo's weights are float16 on disk, and so are the values here.
    assert size.bits == 16
    assert size.spent <= 1.05 * size.bound
    assert size.whole < size.dense or sparsity < 0.5
    record = json.loads((tmp_path / "out" / compressed.RECORD).read_text())
    assert record["sparsity"] == pytest.approx(masks.sparsity)
    assert record["masks"]["dataset"] == "tiny"
    samples = image_set(3)
    with masked(model, masks):
        said = model.generate(samples, max_new_tokens=4)
    assert load(str(tmp_path / "out")).generate(samples, max_new_tokens=4) == said


def test_updated_weights_are_stored_as_they_are(tiny_zoo, tmp_path):
    model = load(NAMES[0])
    with restored(model):
        masks = prune(model, list(image_set(4)), sparsity=0.5)
        compressed.write(model, masks, tmp_path / "out")
        expected = weights_of(model)
    found = weights_of(load(str(tmp_path / "out")))
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def test_damaged_or_foreign_checkpoints_are_refused(model, caches, tmp_path):
    (masks, _) = masks_at(model, caches)
    compressed.write(model, masks, tmp_path / "out")
    record = json.loads((tmp_path / "out" / compressed.RECORD).read_text())
    weights = tmp_path / "out" / compressed.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    with pytest.raises(ModelError, match="not the ones that their card describes"):
        compressed.read(tmp_path / "out")
    weights.write_bytes(whole)
    path = tmp_path / "out" / compressed.RECORD
    path.write_text(json.dumps({**record, "weights_hash": "0"}))
    with pytest.raises(ModelError, match=r"was made of .* with weights 0; now"):
        compressed.read(tmp_path / "out")
    path.write_text(json.dumps({**record, "schema_version": "9"}))
    with pytest.raises(ModelError, match="holds 'ima-subnet' '9'"):
        compressed.read(tmp_path / "out")
    with pytest.raises(ModelError, match="No compressed checkpoint at"):
        compressed.read(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    with pytest.raises(ParameterError, match="is there and is no compressed checkpoint"):
        compressed.write(model, masks, tmp_path / "full")
    foreign = Masks(masks.kept, {"weights_hash": "1"})
    with pytest.raises(ParameterError, match="were made of a model with weights 1"):
        compressed.write(model, foreign, tmp_path / "new")
    fewer = Masks(dict(list(masks.kept.items())[:1]))
    with pytest.raises(ParameterError, match="The masks are of"):
        compressed.write(model, fewer, tmp_path / "new")
    narrow = Masks({name: kept[..., :-1] for name, kept in masks.kept.items()})
    with pytest.raises(ParameterError, match=r"The mask of .* has shape"):
        compressed.write(model, narrow, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_two_of_four_are_what_torch_holds_as_sparse(model, caches):
    masks = subnets.of_pattern(model, list(caches.values()))
    from torch.sparse import _semi_structured_conversions as conversions

    for name, kept in masks.kept.items():
        grouped = kept.reshape(*kept.shape[:-1], -1, 4)
        assert (grouped.sum(-1) == 2).all()
        weight = weights_of(model)[name][0] * kept[0]
        rows, columns = (32 * (-(-size // 32)) for size in weight.shape)
        dense = torch.zeros(rows, columns, dtype=torch.float16)
        dense[: weight.shape[0], : weight.shape[1]] = torch.from_numpy(weight).half()
        held, meta = conversions.sparse_semi_structured_from_dense_cutlass(dense)
        assert held.shape[1] == columns // 2
        back = conversions.sparse_semi_structured_to_dense_cutlass(held, meta)
        assert torch.equal(back, dense)
    for wrong in ("4:2", "half", "2:"):
        with pytest.raises(ParameterError, match="A pattern is two numbers such as 2:4"):
            subnets.of_pattern(model, list(caches.values()), pattern=wrong)


def command(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*map(str, words)])
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


@pytest.mark.parametrize("extra", [(), ("--method", "wanda"), ("--pattern", "2:4")])
def test_the_command_writes_a_model_that_loads(model, caches, tmp_path, capsys, extra):
    given = [word for path in caches.values() for word in ("--caches", path)]
    out = tmp_path / "out"
    code, said, _ = command(capsys, "subnet", NAMES[0], *given, "--out", out, *extra, "--json")
    assert code == 0
    record = json.loads(said)
    assert record["bits per weight"] <= 1.05 * record["bound"]
    assert record["loads"]["pruned"]["seconds"] > 0
    found = weights_of(load(str(out)))
    removed = np.mean([(weight == 0).mean() for weight in found.values()])
    assert removed == pytest.approx(record["sparsity"], abs=0.02)


def test_the_command_refuses_what_it_cannot_do(model, caches, tmp_path, capsys):
    given = [word for path in caches.values() for word in ("--caches", path)]
    out = ("--out", tmp_path / "out")
    for extra, message in (
        (("--sparsity", "1.0"), "sparsity must be above 0 and below 1; got 1.0"),
        (("--method", "magic"), "method must be one of alpha, wanda, magnitude; got 'magic'"),
    ):
        code, _, said = command(capsys, "subnet", NAMES[0], *given, *out, *extra)
        assert code == 1
        assert message in " ".join(said.split())
    plain = tmp_path / "plain.zarr"
    create(model, dataset=image_set(2), path=plain, samples=2, taps=["ln1"])
    code, _, said = command(capsys, "subnet", NAMES[0], "--caches", plain, "--caches", plain, *out)
    assert code == 1
    assert "The cache holds no /inputs" in said
    assert not (tmp_path / "out").exists()
