"""Captions of the miniature world against the truth: whether just the right entities are named."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set

from ima.data.samples import Sample
from ima.metrics.cider_bleu import score_cider_bleu
from ima.metrics.hallucination import count_chair_mentions, map_object_names, score_chair
from ima.miniature.world import NOUN_SYNONYMS, Domain, get_domain
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score

Named = Counter[tuple[str, ...]]
#: Scores that ask for exactly the right entities, and whether for all attributes that are told.
_EXACT = {"exact_set": False, "exact_full": True}


def count_named_entities(caption: str, modality: str, *, full: bool = False) -> Named:
    """Return the entities that a caption names.

    An entity is a noun with the attribute words that stand before it since the last entity; in a
    clip, what it does stands behind it.

    Parameters
    ----------
    caption : str
        In the language of ``ima.miniature.speech``.
    modality : str
        Which domain's words are looked for.
    full : bool
        Whether an entity counts with all attributes that captions tell, or with its noun and the
        first one (colour, pitch) alone.

    Returns
    -------
    collections.Counter
        Tuples of the noun and attribute values; an attribute that is not told is ``""``.

    Examples
    --------
    >>> dict(named_entities("a big red ring and a small blue star", "image"))
    {('ring', 'red'): 1, ('star', 'blue'): 1}
    """
    domain = get_domain(modality)
    found: list[dict[str, str]] = []
    pending: dict[str, str] = {}
    words = caption.lower().replace(",", " ").replace(".", " ").split()
    for i, word in enumerate(words):
        if word in domain.nouns:
            found.append({"noun": word, **pending})
            pending = {}
            continue
        phrase = f"{word} {words[i + 1]}" if i + 1 < len(words) else word
        for name, values in domain.attributes.items():
            value = phrase if phrase in values else word
            if value not in values:
                continue
            if name == "motion":
                if found:
                    found[-1].setdefault(name, value)
            else:
                pending[name] = value
    names = _told(domain) if full else (domain.first_attribute,)
    return Counter((e["noun"], *(e.get(name, "") for name in names)) for e in found)


def _told(domain: Domain) -> tuple[str, ...]:
    return tuple(name for name in domain.attributes if name != "place")


def _count_true_entities(
    entities: Sequence[Mapping[str, str]], modality: str, *, full: bool
) -> Named:
    """Return the entities of a sample's truth in the form of :func:`count_named_entities`."""
    domain = get_domain(modality)
    names = _told(domain) if full else (domain.first_attribute,)
    return Counter((e["noun"], *(e[name] for name in names)) for e in entities)


def score_captions(samples: Sequence[Sample], predictions: Sequence[str]) -> dict[str, Interval]:
    """Score captions of the miniature world.

    Returns
    -------
    dict of str to Interval
        ``exact_set``: exactly the right entities by noun and first attribute (red circle, high
        bell); ``exact_full``: with every attribute that captions tell; ``exact_nouns``: the right
        nouns; ``novel`` and ``familiar``: ``exact_set`` with and without combinations that training
        never showed; ``cider`` and ``bleu4`` against all references; ``chair_s`` and ``chair_i``,
        of which less is better.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for sample, prediction in zip(samples, predictions, strict=True):
        truth = sample.truth["entities"]
        for name, full in _EXACT.items():
            named = count_named_entities(prediction, sample.modality, full=full)
            right = float(named == _count_true_entities(truth, sample.modality, full=full))
            groups[name].append(right)
            if name == "exact_set":
                groups["novel" if sample.truth["novel"] else "familiar"].append(right)
                nouns: Counter[str] = Counter()
                for (noun, *_), count in named.items():
                    nouns[noun] += count
                groups["exact_nouns"].append(float(nouns == Counter(e["noun"] for e in truth)))
    found = {name: compute_mean_score(values) for name, values in groups.items()}
    found |= score_cider_bleu(predictions, [sample.references for sample in samples])
    found |= score_chair(count_chair_mentions(samples, predictions))
    return dict(sorted(found.items()))


def objects_of(sample: Sample) -> tuple[Mapping[str, str], Set[str]]:
    """Return the objects that a caption may name, by every wording, and those that are there."""
    nouns = get_domain(sample.truth["modality"]).nouns
    there = {entity["noun"] for entity in sample.truth["entities"]}
    return map_object_names(nouns, NOUN_SYNONYMS), there


def score_caption(sample: Sample, caption: str) -> dict[str, float]:
    """Return the scores of one caption that need the truth.

    Returns
    -------
    dict of str to float
        ``exact_set`` and ``exact_full`` (0 or 1), ``absent_named`` and ``named`` (mentions of
        absent objects, and of any).
    """
    modality, entities = sample.truth["modality"], sample.truth["entities"]
    found = {
        name: float(
            count_named_entities(caption, modality, full=full)
            == _count_true_entities(entities, modality, full=full)
        )
        for name, full in _EXACT.items()
    }
    absent, named = count_chair_mentions([sample], [caption])[0]
    return found | {"absent_named": float(absent), "named": float(named)}
