"""MiniLM: the files of a zip file become the folder of a sentence encoder."""

from __future__ import annotations

import zipfile

import pytest
import torch
import transformers as hf

from ima.errors import PartError
from ima.models.conversion.minilm import convert_sentence_encoder


@pytest.fixture
def zip_file(tmp_path):
    """Write a tiny BERT and files that are not wanted."""
    config = hf.BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=20,
    )
    hf.BertModel(config).save_pretrained(tmp_path / "made")
    path = tmp_path / "0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "model.safetensors"):
            archive.write(tmp_path / "made" / name, name)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            archive.writestr(name, "{}")
        archive.writestr("sentence_bert_config.json", "{}")
        archive.writestr("../outside.txt", "planted")
    return path


def test_the_folder_loads(zip_file, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    convert_sentence_encoder({"model.zip": zip_file}, folder)
    loaded = hf.AutoModel.from_pretrained(folder)
    assert type(loaded) is hf.BertModel
    expected = hf.AutoModel.from_pretrained(tmp_path / "made").state_dict()
    assert all(torch.equal(v, expected[name]) for name, v in loaded.state_dict().items())
    assert len(list(folder.iterdir())) == 6
    assert not (tmp_path / "outside.txt").exists()


def test_a_zip_file_that_lacks_a_file_is_an_error(zip_file, tmp_path):
    short = tmp_path / "short.zip"
    with zipfile.ZipFile(short, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(PartError, match=r"lacks model\.safetensors"):
        convert_sentence_encoder({"model.zip": short}, tmp_path)
