"""Texts of the two worlds for language models alone, and the models that a page compares on them.

The texts stand outside what the worlds register, because no cache depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ima.data.choices import TextSuite, draw_sums
from ima.errors import UnknownNameError
from ima.models import list_models, zoo

_SUMS = 40
_ON_TEXTS = ", on texts without pictures"
#: The world whose texts fit a language model of the zoo.
LANGUAGE_WORLDS: Mapping[str, str] = {"llama-mini": "mini", "smollm2": "drawings"}


def _make_drawings_suite() -> TextSuite:
    from ima.drawings.commonsense import list_commonsense_questions
    from ima.drawings.passages import list_passages

    return TextSuite(
        questions=list_commonsense_questions(),
        sums=draw_sums(n=_SUMS),
        passages=list_passages(),
        withheld="Answer:",
    )


def _make_miniature_suite() -> TextSuite:
    from ima.miniature.text_questions import make_text_suite

    return make_text_suite()


_SUITES: Mapping[str, Callable[[], TextSuite]] = {
    "drawings": _make_drawings_suite,
    "mini": _make_miniature_suite,
}


def open_text_suite(world: str) -> TextSuite:
    """Return the questions, sums and passages of a world.

    Parameters
    ----------
    world : str
        ``drawings``: plain English; ``mini``: the language of the miniature world.

    Raises
    ------
    UnknownNameError
        If there is no such world.

    Examples
    --------
    >>> len(open_text_suite("drawings").questions)
    200
    """
    if world not in _SUITES:
        raise UnknownNameError.among(kind="world", asked=world, available=_SUITES)
    return _SUITES[world]()


def list_text_arms(language: str) -> dict[str, str]:
    """Return the multitask models of the zoo that read pictures with a language model.

    Parameters
    ----------
    language : str
        Zoo name of the language model, or name of a part.

    Returns
    -------
    dict of str to str
        By name of the model, what was tuned: see :func:`describe_tuning`.

    Examples
    --------
    >>> list_text_arms("llama-mini")["llava-mini-3"]  # doctest: +SKIP
    'frozen'
    """
    arms = {}
    for record in list_models():
        card = zoo.read_card(zoo.find_model_folder(str(record["name"])))
        made_of = str(card.get("made_of", {}).get("language", ""))
        if card.get("setup") == "MT" and made_of.removeprefix("language/") == language:
            arms[str(record["name"])] = describe_tuning(card)
    return arms


def describe_tuning(card: Mapping[str, Any]) -> str:
    """Say what of a language model was tuned, from the card of a model.

    Parameters
    ----------
    card : mapping
        ``tuned`` and ``recipe``.

    Examples
    --------
    >>> describe_tuning({"tuned": True, "recipe": {"lora_rank": 8, "text_only": True}})
    'adapter of all linear layers, on texts without pictures'
    """
    if not card.get("tuned"):
        return "frozen"
    recipe = card["recipe"]
    if recipe.get("lora_rank") is None:
        return "all weights tuned"
    layers = recipe.get("lora_layers", "all")
    which = "queries and values" if layers == "query-value" else "all linear layers"
    return f"adapter of {which}" + (_ON_TEXTS if recipe.get("text_only") else "")


def find_text_controls(tuning: Mapping[str, str]) -> dict[str, str]:
    """Find the control of each arm: tuned in the same layers on the same texts, without pictures.

    Parameters
    ----------
    tuning : mapping of str to str
        By name of the model, what was tuned: from :func:`list_text_arms`, of one language model.

    Returns
    -------
    dict of str to str
        By name of an arm, that of its control; arms without one are left out.

    Examples
    --------
    >>> find_text_controls({"a": "frozen", "b": "adapter of all linear layers",
    ...                     "c": "adapter of all linear layers, on texts without pictures"})
    {'b': 'c'}
    """
    controls = {
        how.removesuffix(_ON_TEXTS): name for name, how in tuning.items() if how.endswith(_ON_TEXTS)
    }
    return {name: controls[how] for name, how in tuning.items() if how in controls}
