"""Test samples of all modalities that a model reads, of the world that it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ima.data.samples import Sample, open_samples
from ima.drawings.line_drawings import LINE_DRAWING, draw_lines
from ima.errors import UnknownNameError
from ima.miniature.views import open_scene_samples
from ima.studies.picture_worlds import count_training_samples, flatten_recipe

_Pixels = npt.NDArray[np.uint8]
_FRAME_NAMES = {0: "first frame", -1: "last frame"}


@dataclass(frozen=True)
class ModalityWorld:
    """A world of captions whose samples come in several modalities.

    Parameters
    ----------
    open_test_samples : callable
        ``open_test_samples(card, modality, n=…)`` returns the first samples of the test split.
    metric : str
        The score of single captions that counts as exact.
    exact : str
        What an exact caption names, in words.
    max_new_tokens : int
        Longest caption, in tokens.
    shows : mapping of str to str
        By modality, what a sample is, in words.
    pictured : tuple of (str, int, int or None)
        What a figure of the modalities shows: modality, number of the sample, and which frame of a
        clip; None for a picture.
    """

    open_test_samples: Callable[..., list[Sample]]
    metric: str
    exact: str
    max_new_tokens: int
    shows: Mapping[str, str]
    pictured: tuple[tuple[str, int, int | None], ...]

    def list_pictures(self, samples: Mapping[str, Sequence[Sample]]) -> list[tuple[str, _Pixels]]:
        """Return pictures of the modalities with their titles: views of the same few scenes.

        Parameters
        ----------
        samples : mapping of str to sequence of Sample
            By modality, test samples of this world; at least three. What a model does not read is
            left out.

        Returns
        -------
        list of (str, ndarray)
            Titles, and pixels ``(height, width, channel)`` uint8.
        """
        shown = []
        for modality, number, frame in self.pictured:
            if modality not in samples:
                continue
            medium = samples[modality][number].load()
            if frame is None:
                shown.append((modality, medium))
            else:
                shown.append((_FRAME_NAMES[frame], medium[frame]))
        return shown


def _open_scenes(card: Mapping[str, Any], modality: str, *, n: int) -> list[Sample]:
    del card  # It trained on the same world.
    return open_scene_samples(modality, "test", n=n)


def _open_drawings(card: Mapping[str, Any], modality: str, *, n: int) -> list[Sample]:
    """Line drawings are those of the test pictures; a training keeps the two apart."""
    samples = open_samples(f"{card['recipe']['datasets'][modality]}:test", n=n)
    return list(map(draw_lines, samples)) if modality == LINE_DRAWING else list(samples)


_WORLDS: Mapping[str, ModalityWorld] = {
    "mini-image-caption": ModalityWorld(
        _open_scenes,
        metric="exact_full",
        exact="all objects or sounds, with all attributes that can be perceived, and no others",
        max_new_tokens=48,
        shows={
            "image": "a picture of up to four objects",
            "video": "a clip of up to three objects that move",
            "audio": "up to three sounds, one after the other",
            "depth": "how near each point of a picture's scene is; no colours, and none in "
            "captions",
            "drawing": "a picture's objects as outlines in chalk, by an unsteady hand",
            "motion": "a clip in one picture: red tells how long a point was covered, green how "
            "late, blue how early; no colours of objects, and none in captions",
        },
        pictured=(
            ("image", 2, None), ("depth", 2, None), ("drawing", 2, None),
            ("video", 2, 0), ("video", 2, -1), ("motion", 2, None),
        ),
    ),
    "drawings-image-caption": ModalityWorld(
        _open_drawings,
        metric="exact_set",
        exact="the kinds of all things, in any number, and no others; of sounds, all instruments "
        "with what they play and all spoken nouns, and no others",
        max_new_tokens=32,
        shows={
            "image": "a picture of up to five drawings of up to three kinds, on a background",
            "video": "a clip of drawings that move or change, on a background",
            "audio": "speech or an instrument, or two of them one after the other",
            "drawing": "a picture's lines, computed from its pixels: white where the brightness "
            "changes fastest; no colours",
        },
        pictured=(
            ("image", 1, None), ("drawing", 1, None), ("video", 1, 0),
            ("image", 2, None), ("drawing", 2, None), ("video", 1, -1),
        ),
    ),
}  # fmt: skip


def find_modality_world(dataset: str) -> ModalityWorld:
    """Return the world of the data set that a model of several modalities was trained on.

    Parameters
    ----------
    dataset : str
        Its captions of pictures, as the card of a model names them.

    Raises
    ------
    UnknownNameError
        If no other modalities of its world are known.

    Examples
    --------
    >>> world = find_modality_world("mini-image-caption")
    >>> (sample,) = world.open_test_samples({}, "depth", n=1)
    >>> sample.id, world.metric
    ('mini-depth-test-000000', 'exact_full')
    """
    if dataset not in _WORLDS:
        raise UnknownNameError.among("data set with several modalities", dataset, _WORLDS)
    return _WORLDS[dataset]


def describe_modalities(card: Mapping[str, Any]) -> pd.DataFrame:
    """Tabulate what the modalities of a model show, and whose encoder reads them.

    Parameters
    ----------
    card : mapping
        Card of a model that :func:`ima.models.unified.load_unified_model` loads, of either zoo.

    Returns
    -------
    pandas.DataFrame
        ``modality``, ``a sample is`` and ``encoder``.

    Raises
    ------
    UnknownNameError
        If its data set is of no world with several modalities.

    Examples
    --------
    >>> reader = {"medium": "image", "encoder": "encoders/vit", "frames": None}
    >>> card = {"dataset": "mini-image-caption", "readers": {"drawing": reader}}
    >>> describe_modalities(card)["encoder"].tolist()
    ['vit']
    """
    world = find_modality_world(card["dataset"])
    return pd.DataFrame(
        {
            "modality": modality,
            "a sample is": world.shows[modality],
            "encoder": _describe_reader(reader),
        }
        for modality, reader in card["readers"].items()
    )


def _describe_reader(reader: Mapping[str, Any]) -> str:
    name, frames = reader["encoder"], reader["frames"]
    # An encoder of the zoo, or a model whose encoder it is.
    own = name.removeprefix("encoders/") if name.startswith("encoders/") else f"that of {name}"
    averaged = "" if frames is None else f", tokens averaged over {frames} frames"
    return f"{own}{averaged}"


def describe_unified_training(
    shared: Mapping[str, Any], separate: Mapping[str, Any]
) -> dict[str, str]:
    """Return how two models of several modalities were trained, by name of the setting.

    Parameters
    ----------
    shared, separate : mapping
        Cards of a model with shared experts and of its control, of either zoo.

    Raises
    ------
    UnknownNameError
        If their data set is of no world with several modalities.

    Examples
    --------
    >>> sizes = {"queries": 10, "experts": 3, "layers": 2}
    >>> recipe = {"pool": 3000, "steps": 2000, "batch_size": 16, "first_ratio": 0.2}
    >>> card = {
    ...     "dataset": "mini-image-caption", "parameters": 90, "configuration": sizes,
    ...     "recipe": recipe,
    ... }
    >>> describe_unified_training(card, card)["layers that a sample passes"]
    '6 with one connector, 2 with separate ones'
    """
    world, recipe = find_modality_world(shared["dataset"]), flatten_recipe(shared["recipe"])
    sizes = shared["configuration"]
    samples = count_training_samples(recipe)
    weights = [f"{card['parameters']:,}" for card in (shared, separate)]
    layers = [sizes["layers"] * sizes["experts"], separate["configuration"]["layers"]]
    return {
        "an exact caption names": world.exact,
        "perceptual tokens of a sample": str(sizes["queries"]),
        "shared experts": str(sizes["experts"]),
        "layers of an expert": str(sizes["layers"]),
        "layers that a sample passes": "{} with one connector, {} with separate ones".format(
            *layers
        ),
        "weights": "{} with one connector, {} with separate ones".format(*weights),
        "training samples of each modality": f"{samples:,}",
        "training steps": f"{recipe['steps']:,}",
        "samples in a step": str(recipe["batch_size"]),
        "first steps, with pictures only": f"{recipe['first_ratio']:.0%}",
    }


def list_differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    """Return the names of the settings in which the recipes of two cards differ.

    Parameters
    ----------
    first, second : mapping
        Cards of models of one zoo.

    Examples
    --------
    >>> cards = [{"recipe": {"steps": 9, "shared": shared}} for shared in (True, False)]
    >>> list_differing_settings(*cards)
    {'shared'}
    """
    one, other = first["recipe"], second["recipe"]
    return {name for name in {*one, *other} if one.get(name) != other.get(name)}
