"""GGUF: tiny files, quantised as llama.cpp does, become models with exactly the stored weights."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
import transformers as hf
from tinyzoo import make_tokenizer

from ima.models.conversion.gguf import convert_language_model

TEMPLATE = "{% for message in messages %}<{{ message['content'] }}>{% endfor %}"
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def make_llama(tokenizer):
    """Make a tiny Llama whose rows are whole blocks of 32 numbers."""
    config = hf.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        tie_word_embeddings=True,
        rope_theta=1e5,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.LlamaForCausalLM(config)
        for value in model.parameters():
            value.data.normal_(std=0.3)
    return model


def permute(rows, heads):
    """Order the rows of a query or key matrix as llama.cpp wants them for its rotation."""
    shape = (heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape)


def rename(name):
    """Return llama.cpp's name of a weight, and the module in its block."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight", ""
    if name == "model.norm.weight":
        return "output_norm.weight", ""
    _, _, block, *inner, kind = name.split(".")
    return f"blk.{block}.{NAMES['.'.join(inner)]}.{kind}", inner[-1]


def write_gguf(path, model, tokenizer, *, kind):
    """Write the model quantised; put into the model what the quantised numbers stand for."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    merges = tokenizer.backend_tokenizer.model
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in {"<pad>", "<eos>"} else 1 for token, _ in vocabulary])
    writer.add_token_merges(read_merges(merges))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        theirs, module = rename(name)
        array = value.numpy()
        if array.ndim == 1:
            writer.add_tensor(theirs, array)
            continue
        stored = permute(array, heads[module]) if module in heads else array
        packed = gguf.quants.quantize(stored, kind)
        # Rows are packed one by one, so that their order does not change the numbers.
        value.copy_(
            torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind))
        )
        writer.add_tensor(theirs, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read_merges(bpe):
    """Return the merges of a tokenizer's model as GGUF holds them."""
    import json

    state = json.loads(bpe.__getstate__())
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in state["merges"]]


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer of a few hundred tokens."""
    return make_tokenizer()


@pytest.fixture(scope="module", params=["Q4_1", "Q8_0"])
def converted(request, tokenizer, tmp_path_factory):
    """A model, the file that it was written to, and the folder that the file became."""
    root = tmp_path_factory.mktemp("gguf")
    model = make_llama(tokenizer)
    kind = gguf.GGMLQuantizationType[request.param]
    path = write_gguf(root / "0.gguf", model, tokenizer, kind=kind)
    folder = root / "folder"
    folder.mkdir()
    convert_language_model({"tiny.gguf": path}, folder)
    return model, path, folder


def test_the_folder_holds_the_stored_weights(converted):
    model, _, folder = converted
    loaded = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert type(loaded) is hf.LlamaForCausalLM
    expected = model.state_dict()
    assert set(loaded.state_dict()) == set(expected)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name].half().float()), name
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(ids).logits, model.eval()(ids).logits, atol=2e-2, rtol=1e-2
        )


def test_nothing_in_the_folder_says_that_it_was_quantised(converted):
    _, path, folder = converted
    config = hf.AutoConfig.from_pretrained(folder)
    assert not hasattr(config, "quantization_config")
    assert config.tie_word_embeddings
    assert config.rope_parameters["rope_theta"] == 1e5
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert names <= {entry.name for entry in folder.iterdir()}
    for entry in folder.glob("*.json"):
        assert str(path.parent) not in entry.read_text(encoding="utf-8")
    weights = folder / "model.safetensors"
    assert weights.stat().st_size < 2.5 * sum(p.numel() for p in converted[0].parameters())


def test_tokenizer_and_chat_template_come_along(converted, tokenizer):
    _, _, folder = converted
    loaded = hf.AutoTokenizer.from_pretrained(folder)
    text = "there is a red circle ."
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.decode(loaded(text).input_ids) == text
    assert loaded.model_max_length == 128
    message = [{"role": "user", "content": "Hi"}]
    assert loaded.apply_chat_template(message, tokenize=False) == "<Hi>"


def test_pieces_are_joined_in_the_order_of_their_keys(converted, tmp_path):
    _, path, folder = converted
    content = path.read_bytes()
    cuts = [0, 5000, 20000, len(content)]
    pieces = {}
    for number in (2, 0, 1):
        piece = tmp_path / f"{number}.part"
        piece.write_bytes(content[cuts[number] : cuts[number + 1]])
        pieces[f"tiny.gguf.part0{number}"] = piece
    joined = tmp_path / "joined"
    joined.mkdir()
    convert_language_model(pieces, joined)
    weights = "model.safetensors"
    assert (joined / weights).read_bytes() == (folder / weights).read_bytes()


def test_rows_are_permuted_in_halves():
    rows = np.arange(8)[:, None]
    assert permute(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
