"""What studies need of the world that a model's pictures come from: questions, texts and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ima.data.picture_questions import PictureQuestion, QuestionWording
from ima.data.samples import Sample
from ima.drawings import several_drawings
from ima.drawings.caption_scores import score_kind_overlap
from ima.drawings.pictures import describe_drawing
from ima.errors import UnknownNameError
from ima.miniature import several_pictures
from ima.miniature.caption_metrics import score_object_overlap
from ima.miniature.datasets import make_description


@dataclass(frozen=True)
class PictureWorld:
    """A world whose pictures can be asked about, several at once, and described in a text.

    Parameters
    ----------
    open_questions : callable
        ``open_questions(split, n=…, seed=…)`` returns the first questions of a split.
    wording : QuestionWording
        How the questions are worded.
    shows : str
        What a picture shows at most, in words.
    asks : str
        The attribute that questions ask for, in words.
    describe : callable
        ``describe(sample)`` returns the text that codes of its picture are predicted from.
    score_overlap : callable
        ``score_overlap(sample, caption)`` returns the overlap of named and true objects.
    counts : str
        What this overlap counts, in words.
    """

    open_questions: Callable[..., list[PictureQuestion]]
    wording: QuestionWording
    shows: str
    asks: str
    describe: Callable[[Sample], Sample]
    score_overlap: Callable[[Sample, str], float]
    counts: str

    def describe_pictures(self, question: PictureQuestion) -> str:
        """Return in words what the pictures of a question show, one picture after the other.

        Parameters
        ----------
        question : PictureQuestion
            A question of this world.
        """
        attribute = self.wording.attribute_name
        return " | ".join(
            ", ".join(f"{thing['noun']} ({thing[attribute]})" for thing in things)
            for things in question.question.truth["pictures"]
        )


_WORLDS: Mapping[str, PictureWorld] = {
    "drawings": PictureWorld(
        several_drawings.open_drawing_questions,
        several_drawings.WORDING,
        shows="up to five drawings of up to three kinds, on a background",
        asks="the background of a thing",
        describe=describe_drawing,
        score_overlap=score_kind_overlap,
        counts="nouns, whatever their number",
    ),
    "mini": PictureWorld(
        several_pictures.open_picture_questions,
        several_pictures.WORDING,
        shows="up to four objects, each with a colour, a size and a place",
        asks="the colour of a thing",
        describe=make_description,
        score_overlap=score_object_overlap,
        counts="objects, each a noun with its colour",
    ),
}
#: By data set of pictures, its world.
_BY_DATASET = {
    f"{name}-image-{task}": world for name, world in _WORLDS.items() for task in ("caption", "qa")
}


def find_picture_world(dataset: str) -> PictureWorld:
    """Return the world of a data set of pictures.

    Parameters
    ----------
    dataset : str
        As the card of a model names it.

    Raises
    ------
    UnknownNameError
        If no questions about several pictures of this data set are known.

    Examples
    --------
    >>> world = find_picture_world("mini-image-caption")
    >>> (question,) = world.open_questions("test", n=1)
    >>> question.question.truth["question"]["kind"], world.asks
    ('attribute', 'the colour of a thing')
    """
    if dataset not in _BY_DATASET:
        raise UnknownNameError.among("data set of pictures", dataset, _BY_DATASET)
    return _BY_DATASET[dataset]


def describe_two_pass_training(card: Mapping[str, Any]) -> dict[str, str]:
    """Return how a model of two passes was trained, and on what, by name of the setting.

    Parameters
    ----------
    card : mapping
        Card of a model that :func:`ima.interventions.browsing.load_two_pass_model` loads, of
        either zoo.

    Raises
    ------
    UnknownNameError
        If its data set is of no world with questions about several pictures.

    Examples
    --------
    >>> card = {
    ...     "dataset": "mini-image-caption", "configuration": {"queries": 2},
    ...     "recipe": {"pool": 8000, "training": {"steps": 1100}, "batch_size": 24,
    ...                "frozen_layers": 2, "one_pass_ratio": 0.25, "blank_ratio": 0.25},
    ... }
    >>> describe_two_pass_training(card)["training steps"]
    '1100'
    """
    world, recipe = find_picture_world(card["dataset"]), flatten_recipe(card["recipe"])
    return {
        "a picture shows": world.shows,
        "attribute": world.asks,
        "perceptual tokens of a picture": str(card["configuration"]["queries"]),
        "training pictures": str(count_training_samples(recipe)),
        "training steps": str(recipe["steps"]),
        "questions in a step": str(recipe["batch_size"]),
        "first layers of the connector that stayed frozen": str(recipe["frozen_layers"]),
        "rows read in one pass": f"{recipe['one_pass_ratio']:.0%}",
        "of the other rows, with blank pictures in the second pass": f"{recipe['blank_ratio']:.0%}",
    }


def describe_code_training(card: Mapping[str, Any]) -> dict[str, str]:
    """Return how a model with codes, or its control, was trained, by name of the setting.

    Parameters
    ----------
    card : mapping
        Card of a model that :func:`ima.models.code_model.load_code_model` loads, of either zoo.

    Raises
    ------
    UnknownNameError
        If its data set is of no known world of pictures.

    Examples
    --------
    >>> card = {
    ...     "dataset": "mini-image-caption", "model": "llama-mini/vit/image-caption",
    ...     "recipe": {"pool": 6000, "steps": 400, "batch_size": 16, "side": 4, "pixels": 64},
    ... }
    >>> describe_code_training(card)["tiles of a picture, and codes that it reads"]
    '4 × 4'
    """
    world, recipe = find_picture_world(card["dataset"]), flatten_recipe(card["recipe"])
    side = recipe["side"]
    return {
        "encoder and language model of": card["model"],
        "a picture shows": world.shows,
        "overlap counts": world.counts,
        "tiles of a picture, and codes that it reads": f"{side} × {side}",
        "pixels of a decoded picture": f"{recipe['pixels']} × {recipe['pixels']}",
        "training pictures": str(count_training_samples(recipe)),
        "steps in which tiles learn words, without the language model": str(
            recipe.get("word_steps", 0)
        ),
        "a vector of its tile is added to each row that is read": (
            "yes" if "place_rate" in recipe else "no"
        ),
        "training steps": str(recipe["steps"]),
        "pictures in a step that are read, and as many that are drawn": str(recipe["batch_size"]),
    }


def count_training_samples(recipe: Mapping[str, Any]) -> int:
    """Return the number of training samples, which recipes of the miniature zoo call a pool.

    Parameters
    ----------
    recipe : mapping
        From :func:`flatten_recipe`.

    Examples
    --------
    >>> count_training_samples({"pool": 8}), count_training_samples({"samples": 9})
    (8, 9)
    """
    return int(recipe["pool" if "pool" in recipe else "samples"])


def flatten_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe without its groups, by their own names.

    Parameters
    ----------
    recipe : mapping
        As a card holds it. Of two settings of one name, the later one remains.

    Examples
    --------
    >>> flatten_recipe({"pool": 8, "training": {"steps": 9}})
    {'pool': 8, 'steps': 9}
    """
    settings: dict[str, Any] = {}
    for name, value in recipe.items():
        settings |= flatten_recipe(value) if isinstance(value, Mapping) else {name: value}
    return settings
