"""Polls about objects: half of them absent, chosen at random, by frequency or by co-occurrence."""

import numpy as np
import pytest

from ima.data.samples import open_samples
from ima.errors import UnknownNameError
from ima.miniature.datasets import POLL_NEGATIVES, choose_absent_noun, count_noun_cooccurrences
from ima.miniature.world import DOMAINS, get_partner_noun


@pytest.mark.parametrize("modality", list(DOMAINS))
@pytest.mark.parametrize("negatives", POLL_NEGATIVES)
def test_polls_ask_about_as_many_absent_as_present_objects(modality, negatives):
    samples = open_samples(f"mini-{modality}-poll-{negatives}", n=30)
    assert [sample.references[0] for sample in samples] == ["yes", "no"] * 15
    for sample in samples:
        there = {entity["noun"] for entity in sample.truth["entities"]}
        assert (sample.truth["question"]["noun"] in there) == (sample.references[0] == "yes")
    assert samples[0].load().size


def test_negatives_follow_what_the_world_does():
    domain, counts = DOMAINS["image"], count_noun_cooccurrences("image")
    assert (counts == counts.T).all()
    nouns = domain.nouns
    assert (
        choose_absent_noun("image", {"heart"}, negatives="popular", index=0)
        == nouns[int(np.argmax(np.diag(counts)))]
    )
    for noun in nouns[2:]:
        found = choose_absent_noun("image", {noun}, negatives="adversarial", index=0)
        row = counts[nouns.index(noun)].copy()
        row[nouns.index(noun)] = 0
        assert found == nouns[int(row.argmax())]
    assert choose_absent_noun(
        "image", {"star"}, negatives="adversarial", index=0
    ) == get_partner_noun(domain, "star")
    drawn = {choose_absent_noun("image", {"star"}, negatives="random", index=i) for i in range(60)}
    assert drawn == set(nouns) - {"star"}


def test_an_unknown_poll_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="mini-image-poll-random"):
        open_samples("mini-image-poll-rare", n=1)
