"""Log-probabilities of texts against transformers' own loss; a model that sees reads as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tinyhub import FAMILIES

import ima.models
from ima.errors import ModelError, SampleError
from ima.models.text_scores import encode_texts, hash_texts, score_texts, tokenize_texts

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
TEXTS = [
    ("question : what colour is the circle ? answer :", "red"),
    ("", "a small red circle left of a large blue square ."),
    ("3 + 4 =", "7"),
]


@pytest.mark.parametrize("name", ["llama-mini", "opt-mini"])
def test_scores_are_those_of_transformers(tiny_zoo, name):
    model = ima.models.load_model(name)
    scores = score_texts(model, TEXTS, batch_size=2)
    for row, (given, scored) in enumerate(TEXTS):
        whole = model.tokenizer(f"{given} {scored}".strip(), return_tensors="pt")["input_ids"]
        start = max(1, len(model.tokenizer(given)["input_ids"]))
        labels = whole.clone()
        labels[:, :start] = -100
        with torch.no_grad():
            output = model.language(input_ids=whole, labels=labels)
        n = whole.shape[1] - start
        assert scores.tokens[row] == n
        assert scores.log_probability[row] == pytest.approx(-float(output.loss) * n, rel=1e-4)
        best = output.logits[0].argmax(dim=-1)
        assert scores.greedy[row] == bool((best[start - 1 : -1] == whole[0, start:]).all())
        assert scores.following[row] == model.tokenizer.decode([int(best[-1])])


def test_a_greedy_answer_is_what_generate_says(tiny_zoo):
    model = ima.models.load_model("llama-mini")
    ids = model.tokenizer(TEXTS[0][0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        new = model.language.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    said = model.tokenizer.decode(new[0, ids.shape[1] :])
    retokenized = model.tokenizer(TEXTS[0][0] + said)["input_ids"]
    if retokenized[ids.shape[1] :] == new[0, ids.shape[1] :].tolist() and said.startswith(" "):
        assert score_texts(model, [(TEXTS[0][0], said.strip())]).greedy[0]
    assert not score_texts(model, [(TEXTS[0][0], "xyz")]).greedy[0]


def test_a_frozen_model_with_a_picture_path_has_bit_equal_logits_on_text(tiny_zoo):
    names = ("llama-mini", "llama-mini/vit/image-qa")
    frozen, seeing = (ima.models.load_model(own) for own in names)
    logits = [
        own.forward(encode_texts(own, tokenize_texts(own, TEXTS)), logits=True)
        for own in (frozen, seeing)
    ]
    assert torch.equal(*logits)
    assert hash_texts(frozen, TEXTS) == hash_texts(seeing, TEXTS)
    assert hash_texts(frozen, TEXTS) != hash_texts(frozen, TEXTS[:2])


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "mllama"])
def test_models_of_the_hub_read_text_alone_as_their_own_code_does(hub_models, family):
    model = hub_models(family)
    given, scored = "what is it ?", "a circle"
    scores = score_texts(model, [(given, scored)])
    (tokens,) = tokenize_texts(model, [(given, scored)])
    ids = torch.tensor([[*tokens.lead, *tokens.ids]])
    with torch.no_grad():
        logits = model.hook_points.unembed(
            model.hook_points.trunk(
                inputs_embeds=model.hook_points.embedding(ids), use_cache=False
            ).last_hidden_state
        )
    first = len(tokens.lead) + tokens.answer
    chosen = logits[0, first - 1 : -1].float().log_softmax(-1).gather(1, ids[0, first:, None])
    assert scores.log_probability[0] == pytest.approx(float(chosen.sum()), rel=1e-4)


def test_what_cannot_be_read_is_refused(tiny_zoo, hub_models):
    model = ima.models.load_model("llama-mini")
    with pytest.raises(SampleError, match=r"has \d+ tokens with what comes before it"):
        score_texts(model, [("", "a red circle " * 60)])
    with pytest.raises(SampleError, match="no reference text"):
        score_texts(model, [("what ?", " ")])
    with pytest.raises(ModelError, match="does not run on text alone"):
        score_texts(hub_models("mllama"), TEXTS)


def test_the_batch_size_changes_no_score(tiny_zoo):
    model = ima.models.load_model("opt-mini")
    one, all_at_once = (score_texts(model, TEXTS, batch_size=n).log_probability for n in (1, 3))
    assert np.allclose(one, all_at_once, rtol=1e-5)
