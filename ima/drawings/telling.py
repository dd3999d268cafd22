"""Samples told in words: what a language model can answer without perceiving anything."""

from __future__ import annotations

from dataclasses import replace

from ima.data.samples import Sample
from ima.drawings.actions import ClipContent
from ima.drawings.clip_wording import tell_clip
from ima.drawings.wording import tell_scene


def tell_truth(sample: Sample) -> str:
    """Tell what a picture or a clip shows in one sentence, from its truth.

    Parameters
    ----------
    sample : Sample
        A sample of this world, with its truth.

    Examples
    --------
    >>> entities = [{"noun": "dog", "count": 2, "action": "grow"}]
    >>> truth = {"entities": entities, "in_turn": False, "ground": "snow"}
    >>> tell_truth(Sample("0", "video", "qa", "", ("two",), truth))
    'In the clip in the snow, two dogs grow.'
    """
    truth = sample.truth
    if sample.modality == "video":
        kinds = tuple((each["noun"], each["count"], each["action"]) for each in truth["entities"])
        return tell_clip(ClipContent(kinds, truth["in_turn"], truth["ground"]))
    return tell_scene(
        [(each["noun"], each["count"]) for each in truth["entities"]], truth["ground"]
    )


def tell_sample(sample: Sample) -> Sample:
    """Return the same sample with its picture or clip told in words before the prompt.

    Examples
    --------
    >>> truth = {"entities": [{"noun": "owl", "count": 1}], "ground": "sky"}
    >>> sample = Sample("0", "image", "qa", "Question: Can it fly? Answer:", ("yes",), truth)
    >>> tell_sample(sample).prompt
    'The picture shows an owl in the sky. Question: Can it fly? Answer:'
    """
    prompt = f"{tell_truth(sample)} {sample.prompt}"
    return replace(sample, modality="text", prompt=prompt, media=None)
