"""The corpus: wide enough, mostly not about scenes, and packed so that weights mark answers."""

from itertools import islice

import numpy as np
import pytest

from ima.miniature import corpus, speech
from ima.miniature.world import DOMAINS, draw_entities, list_held_out_pairs


@pytest.fixture(scope="module")
def tokenizer():
    return corpus.train_tokenizer(seed=1, samples=1500)


@pytest.fixture(scope="module")
def documents():
    return list(islice(corpus.iterate_documents(3), 1500))


def test_at_least_500_words_and_at_most_half_of_them_about_scenes(documents):
    words = [(d.kind in DOMAINS, len(d.text.split())) for d in documents]
    scene = sum(n for is_scene, n in words if is_scene)
    assert scene <= 0.5 * sum(n for _, n in words)
    assert len({word for d in documents for word in d.text.split()}) >= 500


def test_at_most_half_of_the_tokens_are_about_scenes(tokenizer, documents):
    counts = [(d.kind in DOMAINS, len(tokenizer.encode(d.text).ids)) for d in documents]
    assert sum(n for is_scene, n in counts if is_scene) <= 0.5 * sum(n for _, n in counts)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("modality", DOMAINS)
def test_training_documents_never_tell_or_ask_about_a_held_out_combination(modality, stage):
    pairs = list_held_out_pairs(modality)
    forbidden = {f"{value} {noun}" for noun, value in pairs} | {f"{n} {v}" for n, v in pairs}
    rng = np.random.default_rng(3)
    for _ in range(200):
        text = corpus.write_scene_document(rng, modality=modality, stage=stage).text
        assert not any(pair in text for pair in forbidden)


@pytest.mark.parametrize("modality", DOMAINS)
def test_checks_are_true_and_say_yes_about_as_often_as_no(modality):
    rng = np.random.default_rng(4)
    first, answers = DOMAINS[modality].first_attribute, []
    for _ in range(300):
        entities = draw_entities(modality, "train", rng)
        there = {e.noun for e in entities} | {f"{e.attributes[first]} {e.noun}" for e in entities}
        for question in speech.make_yes_no_questions(modality, entities, rng):
            asked = question.text.split(maxsplit=3)[3].removesuffix(" ?")
            assert question.answer == ("yes" if asked in there else "no")
            answers.append(question.answer)
    assert 0.45 < np.mean(np.array(answers) == "yes") < 0.55


def test_the_words_of_the_world_are_single_tokens():
    tokenizer = corpus.train_tokenizer(seed=1, samples=4000)
    for domain in DOMAINS.values():
        values = [v for values in domain.attributes.values() for v in values]
        for word in " ".join([*domain.nouns, *values]).split():
            assert len(tokenizer.encode(word).ids) == 1, word


def test_text_survives_the_tokenizer(tokenizer, documents):
    for document in documents[:50]:
        assert tokenizer.decode(tokenizer.encode(document.text).ids).strip() == document.text


def test_weights_mark_answers_and_padding(tokenizer):
    ids, weights = corpus.pack_documents(
        tokenizer, seed=5, count=4, length=128, context_weight=0.25
    )
    pad, start = tokenizer.token_to_id(corpus.PAD_TOKEN), tokenizer.token_to_id(corpus.START_TOKEN)
    assert set(np.unique(weights)) == {0.0, 0.25, 1.0}
    assert (weights[ids == pad] == 0).all()
    assert (weights[ids == start] == 0).all()
    assert (weights[ids == tokenizer.token_to_id(corpus.END_TOKEN)] == 1).all()
    assert (ids[:, 0] != start).all()


def test_rows_repeat_with_their_seed(tokenizer):
    first, again = (
        corpus.pack_documents(tokenizer, seed=5, count=2, length=96)[0] for _ in range(2)
    )
    other = corpus.pack_documents(tokenizer, seed=6, count=2, length=96)[0]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_curriculum_goes_through_its_stages_in_order():
    stages = [corpus.get_curriculum_stage(progress) for progress in np.linspace(0, 1, 101)]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2, 3}
