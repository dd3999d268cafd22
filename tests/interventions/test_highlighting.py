"""Prompt Highlighter: its statements on models whose answer is known, and on every family."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tinyhub import FAMILIES
from tinysamples import image_set
from transformers import LlamaConfig, LlamaForCausalLM

from ima.data.samples import Sample, open_samples
from ima.errors import ModelError, ParameterError
from ima.interventions import highlighting
from ima.interventions.highlight_marks import Highlight, find_tokens_in_boxes, mark_tokens
from ima.interventions.highlight_readouts import measure_attention_mass
from ima.interventions.highlighting import HighlightStrength
from ima.models import load_model
from ima.models.batch import Batch
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.models.hub import HubModel
from ima.token_reduction.attention import replace_attention

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
IDENTITY = HighlightStrength(gamma=1.0, beta=1.0, alpha=1.0)
WHOLE = Highlight(whole=True)
#: Families of a hub that read pictures as tokens, in models with random weights.
SEEING = [name for name in FAMILIES if name not in ("mllama", "qwen2_audio")]


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model("llama-mini/vit/image-caption")


def show(number=0, prompt="what is it ?"):
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 255, (56, 56 + 28 * number, 3), dtype=np.uint8)
    return Sample(f"s{number}", "image", "qa", prompt, ("a",), media=lambda: pixels)


def words(text="question : what colour is the circle ? answer :"):
    return Sample("t", "text", "qa", text, ())


@torch.no_grad()
def logits_of_pairs(model, samples, highlights, strength):
    """Return the guided logits of the last token of each prompt."""
    pairs = [*samples, *samples]
    batch = model.encode(pairs, side="left", target=False)
    marks = mark_tokens(model, batch, samples, highlights)
    with (
        highlighting.bias_attention(model, highlighting.make_key_bias(marks, beta=strength.beta)),
        highlighting.scale_embeddings(
            model, highlighting.make_embedding_factors(marks, alpha=strength.alpha)
        ),
    ):
        logits = model.forward(batch, logits=True)[:, -1]
    return highlighting.guide_logits(logits, gamma=strength.gamma)[: len(samples)]


@pytest.mark.parametrize("name", ["llama-mini/vit/image-caption", "opt-mini/vit/image-caption"])
def test_ones_are_the_identity(tiny_zoo, name):
    model, samples = load_model(name), image_set(3)
    highlights = [WHOLE] * 3
    batch = model.encode(samples, side="left", target=False)
    plain = model.forward(batch, logits=True)[:, -1]
    same = logits_of_pairs(model, samples, highlights, IDENTITY)
    torch.testing.assert_close(same, plain, atol=1e-5, rtol=1e-6)
    said = highlighting.generate_highlighted(
        model, samples, highlights, strength=IDENTITY, batch_size=2, max_new_tokens=8
    )
    assert said == model.generate(samples, max_new_tokens=8)
    strong = HighlightStrength(gamma=2.0, beta=20.0)
    other = logits_of_pairs(model, samples, highlights, strong)
    assert (other - plain).norm(dim=-1).min() > 1e-2
    # Nothing stays behind.
    assert torch.equal(model.forward(batch, logits=True)[:, -1], plain)


@pytest.mark.parametrize("name", SEEING)
def test_ones_are_the_identity_on_models_of_a_hub(hub_models, name):
    model, samples = hub_models(name), [show(0), show(1, "what is it ? really ?")]
    # Processors of some families read one size at a time.
    for sample in samples:
        plain = model.forward(model.encode([sample], side="left", target=False), logits=True)
        same = logits_of_pairs(model, [sample], [WHOLE], IDENTITY)
        torch.testing.assert_close(same, plain[:, -1], atol=1e-4, rtol=1e-4)
        far = logits_of_pairs(model, [sample], [WHOLE], HighlightStrength(gamma=2.0, beta=50.0))
        assert (far - plain[:, -1]).norm() > 1e-2
    said = highlighting.generate_highlighted(
        model, samples, [WHOLE] * 2, strength=IDENTITY, max_new_tokens=4
    )
    assert said == model.generate(samples, max_new_tokens=4)


@pytest.mark.parametrize("name", ["emu3", "blip2"])
def test_models_that_generate_in_their_own_way_are_highlighted_too(hub_models, name):
    """Emu3 needs each picture alone, and BLIP-2 hands generation on to a part of it."""
    model, samples = hub_models(name), [show(0), show(1)]
    plain = model.generate(samples, max_new_tokens=6)
    settings = {"max_new_tokens": 6}
    same = highlighting.generate_highlighted(
        model, samples, [WHOLE] * 2, strength=IDENTITY, **settings
    )
    assert same == plain
    far = HighlightStrength(gamma=8.0, beta=50.0)
    assert highlighting.generate_highlighted(
        model, samples, [WHOLE] * 2, strength=far, **settings
    ) != plain  # fmt: skip


def test_without_guidance_the_unconditional_branch_does_not_matter(model):
    samples = image_set(2)
    first, second = (
        logits_of_pairs(model, samples, [WHOLE] * 2, HighlightStrength(1.0, 3.0, alpha))
        for alpha in (0.01, 1.0)
    )
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-6)
    guided = [
        logits_of_pairs(model, samples, [WHOLE] * 2, HighlightStrength(2.0, 3.0, alpha))
        for alpha in (0.01, 1.0)
    ]
    assert (guided[0] - guided[1]).abs().max() > 1e-3


class _Weights:
    """Keeps the attention of the last token in each layer."""

    def __init__(self, length):
        self.length, self.by_layer = length, {}

    def watch(self, layer, attention):
        last = torch.full((len(attention.queries),), self.length - 1)
        self.by_layer[layer] = attention.compute_weights(last)

    def active_tokens(self, *_):
        return None


@pytest.mark.parametrize("beta", [0.5, 2.0, 20.0])
def test_attention_weights_of_marked_tokens_are_multiplied_and_normalised(model, beta):
    """In the first layer, whose inputs are the same."""
    samples = image_set(2)
    batch = model.encode(samples, side="left", target=False)
    marks = mark_tokens(model, batch, samples, [WHOLE] * 2)
    weights = []
    for bias in (torch.zeros(marks.shape), marks * np.log(beta)):
        watcher = _Weights(marks.shape[1])
        with (
            replace_attention(model, watcher, plan="test"),
            highlighting.bias_attention(model, bias.float()),
        ):
            model.forward(batch)
        weights.append(watcher.by_layer[1])
    expected = weights[0] * torch.where(marks, beta, 1.0)[:, None]
    expected /= expected.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(weights[1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "gemma3"])
def test_attention_mass_grows_with_beta(hub_models, name):
    model, sample = hub_models(name), show(1)
    batch = model.encode([sample], side="left", target=False)
    marks = mark_tokens(model, batch, [sample], [Highlight(boxes=((0, 0, 42, 56),))])
    assert 0 < int(marks.sum()) < int((batch.modality > 0).sum())
    masses = [
        measure_attention_mass(model, batch, marks, beta=beta)[0]
        for beta in (0.5, 1.0, 2.0, 5.0, 20.0)
    ]
    assert all(mass.shape == (model.layers,) for mass in masses)
    first = [float(mass[0]) for mass in masses]
    assert first == sorted(first)
    assert masses[-1].mean() > masses[1].mean() > masses[0].mean()


def test_attention_mass_grows_with_beta_in_every_layer_of_a_trained_model():
    model = load_model("llava-mini-3")
    samples = open_samples("mini-image-caption", n=4)
    batch = model.encode(samples, side="left", target=False)
    box = (Highlight(boxes=((0, 0, 32, 32),)),) * 4
    marks = mark_tokens(model, batch, samples, box)
    assert marks.sum(dim=1).tolist() == [16] * 4
    masses = [
        measure_attention_mass(model, batch, marks, beta=beta).mean(dim=0)
        for beta in (1.0, 2.0, 5.0, 20.0)
    ]
    for less, more in pairwise(masses):
        assert (more > less).all()


# A model whose answer follows from its attention alone: one layer attends to all tokens alike and
# copies what it reads; the answer is the object that most of its attention is on.
OBJECTS = {"A": 1, "B": 2}
ASK = 3


@pytest.fixture(scope="module")
def copier():
    width, vocabulary = 8, 4
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=False, eos_token_id=0,
        pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    language = LlamaForCausalLM(config).eval().requires_grad_(requires_grad=False)
    state = {name: torch.zeros_like(value) for name, value in language.state_dict().items()}
    for name in state:
        if "norm" in name:
            state[name] += 1
    state["model.embed_tokens.weight"][:, :vocabulary] = torch.eye(vocabulary)
    for part in ("v_proj", "o_proj"):
        state[f"model.layers.0.self_attn.{part}.weight"] += torch.eye(width)
    for token in OBJECTS.values():
        state["lm_head.weight"][token, token] = 1.0
    language.load_state_dict(state)
    return FrozenModel(
        name="copier", card={"setup": "LM"}, weights_hash="", language=language, tokenizer=None,
        hook_points=find_hook_points(language),
    )  # fmt: skip


def answer_of_copier(copier, ids, marked, strength):
    ids = torch.tensor([ids] * 2)
    ones = torch.ones_like(ids)
    batch = Batch(
        embeds=copier.hook_points.embedding(ids), attention_mask=ones,
        position_ids=ones.cumsum(1) - 1, modality=torch.zeros_like(ids, dtype=torch.int8),
        token_id=ids, answer=torch.zeros_like(ids, dtype=torch.bool), sample_ids=("a", "a"),
    )  # fmt: skip
    marks = (ids[:1] == OBJECTS[marked]) if marked else torch.zeros_like(ids[:1], dtype=torch.bool)
    with highlighting.highlight_pairs(copier, batch, marks, strength=strength):
        logits = copier.language(inputs_embeds=batch.embeds, attention_mask=ones).logits
    assert torch.equal(logits[0], logits[1])
    return "AB"[int(logits[0, -1, 1:3].argmax())]


@pytest.mark.parametrize("more", [2, 3, 6])
@pytest.mark.parametrize("beta", [1.5, 2.5, 4.0, 7.0])
@pytest.mark.parametrize("order", [1, -1])
def test_highlighting_another_object_switches_the_answer_where_beta_outweighs_it(
    copier, more, beta, order
):
    objects = [*([OBJECTS["A"]] * more), OBJECTS["B"]]
    ids = [*objects[::order], ASK]
    alone = HighlightStrength(gamma=1.0, beta=beta)
    assert answer_of_copier(copier, ids, "", alone) == "A"
    assert answer_of_copier(copier, ids, "A", alone) == "A"
    assert answer_of_copier(copier, ids, "B", alone) == ("B" if beta > more else "A")
    # Guidance switches it earlier: the unconditional branch sees no B.
    strong = HighlightStrength(gamma=10.0, beta=beta)
    assert answer_of_copier(copier, ids, "B", strong) == "B"


@torch.no_grad()
def decode_whole(model, batch, marks, strength, steps):
    """Decode without a cache: the whole sequence runs again for each token."""
    embeds, mask, tokens = batch.embeds, batch.attention_mask, []
    bias = highlighting.make_key_bias(marks, beta=strength.beta)
    factors = highlighting.make_embedding_factors(marks, alpha=strength.alpha)
    for _ in range(steps):
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        with (
            highlighting.bias_attention(model, bias),
            highlighting.scale_embeddings(model, factors),
        ):
            states = model.hook_points.trunk(
                inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
            ).last_hidden_state
        logits = model.hook_points.unembed(states[:, -1])
        token = highlighting.guide_logits(logits, gamma=strength.gamma).argmax(dim=-1)
        tokens.append(token[: len(marks)])
        embeds = torch.cat([embeds, model.hook_points.embedding(token)[:, None]], dim=1)
        mask, bias, factors = (
            torch.nn.functional.pad(own, (0, 1), value=value)
            for own, value in ((mask, 1), (bias, 0.0), (factors, 1.0))
        )
    return torch.stack(tokens, dim=1)


def test_the_cache_of_keys_and_values_changes_no_token(model):
    samples, strength = image_set(3), HighlightStrength(gamma=2.0, beta=5.0)
    pairs = [*samples, *samples]
    batch = model.encode(pairs, side="left", target=False)
    marks = mark_tokens(model, batch, samples, [WHOLE] * 3)
    settings = model.make_generation_config(max_new_tokens=6, min_new_tokens=6)
    settings.eos_token_id = None
    with highlighting.highlight_pairs(model, batch, marks, strength=strength):
        ids = model.language.generate(
            inputs_embeds=batch.embeds,
            attention_mask=batch.attention_mask,
            generation_config=settings,
        )
    assert torch.equal(ids[:3], ids[3:])
    assert torch.equal(ids[:3], decode_whole(model, batch, marks, strength, steps=6))


def test_beams_of_both_branches_stay_together(model):
    samples = image_set(2)
    pairs = [*samples, *samples]

    def highlight(batch):
        marks = mark_tokens(model, batch, samples, [WHOLE] * 2)
        return highlighting.highlight_pairs(
            model, batch, marks, strength=HighlightStrength(2.0, 5.0)
        )

    said = model.generate(pairs, num_beams=3, max_new_tokens=6, around=highlight)
    assert said[:2] == said[2:]


def test_a_window_and_a_static_cache_keep_the_bias_at_its_keys():
    bias = torch.tensor([[1.0, 2.0, 3.0]])
    window = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    add = highlighting.add_key_bias
    assert add(window, bias, queries=1, seen=4).tolist() == [[[[3.0, 0.0]]]]
    static = torch.tensor([[[[True] * 4 + [False]]]])
    lowest = torch.finfo(torch.float32).min
    assert add(static, bias, queries=1, seen=4).tolist() == [[[[1.0, 2.0, 3.0, 0.0, lowest]]]]
    causal = add(None, bias, queries=3, seen=3)[0, 0]
    assert causal.tolist() == [[1.0, lowest, lowest], [1.0, 2.0, lowest], [1.0, 2.0, 3.0]]
    both_ways = add(None, bias, queries=3, seen=3, causal=False)[0, 0]
    assert both_ways.tolist() == [[1.0, 2.0, 3.0]] * 3
    numbers = torch.tensor([[[[0.0, -5.0, lowest]]]])
    assert add(numbers, bias, queries=1, seen=3).tolist() == [[[[1.0, -3.0, lowest]]]]


def test_words_of_the_prompt_are_marked_where_they_stand(tiny_zoo):
    model = load_model("llama-mini")
    sample = words()
    batch = model.encode([sample], side="left", target=False)
    marks = mark_tokens(model, batch, [sample], [Highlight(spans=("the circle",))])
    ids = batch.token_id[0, marks[0]].tolist()
    assert model.tokenizer.decode(ids).strip() == "the circle"
    plain = model.generate([sample], max_new_tokens=6)
    strength = HighlightStrength(gamma=20.0, beta=50.0)
    highlights = [Highlight(spans=("the circle",))]
    said = highlighting.generate_highlighted(
        model, [sample], highlights, strength=strength, max_new_tokens=6
    )
    assert said != plain


def test_words_are_marked_in_the_prompt_alone_and_each_time(hub_models):
    model = hub_models("llava")
    sample = replace(show(0, "a circle or a star ?"), references=("a circle",))
    batch = model.encode([sample])
    marks = mark_tokens(model, batch, [sample], [Highlight(spans=("a",), boxes=((0, 0, 9, 9),))])
    text = marks[0] & (batch.modality[0] == 0)
    assert not (text & batch.answer[0]).any()
    assert int(text.sum()) >= 3  # a …, a … and the a of star
    assert int((marks[0] & (batch.modality[0] > 0)).sum()) == 1


def test_a_small_box_marks_the_token_that_it_covers_most():
    places = np.array([[0.0, 0, 28, 28], [28, 0, 56, 28]])
    sample = show(0)
    assert find_tokens_in_boxes(places, [(20, 0, 30, 9)], sample=sample).tolist() == [True, False]
    assert find_tokens_in_boxes(places, [(0, 0, 42, 28)], sample=sample).tolist() == [True, True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Highlight, "Nothing is highlighted. Give boxes of the picture, words"),
        (lambda: HighlightStrength(beta=0.0), r"must be above 0; got 0. 1 leaves them"),
        (lambda: HighlightStrength(gamma=float("nan")), "must be finite numbers"),
    ],
)
def test_what_cannot_be_highlighted_says_why(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    ("highlight", "message"),
    [
        (
            Highlight(boxes=((0, 0, 80, 10),)),
            "The box 0,0,80,10 is not inside the picture of sample 's0', which is 56 pixels wide "
            "and 56 high.*0 ≤ left < right ≤ 56",
        ),
        (Highlight(boxes=((9, 0, 9, 10),)), "The box 9,0,9,10 is not inside"),
        (Highlight(spans=("the cat",)), "'the cat' does not occur in the prompt 'what is it \\?'"),
        (Highlight(spans=(" ",)), "does not occur"),
    ],
)
def test_marks_that_are_not_there_are_named(hub_models, highlight, message):
    with pytest.raises(ParameterError, match=message):
        highlighting.generate_highlighted(hub_models("llava"), [show(0)], [highlight])


def test_a_box_that_the_processor_cuts_off_is_named(hub_models):
    wide = show(4)  # 168 pixels wide, of which the middle 56 are read
    with pytest.raises(ParameterError, match=r"cuts this part of the picture of sample 's4' off"):
        highlighting.generate_highlighted(
            hub_models("llava"), [wide], [Highlight(boxes=((0, 0, 20, 56),))]
        )


def test_models_that_cannot_be_highlighted_say_so(hub_models, model):
    one = image_set(1)
    with pytest.raises(ModelError, match="perceptual tokens of 'llama-mini/vit/image-caption'"):
        highlighting.generate_highlighted(model, one, [Highlight(boxes=((0, 0, 9, 9),))])
    with pytest.raises(ParameterError, match=r"Not every block of .* has attention of one kind"):
        highlighting.generate_highlighted(
            hub_models("mllama"), [show(0)], [Highlight(spans=("it",))]
        )
    with pytest.raises(ParameterError, match=r"has no perceptual tokens .*words of the prompt"):
        highlighting.generate_highlighted(hub_models("mllama"), [show(0)], [WHOLE])
    with pytest.raises(ParameterError, match="got 1 samples and 0"):
        highlighting.generate_highlighted(model, one, [])
    batch = model.encode(one)
    marks = torch.zeros_like(batch.modality, dtype=torch.bool)
    with (
        pytest.raises(ParameterError, match="each prompt twice; got 1 rows for marks of 1"),
        ExitStack() as stack,
    ):
        stack.enter_context(
            highlighting.highlight_pairs(model, batch, marks, strength=HighlightStrength())
        )


def test_a_mask_to_which_nothing_can_be_added_is_refused(model):
    batch = model.encode(image_set(1))
    attention = model.hook_points.get_attention(0)
    with (
        highlighting.bias_attention(model, torch.zeros(batch.modality.shape)),
        pytest.raises(ModelError, match="does not receive a mask for each query"),
    ):
        attention(batch.embeds, attention_mask=batch.attention_mask)
    assert isinstance(model, FrozenModel)
    assert not isinstance(model, HubModel)
