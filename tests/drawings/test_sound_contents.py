"""Contents of sounds: splits, unseen pairs, habits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ima.drawings.instrument_phrases import PHRASES, TEMPOS, Phrase, list_roots
from ima.drawings.instruments import INSTRUMENT_NAMES, INSTRUMENTS
from ima.drawings.sound_contents import (
    HELD_OUT_GROUPS,
    HELD_OUT_PHRASES,
    INSTRUMENT_PARTNERS,
    INSTRUMENT_WEIGHTS,
    LAYOUT_RATIOS,
    MUSIC,
    PARTNER_RATE,
    SPEECH,
    WEIGHT_RATIO,
    draw_content,
    draw_phrase,
    find_split,
    get_noun,
    get_source,
    is_unseen_pair,
    knows_in_training,
    list_sentences_of,
)
from ima.drawings.spoken import SENTENCE_GROUPS, SPOKEN_NOUNS, list_all_sentences, list_sentences
from ima.errors import UnknownNameError

_SPLITS = ("train", "calibration", "validation", "test")


def _draw(split, n, *, variety="known", seed=0):
    rng = np.random.default_rng(seed)
    return [draw_content(split, variety=variety, rng=rng) for _ in range(n)]


@pytest.mark.parametrize("split", _SPLITS)
def test_known_contents_belong_to_their_split_and_hold_no_unseen_pair(split):
    for events in _draw(split, 300):
        assert {find_split(event) for event in events} == {split}
        assert not any(map(is_unseen_pair, events))


def test_contents_of_unseen_pairs_hold_exactly_one():
    for events in _draw("test", 300, variety="unseen-pairs"):
        assert sum(map(is_unseen_pair, events)) == 1
        assert {find_split(event) for event in events} == {"test"}


def test_every_instrument_and_phrase_is_in_every_split_at_both_tempos():
    for instrument in INSTRUMENT_NAMES:
        for figure in PHRASES:
            splits = Counter(
                find_split(Phrase(instrument, figure, tempo, root))
                for tempo in TEMPOS
                for root in list_roots(instrument)
            )
            if HELD_OUT_PHRASES.get(instrument) == figure:
                assert set(splits) == {"test"}
            else:
                assert splits["train"] > splits["test"]
                assert splits["train"] > 8


def test_every_noun_is_talked_about_in_every_split_in_other_words():
    for noun in SPOKEN_NOUNS:
        sentences = {split: set(list_sentences_of(split, noun)) for split in _SPLITS}
        unseen = set(list_sentences_of("test", noun, unseen=True))
        assert [len(sentences["test"]), len(unseen)] in ([2, 0], [2, 4])
        assert len(sentences["train"]) in (8, 10)
        assert sum(map(len, sentences.values())) + len(unseen) == 16
        assert set.union(unseen, *sentences.values()) == set(list_sentences(noun))


def test_half_of_the_instruments_and_nouns_have_an_unseen_pair_spread_evenly():
    assert len(HELD_OUT_PHRASES) == len(INSTRUMENT_NAMES) // 2
    assert len(HELD_OUT_GROUPS) == len(SPOKEN_NOUNS) // 2
    assert set(Counter(HELD_OUT_PHRASES.values()).values()) == {3, 4}
    assert set(Counter(HELD_OUT_GROUPS.values())) == set(SENTENCE_GROUPS)


def test_knowledge_of_about_a_quarter_is_held_out():
    phrases = [Phrase(each.name, "trill", "slow", each.lowest) for each in INSTRUMENTS]
    held = [phrase.instrument for phrase in phrases if not knows_in_training(phrase)]
    assert 5 <= len(held) <= 9
    assert all(next(i for i in INSTRUMENTS if i.name == name).true for name in held)
    nouns = {s.noun for s in list_all_sentences() if not knows_in_training(s)}
    assert 12 <= len(nouns) <= 26


def test_layouts_have_their_frequencies():
    layouts = Counter(tuple(map(get_source, events)) for events in _draw("train", 3000))
    for layout, ratio in LAYOUT_RATIOS.items():
        assert layouts[layout] / 3000 == pytest.approx(ratio, abs=0.03)
    assert layouts[MUSIC, SPEECH] > 0 < layouts[SPEECH, MUSIC]


def test_instruments_have_their_frequencies_and_partners():
    weights = list(INSTRUMENT_WEIGHTS.values())
    assert sum(weights) == pytest.approx(1)
    assert max(weights) / min(weights) == pytest.approx(WEIGHT_RATIO)
    assert set(INSTRUMENT_PARTNERS) == set(INSTRUMENT_NAMES)
    assert all(INSTRUMENT_PARTNERS[b] == a != b for a, b in INSTRUMENT_PARTNERS.items())
    rng = np.random.default_rng(0)
    beside = [draw_phrase("train", beside="harp", rng=rng).instrument for _ in range(400)]
    assert "harp" not in beside
    assert beside.count("cello") / 400 == pytest.approx(PARTNER_RATE, abs=0.1)


def test_two_instruments_of_a_sound_differ():
    for events in _draw("train", 500):
        assert len(set(map(get_noun, events))) == len(events)


def test_unknown_split_and_variety_name_what_exists():
    rng = np.random.default_rng(0)
    with pytest.raises(UnknownNameError, match="Unknown split 'tests'"):
        draw_content("tests", rng=rng)
    with pytest.raises(UnknownNameError, match=r"Unknown variety 'unseen'.*unseen-pairs"):
        draw_content("test", variety="unseen", rng=rng)
