"""Contents: each in one split, none with what its split must not show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ima.drawings.concepts import NOUNS
from ima.drawings.contents import (
    MAX_DRAWINGS,
    SPLIT_CODES,
    Content,
    count_cooccurrences,
    draw_content,
    draw_nouns,
    fits_together,
    holds_unseen_pair,
)
from ima.drawings.habits import GROUNDS, HELD_OUT_DRAWINGS, PARTNERS, USUAL_GROUNDS
from ima.errors import UnknownNameError


def draw_many(split, n, variety="known"):
    rng = np.random.default_rng(3)
    return [draw_content(split, variety=variety, rng=rng) for _ in range(n)]


@pytest.mark.parametrize("split", SPLIT_CODES)
def test_contents_belong_to_their_split_and_to_no_other(split):
    for content in draw_many(split, 60):
        assert content.split == split
        assert not content.holds_unseen_pair
        assert 1 <= len(content.kinds) <= 3
        assert all(1 <= count <= 3 for _, count in content.kinds)
        assert sum(count for _, count in content.kinds) <= MAX_DRAWINGS
        assert len(set(content.nouns)) == len(content.nouns)
        assert content.ground in GROUNDS
        assert all(fits_together(noun, set(content.nouns) - {noun}) for noun in content.nouns)


def test_unseen_pairs_hold_a_pair_and_unseen_drawings_only_nouns_that_have_one():
    assert all(content.holds_unseen_pair for content in draw_many("test", 40, "unseen-pairs"))
    for content in draw_many("test", 40, "unseen-drawings"):
        assert set(content.nouns) <= set(HELD_OUT_DRAWINGS)
        assert not content.holds_unseen_pair


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(NOUNS), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.sampled_from(GROUNDS),
)
def test_the_split_does_not_depend_on_the_order_of_kinds(nouns, counts, ground):
    kinds = tuple(zip(nouns, counts, strict=False))
    assert Content(kinds, ground).split == Content(kinds[::-1], ground).split


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 3))
def test_nouns_drawn_as_unseen_pairs_hold_one(seed, n):
    nouns = draw_nouns(n, variety="unseen-pairs", rng=np.random.default_rng(seed))
    assert len(nouns) == n
    assert holds_unseen_pair(nouns)


def test_partners_occur_together_more_often_than_any_other_noun():
    counts = count_cooccurrences().copy()
    assert (counts == counts.T).all()
    np.fill_diagonal(counts, 0)
    most = [NOUNS[int(row.argmax())] for row in counts]
    assert most == [PARTNERS[noun] for noun in NOUNS]


def test_usual_grounds_are_more_frequent():
    contents = draw_many("train", 800)
    usual = [USUAL_GROUNDS[c.nouns[0]] == c.ground for c in contents if c.nouns[0] in USUAL_GROUNDS]
    assert 0.38 < np.mean(usual) < 0.58


def test_unknown_splits_and_varieties_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UnknownNameError, match=r"Unknown split 'tset'. Did you mean 'test'"):
        draw_content("tset", rng=rng)
    with pytest.raises(UnknownNameError, match="Unknown variety 'unseen'"):
        draw_content("test", variety="unseen", rng=rng)
