"""A head that many prompts share is read once, and changes no answer."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from tinyhub import TEXT, tokenizer

from ima.errors import ParameterError
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.models.shared_head import answer_after_head

HEAD = "the red dog sat .\nthe cat ran .\n"
PROMPTS = ["the", "a dog and a cat", "the red cat ran", "dog", "a red dog and the cat sat"]


@pytest.fixture(scope="module", params=["llama", "gpt_neox"])
def model(request):
    classes = {"llama": (hf.LlamaConfig, hf.LlamaForCausalLM)}
    classes["gpt_neox"] = (hf.GPTNeoXConfig, hf.GPTNeoXForCausalLM)
    config, kind = classes[request.param]
    words = tokenizer()
    given = {**TEXT, "max_position_embeddings": 64, "vocab_size": len(words)}
    given |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        language = kind(config(**given)).eval()
        for weight in language.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return FrozenModel(
        name="tiny",
        card={"setup": "LM"},
        weights_hash="",
        language=language,
        tokenizer=words,
        hook_points=find_hook_points(language),
    )


def continue_alone(model, *texts, n):
    """Decode greedily from the whole text, without a cache and without a batch."""
    ids = [token for text in texts for token in model.tokenizer(text)["input_ids"]]
    start = len(ids)
    for _ in range(n):
        with torch.no_grad():
            logits = model.language(input_ids=torch.tensor([ids]), use_cache=False).logits
        ids = [*ids, int(logits[0, -1].argmax())]
        if ids[-1] == model.tokenizer.eos_token_id:
            break
    return model.tokenizer.decode(ids[start:], skip_special_tokens=True).split("\n")[0].strip()


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_answers_are_those_to_the_whole_text(model, batch_size):
    found = answer_after_head(model, HEAD, PROMPTS, max_new_tokens=6, batch_size=batch_size)
    assert found == [continue_alone(model, HEAD, prompt, n=6) for prompt in PROMPTS]
    assert len(set(found)) > 1
    without = [continue_alone(model, prompt, n=6) for prompt in PROMPTS]
    assert found != without


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(ParameterError, match="The head is empty"):
        answer_after_head(model, "", PROMPTS, max_new_tokens=2)
    with pytest.raises(ParameterError, match="max_new_tokens=60 does not fit"):
        answer_after_head(model, HEAD, PROMPTS, max_new_tokens=60)
