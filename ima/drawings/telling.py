"""Samples told in words: what a language model can answer without perceiving anything."""

from __future__ import annotations

from collections.abc import Mapping
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
