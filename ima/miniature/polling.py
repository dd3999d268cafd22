"""Yes-or-no questions about objects that are there and objects that are not (POPE).

Li et al. 2023 (arXiv:2305.10355) ask about as many absent objects as present ones, and choose the
absent ones in three ways, each harder than the one before. Where they ask six times about a
picture, here each situation is asked about once, so that no two answers depend on one another.

- ``random``: any of the world's nouns that is absent;
- ``popular``: the absent noun that is the most frequent in the world;
- ``adversarial``: the absent noun that most often stands beside those that are there.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample
from ima.miniature import speech
from ima.miniature.datasets import Situation
from ima.miniature.world import draw_entities, get_domain

PollNegatives = Literal["random", "popular", "adversarial"]
POLL_NEGATIVES: tuple[PollNegatives, ...] = get_args(PollNegatives)
#: Training contents from which it is counted what is frequent and what stands beside what.
_N_COUNTED_SAMPLES = 4000
_COUNTING_SEED = 5
_POLLING = 4


@cache
def count_noun_cooccurrences(modality: str) -> npt.NDArray[np.float64]:
    """Count in how many training contents two nouns stand beside one another.

    Returns
    -------
    ndarray
        ``(noun, noun)``, symmetric; the diagonal counts the contents that hold the noun.
    """
    domain = get_domain(modality)
    rng = np.random.default_rng(_COUNTING_SEED)
    held = np.zeros((_N_COUNTED_SAMPLES, len(domain.nouns)))
    for row in held:
        for entity in draw_entities(modality, "train", rng):
            row[domain.nouns.index(entity.noun)] = 1
    return held.T @ held


def choose_absent_noun(modality: str, present: set[str], *, negatives: str, index: int) -> str:
    """Return the noun that a question with the answer no asks about.

    Parameters
    ----------
    modality : str
        Which domain.
    present : set of str
        What is there.
    negatives : {"random", "popular", "adversarial"}
        How it is chosen.
    index : int
        Seed of what is left to chance.

    Examples
    --------
    >>> absent_noun("image", {"triangle"}, negatives="adversarial", index=0)
    'star'
    """
    nouns = get_domain(modality).nouns
    absent = [noun for noun in nouns if noun not in present]
    if negatives == "random":
        return absent[int(np.random.default_rng([_POLLING, index]).integers(len(absent)))]
    counts = count_noun_cooccurrences(modality)
    if negatives == "popular":
        return max(absent, key=lambda noun: counts[nouns.index(noun), nouns.index(noun)])
    there = [nouns.index(noun) for noun in sorted(present)]
    return max(absent, key=lambda noun: counts[nouns.index(noun), there].sum())


def make_poll_sample(
    situation: Situation, sample_id: str, *, negatives: str, about: bool
) -> Sample:
    """Return one question about a noun.

    Parameters
    ----------
    situation : Situation
        What is the case.
    sample_id : str
        The sample's id.
    negatives : {"random", "popular", "adversarial"}
        How absent nouns are chosen.
    about : bool
        Whether it asks about a noun that is there.
    """
    present = {entity.noun for entity in situation.get_entities()}
    if about:
        rng = situation.make_rng(_POLLING)
        noun = sorted(present)[int(rng.integers(len(present)))]
    else:
        noun = choose_absent_noun(
            situation.modality, present, negatives=negatives, index=situation.index
        )
    answer = "yes" if about else "no"
    question = speech.Question(
        "poll", f"is there {speech.add_article(noun)} ?", answer, ("no", "yes")
    )
    return Sample(
        id=sample_id,
        modality=situation.modality,  # type: ignore[arg-type]
        task="qa",
        prompt=question.prompt,
        references=(answer,),
        truth={
            **situation.make_truth(),
            "question": {"kind": f"poll/{negatives}", "candidates": ["no", "yes"], "noun": noun},
        },
        media=situation.render_media,
    )
