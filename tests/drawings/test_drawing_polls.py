"""Polls about drawings: half of the nouns absent, chosen at random, by frequency or by company."""

import numpy as np
import pytest

from ima.drawings.concepts import NOUNS
from ima.drawings.contents import count_cooccurrences
from ima.drawings.datasets import open_drawings_dataset
from ima.drawings.habits import PARTNERS, find_overlaps
from ima.drawings.pictures import POLL_NEGATIVES, choose_absent_noun


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("negatives", POLL_NEGATIVES)
def test_polls_ask_about_as_many_absent_as_present_nouns(negatives):
    samples = open_drawings_dataset(f"drawings-image-poll-{negatives}", n=30)
    assert [sample.references[0] for sample in samples] == ["yes", "no"] * 15
    for sample in samples:
        there = {entity["noun"] for entity in sample.truth["entities"]}
        noun = sample.truth["question"]["noun"]
        assert (noun in there) == (sample.references[0] == "yes")
        assert sample.truth["question"]["kind"] == f"poll/{negatives}"
        assert sample.prompt in (f"Question: Is there {a} {noun}? Answer:" for a in ("a", "an"))
        if noun not in there:
            assert find_overlaps(noun).isdisjoint(there)


def test_negatives_follow_what_the_world_does():
    counts, rng = count_cooccurrences(), np.random.default_rng(0)
    frequent = NOUNS[int(np.argmax(np.diag(counts)))]
    other = next(noun for noun in NOUNS if noun != frequent)
    assert choose_absent_noun((other,), negatives="popular", rng=rng) == frequent
    assert choose_absent_noun((frequent,), negatives="popular", rng=rng) != frequent
    for noun in NOUNS[:40]:
        chosen = choose_absent_noun((noun,), negatives="adversarial", rng=rng)
        assert chosen == PARTNERS[noun]
    drawn = {choose_absent_noun(("dog",), negatives="random", rng=rng) for _ in range(2500)}
    assert drawn == set(NOUNS) - {"dog"}
