"""Scores of miniature captions: whether a caption names exactly the entities of its sample."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set

from ima.data.samples import Sample
from ima.data.worlds import Box
from ima.metrics.cider_bleu import score_cider_bleu
from ima.metrics.hallucination import count_chair_mentions, map_object_names, score_chair
from ima.miniature.world import NOUN_SYNONYMS, Domain, get_domain
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score

_EntityCounts = Counter[tuple[str, ...]]
#: Scores of exact captions, and whether they require all attributes except the place.
_EXACT = {"exact_set": False, "exact_full": True}


def count_named_entities(caption: str, modality: str, *, full: bool = False) -> _EntityCounts:
    """Count the entities that a caption names.

    An entity is a noun with the attribute words between it and the previous noun. In a caption of a
    clip, the motion follows the noun.

    Parameters
    ----------
    caption : str
        Text as ``ima.miniature.speech`` writes it.
    modality : str
        Modality whose words count.
    full : bool
        Whether an entity is its noun with all attributes except the place, or with the first
        attribute (colour, pitch) only.

    Returns
    -------
    collections.Counter
        Counts of tuples (noun, attribute values); a missing attribute is ``""``.

    Examples
    --------
    >>> dict(count_named_entities("a big red ring and a small blue star", "image"))
    {('ring', 'red'): 1, ('star', 'blue'): 1}
    """
    domain = get_domain(modality)
    entities: list[dict[str, str]] = []
    pending: dict[str, str] = {}
    words = caption.lower().replace(",", " ").replace(".", " ").split()
    for i, word in enumerate(words):
        if word in domain.nouns:
            entities.append({"noun": word, **pending})
            pending = {}
            continue
        phrase = f"{word} {words[i + 1]}" if i + 1 < len(words) else word
        for name, values in domain.attributes.items():
            value = phrase if phrase in values else word
            if value not in values:
                continue
            if name == "motion":
                if entities:
                    entities[-1].setdefault(name, value)
            else:
                pending[name] = value
    return _count_entities(entities, domain, full=full)


def _count_entities(
    entities: Sequence[Mapping[str, str]], domain: Domain, *, full: bool
) -> _EntityCounts:
    """Count tuples of a noun and its attribute values."""
    attributes = [name for name in domain.attributes if name != "place"]
    names = attributes if full else [domain.first_attribute]
    return Counter((e["noun"], *(e.get(name, "") for name in names)) for e in entities)


def _is_exact(sample: Sample, caption: str, *, full: bool) -> bool:
    modality = sample.truth["modality"]
    true_entities = _count_entities(sample.truth["entities"], get_domain(modality), full=full)
    return count_named_entities(caption, modality, full=full) == true_entities


def score_object_overlap(sample: Sample, caption: str) -> float:
    """Score how far the objects that a caption names are those of a sample.

    Parameters
    ----------
    sample : Sample
        A sample of the miniature world.
    caption : str
        Text as ``ima.miniature.speech`` writes it.

    Returns
    -------
    float
        Objects (noun with its first attribute) that are named and there, divided by those that are
        named or there: 1 if the caption names exactly what is there, 0 if nothing of it.

    Examples
    --------
    >>> ring = {"noun": "ring", "colour": "red", "size": "big", "place": "top left"}
    >>> truth = {"modality": "image", "entities": [ring]}
    >>> sample = Sample("a", "image", "caption", "caption :", ("a red ring",), truth)
    >>> score_object_overlap(sample, "a red ring and a blue star")
    0.5
    """
    modality = sample.truth["modality"]
    there = _count_entities(sample.truth["entities"], get_domain(modality), full=False)
    named = count_named_entities(caption, modality)
    return (there & named).total() / (there | named).total()


def score_captions(samples: Sequence[Sample], predictions: Sequence[str]) -> dict[str, Interval]:
    """Score captions of the miniature world.

    Parameters
    ----------
    samples : sequence of Sample
        Samples of a caption data set.
    predictions : sequence of str
        One caption per sample.

    Returns
    -------
    dict of str to Interval
        ``exact_set``: exactly the right entities by noun and first attribute (red circle, high
        bell); ``exact_full``: with all attributes except the place; ``exact_nouns``: the right
        nouns; ``novel`` and ``familiar``: ``exact_set`` on samples with and without combinations
        that training never showed; ``cider`` and ``bleu4`` against all references; ``chair_s`` and
        ``chair_i``, where lower is better.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> samples = open_samples("mini-image-caption", n=10)
    >>> scores = score_captions(samples, [sample.references[0] for sample in samples])
    >>> scores["exact_set"].value, scores["chair_i"].value
    (1.0, 0.0)
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for sample, prediction in zip(samples, predictions, strict=True):
        for name, full in _EXACT.items():
            groups[name].append(float(_is_exact(sample, prediction, full=full)))
        groups["novel" if sample.truth["novel"] else "familiar"].append(groups["exact_set"][-1])
        nouns: Counter[str] = Counter()
        for (noun, *_), count in count_named_entities(prediction, sample.modality).items():
            nouns[noun] += count
        true_nouns = Counter(e["noun"] for e in sample.truth["entities"])
        groups["exact_nouns"].append(float(nouns == true_nouns))
    scores = {name: compute_mean_score(values) for name, values in groups.items()}
    scores |= score_cider_bleu(predictions, [sample.references for sample in samples])
    scores |= score_chair(count_chair_mentions(samples, predictions))
    return dict(sorted(scores.items()))


def objects_of(sample: Sample) -> tuple[Mapping[str, str], Set[str]]:
    """Return the names of all objects with their nouns, and the nouns present in a sample.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> names, present = objects_of(open_samples("mini-image-caption", n=1)[0])
    >>> names["disc"], present <= set(names.values())
    ('circle', True)
    """
    nouns = get_domain(sample.truth["modality"]).nouns
    present = {entity["noun"] for entity in sample.truth["entities"]}
    return map_object_names(nouns, NOUN_SYNONYMS), present


def boxes_of(sample: Sample) -> dict[str, tuple[Box, ...]]:
    """Return where the objects of a picture are: the quadrants that the truth names.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> boxes_of(open_samples("mini-image-caption", n=1)[0])
    {'square': ((0.5, 0.5, 1.0, 1.0),)}
    """
    boxes: dict[str, tuple[Box, ...]] = {}
    for entity in sample.truth["entities"]:
        if "place" in entity:
            top = 0.5 * entity["place"].startswith("bottom")
            left = 0.5 * entity["place"].endswith("right")
            own = boxes.get(entity["noun"], ())
            boxes[entity["noun"]] = (*own, (left, top, left + 0.5, top + 0.5))
    return boxes


def score_caption(sample: Sample, caption: str) -> dict[str, float]:
    """Score one caption against the truth of its sample.

    Returns
    -------
    dict of str to float
        ``exact_set`` and ``exact_full`` (0 or 1), ``absent_named`` (mentions of absent objects) and
        ``named`` (mentions of any object).

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> sample = open_samples("mini-image-caption", n=1)[0]
    >>> score_caption(sample, sample.references[0])["exact_full"]
    1.0
    """
    scores = {name: float(_is_exact(sample, caption, full=full)) for name, full in _EXACT.items()}
    absent, named = count_chair_mentions([sample], [caption])[0]
    return scores | {"absent_named": float(absent), "named": float(named)}
