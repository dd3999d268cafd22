"""Samples told in words: what a language model can answer without perceiving anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ima.data.samples import Sample
from ima.drawings.actions import ClipContent
from ima.drawings.clip_wording import tell_clip
from ima.drawings.instrument_phrases import Phrase
from ima.drawings.sound_contents import Event
from ima.drawings.sound_wording import tell_sound
from ima.drawings.spoken import Sentence
from ima.drawings.wording import tell_scene

#: Demonstrations of each kind of question, and of captions.
_DEMONSTRATIONS = 2


def tell_truth(sample: Sample) -> str:
    """Tell what a picture or a clip shows, or what is heard, in one sentence, from its truth.

    Parameters
    ----------
    sample : Sample
        A sample of drawings or sounds, with its truth.

    Examples
    --------
    >>> entities = [{"noun": "dog", "count": 2, "action": "grow"}]
    >>> truth = {"entities": entities, "in_turn": False, "ground": "snow"}
    >>> tell_truth(Sample("0", "video", "qa", "", ("two",), truth))
    'In the clip in the snow, two dogs grow.'
    """
    truth = sample.truth
    if sample.modality == "audio":
        return tell_sound([_read_event(record) for record in truth["entities"]])
    if sample.modality == "video":
        kinds = tuple((each["noun"], each["count"], each["action"]) for each in truth["entities"])
        return tell_clip(ClipContent(kinds, truth["in_turn"], truth["ground"]))
    return tell_scene(
        [(each["noun"], each["count"]) for each in truth["entities"]], truth["ground"]
    )


def _read_event(record: Mapping[str, Any]) -> Event:
    if record["source"] == "speech":
        return Sentence(record["noun"], group="", template="")
    return Phrase(record["noun"], record["phrase"], record["tempo"], record["root"])


def tell_sample(sample: Sample) -> Sample:
    """Return the same sample with its picture, clip or sound told in words before the prompt.

    Examples
    --------
    >>> truth = {"entities": [{"noun": "owl", "count": 1}], "ground": "sky"}
    >>> sample = Sample("0", "image", "qa", "Question: Can it fly? Answer:", ("yes",), truth)
    >>> tell_sample(sample).prompt
    'The picture shows an owl in the sky. Question: Can it fly? Answer:'
    """
    prompt = f"{tell_truth(sample)} {sample.prompt}"
    return replace(sample, modality="text", prompt=prompt, media=None)


def choose_demonstrations(samples: Sequence[Sample]) -> list[Sample]:
    """Return the first two samples of each kind of question, or the first two captions, in order.

    Two samples of a question about presence are a pair: one is answered yes, one no.

    Examples
    --------
    >>> samples = [
    ...     Sample(f"{kind}-{i}", "image", "qa", "", ("x",), {"question": {"kind": kind}})
    ...     for i in range(3) for kind in ("count", "side")
    ... ]
    >>> [sample.id for sample in choose_demonstrations(samples)]
    ['count-0', 'side-0', 'count-1', 'side-1']
    """
    seen = Counter[str]()
    chosen = []
    for sample in samples:
        kind = sample.truth.get("question", {}).get("kind", sample.task)
        if seen[kind] < _DEMONSTRATIONS:
            chosen.append(sample)
        seen[kind] += 1
    return chosen


def write_demonstrations(samples: Sequence[Sample]) -> str:
    """Write samples told in words with their answers, a line each.

    A language model learns from them the form of an answer.

    Parameters
    ----------
    samples : sequence of Sample
        Samples of one task, with truth and references.

    Examples
    --------
    >>> truth = {"entities": [{"noun": "owl", "count": 1}], "ground": "sky"}
    >>> sample = Sample("0", "image", "qa", "Question: Can it fly? Answer:", ("yes",), truth)
    >>> print(write_demonstrations([sample]), end="")
    The picture shows an owl in the sky. Question: Can it fly? Answer: yes
    """
    return "".join(f"{tell_sample(own).prompt} {own.references[0]}\n" for own in samples)
