from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from families import build
from safetensors.torch import load_file, save_file
from tinyhub import save
from tinyzoo import LANGUAGE, NAMES, files, make_tokenizer, make_zoo

import ima.models
from ima.data.samples import Sample
from ima.errors import ModelError, ParameterError, UnknownNameError
from ima.files import hash_file
from ima.models import folders, zoo
from ima.models.chat_template import tokenize_sample

NAME = f"{LANGUAGE}/vit/image-qa"


@pytest.fixture
def own_zoo(tiny_zoo, tmp_path, monkeypatch):
    """A copy of the zoo that a test may spoil."""
    root = tmp_path / "own"
    shutil.copytree(tiny_zoo, root)
    monkeypatch.setenv("IMA_ZOO", str(root))
    return root


def edit_card(folder, **changes):
    path = folder / "card.json"
    card = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in card.items() if value != "drop"}))


def test_the_list_holds_every_model_with_the_fields_of_the_record(tiny_zoo):
    records = ima.models.list_models()
    assert [record["name"] for record in records] == sorted(NAMES)
    for record in records:
        assert tuple(record) == (*zoo.CARD_RECORD_FIELDS, *zoo.CARD_DETAIL_FIELDS)
    image = next(record for record in records if record["name"] == NAME)
    assert image["modality"] == "image"
    assert image["task"] == "qa"
    assert image["dataset"] == "mini-image-qa"
    assert image["parameters"] > 0


def test_listing_does_not_import_torch(tiny_zoo):
    code = "import sys, ima.models; ima.models.list_models(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_are_the_classes_themselves():
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

    assert (ima.models.Batch, ima.models.FrozenModel) == (Batch, FrozenModel)
    with pytest.raises(AttributeError, match="no attribute 'Botch'"):
        _ = ima.models.Botch


def test_models_know_what_they_are(tiny_zoo):
    model, alone = ima.models.load_model(NAME), ima.models.load_model(LANGUAGE)
    assert (model.name, model.setup, model.modality, model.task) == (NAME, "ST", "image", "qa")
    assert model.modalities == ("text", "image")
    assert (alone.modality, alone.task, alone.modalities) == ("text", None, ("text",))
    assert (model.hidden, model.layers, model.device.type) == (32, 3, "cpu")
    language = load_file(tiny_zoo / "language" / LANGUAGE / zoo.WEIGHTS_FILE)
    for name, value in model.language.state_dict().items():
        if name in language:
            assert torch.equal(value, language[name].float())


def test_the_weights_hash_names_all_parts(own_zoo):
    hashes = {ima.models.load_model(name).weights_hash for name in NAMES}
    assert len(hashes) == len(NAMES)
    folder = own_zoo / "connectors" / NAME
    before = ima.models.load_model(NAME).weights_hash
    weights = load_file(folder / zoo.WEIGHTS_FILE)
    save_file({key: value + 1 for key, value in weights.items()}, folder / zoo.WEIGHTS_FILE)
    edit_card(folder, sha256=hash_file(folder / zoo.WEIGHTS_FILE))
    assert ima.models.load_model(NAME).weights_hash != before


def test_a_language_model_is_audited_once_and_other_weights_again(own_zoo, monkeypatch):
    audited = []
    audit = folders.audit_hook_points

    def count(language, hook_points):
        audited.append(language)
        audit(language, hook_points)

    monkeypatch.setattr(folders, "audit_hook_points", count)
    monkeypatch.setattr(folders, "_AUDITED", set())
    shared = [name for name in NAMES if name.startswith(f"{LANGUAGE}/")]
    for name in [*shared, *shared]:
        ima.models.load_model(name)
    assert len(audited) == 1
    ima.models.load_model(shared[0], dtype="float64")
    assert len(audited) == 2
    folder = own_zoo / "language" / LANGUAGE
    weights = load_file(folder / zoo.WEIGHTS_FILE)
    name = next(name for name in weights if name.endswith("mlp.up_proj.weight"))
    weights[name][0, 0] = float("inf")
    save_file(weights, folder / zoo.WEIGHTS_FILE, metadata={"format": "pt"})
    sha256 = hash_file(folder / zoo.WEIGHTS_FILE)
    edit_card(folder, sha256=sha256)
    for _ in range(2):  # what failed is not remembered
        with pytest.raises(ModelError, match="infinite or no numbers"):
            ima.models.load_model(LANGUAGE)
    assert len(audited) == 4


def test_the_tiny_zoo_is_the_same_bytes_for_the_same_seed(tiny_zoo, tmp_path):
    again = dict(files(make_zoo(tmp_path / "again")))
    assert again == dict(files(tiny_zoo))


@pytest.mark.parametrize("part", [f"language/{LANGUAGE}", "encoders/vit", f"connectors/{NAME}"])
def test_altered_weights_are_refused(own_zoo, part):
    path = own_zoo / part / zoo.WEIGHTS_FILE
    expected = hash_file(path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    message = rf"{path} .*expected sha256 {expected}, found {hash_file(path)}.*`make zoo`"
    with pytest.raises(ModelError, match=message):
        ima.models.load_model(NAME)
    path.unlink()
    with pytest.raises(ModelError, match=rf"{path} are missing. `make zoo`"):
        ima.models.load_model(NAME)


@pytest.mark.parametrize("part", ["language", "encoder"])
def test_a_connector_of_other_parts_is_refused(own_zoo, part):
    folder = own_zoo / "connectors" / NAME
    parts = json.loads((folder / "card.json").read_text())["parts"]
    edit_card(folder, parts={**parts, part: "other"})
    with pytest.raises(ModelError, match=rf"trained with another {part} .*expected sha256 other"):
        ima.models.load_model(NAME)


def test_bad_cards_are_named(own_zoo):
    folder = own_zoo / "connectors" / NAME
    edit_card(folder, scores="drop")
    with pytest.raises(ModelError, match=r"card.json lacks scores\. `make zoo`"):
        ima.models.list_models()
    (folder / "card.json").write_text("{")
    with pytest.raises(ModelError, match=r"Cannot read the card .*card\.json"):
        ima.models.load_model(NAME)


def test_missing_tensors_are_not_filled_with_random_numbers(own_zoo):
    folder = own_zoo / "language" / LANGUAGE
    weights = load_file(folder / zoo.WEIGHTS_FILE)
    del weights["model.norm.weight"]
    save_file(weights, folder / zoo.WEIGHTS_FILE, metadata={"format": "pt"})
    edit_card(folder, sha256=hash_file(folder / zoo.WEIGHTS_FILE))
    with pytest.raises(ModelError, match=r"do not fill LlamaForCausalLM: model\.norm\.weight"):
        ima.models.load_model(LANGUAGE)


def test_a_connector_that_does_not_fit_its_card(own_zoo):
    folder = own_zoo / "connectors" / NAME
    configuration = json.loads((folder / "card.json").read_text())["configuration"]
    edit_card(folder, configuration={**configuration, "width": 24})
    with pytest.raises(ModelError, match="do not fit its card"):
        ima.models.load_model(NAME)


@pytest.mark.parametrize("spec", ["lama-mini", f"{LANGUAGE}/vit/image-captoin", f"{LANGUAGE}/vit"])
def test_unknown_names_give_close_ones(tiny_zoo, spec):
    with pytest.raises(UnknownNameError, match=r"Unknown model .*`ima models list`") as caught:
        ima.models.load_model(spec)
    assert f"Did you mean '{LANGUAGE}" in str(caught.value)
    assert 1 <= sum(f"{name!r}" in str(caught.value) for name in NAMES) <= 3
    with pytest.raises(
        UnknownNameError, match=rf"'§'\. {len(NAMES)} are known\. `ima models list`"
    ):
        ima.models.load_model("§")


def test_an_empty_zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_ZOO", str(tmp_path))
    assert ima.models.list_models() == []
    with pytest.raises(UnknownNameError, match=r"The zoo .* holds none: `make zoo`"):
        ima.models.load_model(LANGUAGE)


def test_a_hub_id_that_cannot_be_reached(tiny_zoo, monkeypatch):
    import huggingface_hub

    def unreachable(*_args, **_kwargs):
        message = "no route"
        raise ConnectionError(message)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match=r"'owner/name' is neither.*ConnectionError: no route"):
        ima.models.load_model("owner/name")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "int8"}, r"dtype \(--precision\) must be one of float32, .*got 'int8'"),
        ({"device": "abacus"}, "Device 'abacus' cannot be used here"),
        ({"device": "cuda:99"}, "Device 'cuda:99' cannot be used here"),
    ],
)
def test_wrong_devices_and_dtypes(tiny_zoo, wrong, message):
    with pytest.raises(ParameterError, match=message):
        ima.models.load_model(LANGUAGE, **wrong)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Torch not compiled with CUDA enabled", "Torch not compiled with CUDA enabled"),
        ("Could not run 'aten::empty.out'. This could be because …\nCPU: …", "Could not .*out'"),
    ],
)
def test_a_device_that_is_absent_is_told_in_one_sentence(tiny_zoo, monkeypatch, said, reason):
    def refuse(*_, **__):
        raise NotImplementedError(said)

    monkeypatch.setattr(torch, "empty", refuse)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    message = rf"^Device 'cuda' cannot be used here: {reason}\. Found: cpu\. Use --device cpu\.$"
    with pytest.raises(ParameterError, match=message):
        ima.models.load_model(LANGUAGE, device="cuda")


def test_another_dtype_reaches_every_part(tiny_zoo):
    model = ima.models.load_model(NAME, dtype="float64")
    parts = (model.language, model.perception.encoder, model.perception.connector)
    for part in parts:
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float64}


@pytest.fixture
def folder(tmp_path):
    language = build("gemma2")
    tokenizer = make_tokenizer()
    language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    language.save_pretrained(tmp_path / "local")
    tokenizer.save_pretrained(tmp_path / "local")
    return tmp_path / "local"


def test_a_local_folder_is_a_text_model(tiny_zoo, folder):
    model = ima.models.load_model(str(folder))
    assert (model.name, model.setup, model.modalities) == (str(folder), "LM", ("text",))
    assert model.weights_hash == hash_file(folder / zoo.WEIGHTS_FILE)
    sample = Sample("a", "text", "qa", "the circle is", ("red",))
    batch = model.encode([sample])
    logits = model.forward(batch, logits=True)
    with torch.no_grad():
        expected = build_again(model, folder)(input_ids=batch.token_id).logits
    torch.testing.assert_close(logits, expected)


def build_again(model, folder):
    return type(model.language).from_pretrained(folder).eval()


def test_a_token_that_the_tokenizer_puts_first_is_attended_to_and_never_counted(tiny_zoo, folder):
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<pad> $A", special_tokens=[("<pad>", 0)]
    )
    tokenizer.save_pretrained(folder)
    model = ima.models.load_model(str(folder))
    sample = Sample("a", "text", "qa", "the circle is", ("red",))
    batch = model.encode([sample])
    assert batch.token_id[0, 0] == 0
    assert batch.modality[0, 0] == -1
    assert batch.attention_mask.all()
    assert (batch.modality[0, 1:] == 0).all()
    assert model.count_tokens([sample]) == [(0, batch.modality.shape[1] - 1)]


def test_a_tokenizer_that_writes_texts_otherwise_behind_its_first_token_is_named():
    class Legacy:
        name_or_path = "legacy"

        def __call__(self, text, *, add_special_tokens=True):
            return {"input_ids": self.special if add_special_tokens else [5, 6]}

    tokenizer = Legacy()
    sample = Sample("a", "text", "qa", "a", ("b",))
    for special, lead in {(1, 5, 6): (1,), (5, 6, 2): (), (1, 5, 5, 6, 2): (1, 5)}.items():
        tokenizer.special = list(special)
        assert tokenize_sample(sample, tokenizer=tokenizer, target=False).lead == lead
    for special in ([1, 7], [1, 5, 7]):
        tokenizer.special = special
        with pytest.raises(ModelError, match=r"'legacy' writes a text as \[5, 6\]"):
            tokenize_sample(sample, tokenizer=tokenizer, target=False)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("model.safetensors", r"holds no \*\.safetensors"), ("tokenizer.json", "holds no tokenizer")],
)
def test_incomplete_folders(tiny_zoo, folder, missing, message):
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=message):
        ima.models.load_model(str(folder))


def test_a_folder_without_a_model(tiny_zoo, tmp_path):
    with pytest.raises(UnknownNameError, match=r"holds no config\.json\. Found: nothing\."):
        ima.models.load_model(str(tmp_path))
    for name in "abcdef":
        (tmp_path / name).touch()
    with pytest.raises(UnknownNameError, match=r"Found: a, b, c, d, e and 1 more\. `ima models"):
        ima.models.load_model(str(tmp_path))
    for file, command in {"samples.jsonl": "ima data check", "zarr.json": "ima cache info"}.items():
        folder = tmp_path / f"my {file}"
        folder.mkdir()
        (folder / file).touch()
        with pytest.raises(UnknownNameError, match=rf"Found: {file}\. .*`{command} '{folder}'`"):
            ima.models.load_model(str(folder))
    with pytest.raises(UnknownNameError, match="it is a file"):
        ima.models.load_model(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("file", "edit"),
    [
        # Found by fuzzing: a configuration checks its numbers with errors of its own class.
        ("config.json", {"text_config": {"num_attention_heads": 5}}),
        ("config.json", {"text_config": {"hidden_size": "wide"}}),
        ("config.json", {"vision_config": {"num_attention_heads": 12}}),
        ("tokenizer_config.json", {"tokenizer_class": 3}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"a": 1}}),
        ("processor_config.json", {"processor_class": ["x"]}),
    ],
)
def test_what_libraries_raise_for_damaged_settings_names_the_folder(tmp_path, file, edit):
    folder = save("llava", tmp_path / "damaged")
    path = folder / file
    settings = json.loads(path.read_text(encoding="utf-8"))
    for key, value in edit.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ModelError, match="damaged"):
        ima.models.load_model(str(folder))
