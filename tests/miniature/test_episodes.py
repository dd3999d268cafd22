"""Episodes: the question is about a demonstration, and the controls exchange pictures alone."""

from __future__ import annotations

from collections import Counter

import pytest

from ima.errors import ParameterError
from ima.miniature.episodes import open_episodes, swap_demonstration_images


def test_an_episode_asks_about_what_only_a_demonstration_shows():
    found = open_episodes("test", n=30)
    assert [one.query.id for one in found] == [f"test-episode-{n}" for n in range(30)]
    for one in found:
        there = {entity["noun"] for entity in one.query.truth["entities"]}
        told = [entity["noun"] for entity in one.query.truth["demonstrated"]]
        assert Counter(told).most_common(1)[0][1] == 1
        assert there.isdisjoint(told)
        assert len(told) == len(one.demonstrations) == 3
        (asked,) = [noun for noun in told if f" {noun} " in f" {one.query.prompt} "]
        kind = one.query.truth["kind"]
        entity = next(e for e in one.query.truth["demonstrated"] if e["noun"] == asked)
        assert one.query.references == (entity[kind],)
        for each, noun in zip(one.demonstrations, told, strict=True):
            assert each.prompt.split()[-2] == noun
            assert not set(each.prompt.split()) & set(entity.values()) - {noun}
    mixed = found[0].swap_images()
    for at, each in enumerate(mixed.demonstrations):
        following = found[0].demonstrations[(at + 1) % 3]
        assert each.prompt == found[0].demonstrations[at].prompt
        assert (each.load() == following.load()).all()
        assert each.id not in {one.id for one in found[0].demonstrations}
    for one, foreign in zip(found, swap_demonstration_images(found), strict=True):
        assert foreign.query == one.query
        for words, each in zip(one.demonstrations, foreign.demonstrations, strict=True):
            assert each.prompt == words.prompt
            source = next(d for o in found for d in o.demonstrations if d.media == each.media)
            assert source.prompt.split()[-2] not in one.nouns
    with pytest.raises(ParameterError, match=r"Swapping needs 3 .*; 1 episodes have 0"):
        swap_demonstration_images(found[:1])
    assert found == open_episodes("test", n=30)
    assert found[:3] != open_episodes("test", n=3, seed=1)
