"""Words for what happens in a clip: captions, a clip told in words, and what a caption says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ima.drawings.actions import ACTIONS, ClipContent
from ima.drawings.mentions import split_mentions
from ima.drawings.wording import count_noun, say_place
from ima.metrics.cider_bleu import tokenize_captions

CLIP_PROMPT = "In the clip,"
#: Words of a caption that tell an action, by the name of the action.
_ACTION_WORDS = {
    word: name
    for name, words in {
        "left": "left",
        "right": "right",
        "up": "up upwards rises rise",
        "down": "down downwards falls fall",
        "grow": "grows grow growing",
        "shrink": "shrinks shrink shrinking",
        "spin": "spins spin spinning turns turn rotates rotate",
        "appear": "appears appear",
        "disappear": "disappears disappear vanishes vanish",
        "still": "still",
    }.items()
    for word in words.split()
}


def say_action(noun: str, count: int, action: str, *, linked: bool = False) -> str:
    """Say what a kind does, as a sentence or as a noun phrase.

    Examples
    --------
    >>> say_action("dog", 2, "left"), say_action("owl", 1, "spin", linked=True)
    ('two dogs move to the left', 'an owl that spins')
    """
    verb = ACTIONS[action].one if count == 1 else ACTIONS[action].several
    return f"{count_noun(noun, count)} {'that ' if linked else ''}{verb}"


def make_clip_captions(content: ClipContent) -> tuple[str, ...]:
    """Return captions of a clip; the first is the canonical one.

    Parameters
    ----------
    content : ClipContent
        What happens, its kinds in order.

    Returns
    -------
    tuple of str
        Each goes on after "In the clip,".

    Examples
    --------
    >>> kinds = (("dog", 1, "up"), ("drum", 1, "spin"))
    >>> make_clip_captions(ClipContent(kinds, False, "grass"))[:2]
    ('a dog moves up and a drum spins', 'a drum spins and a dog moves up')
    >>> make_clip_captions(ClipContent(kinds, True, "grass"))[:2]
    ('a dog moves up, then a drum spins', 'first a dog moves up, then a drum spins')
    """
    said = [say_action(*kind) for kind in content.kinds]
    linked = " and ".join(say_action(*kind, linked=True) for kind in content.kinds)
    place = say_place(content.ground)
    if len(said) == 1:
        return (said[0], f"{said[0]} {place}", f"we see {linked}", f"{place}, {said[0]}")
    first, second = said
    if content.in_turn:
        return (
            f"{first}, then {second}",
            f"first {first}, then {second}",
            f"{second} after {first}",
            f"{place}, {first}, and then {second}",
        )
    actions = {action for _, _, action in content.kinds}
    things = " and ".join(count_noun(noun, count) for noun, count, _ in content.kinds)
    both = [f"{things} {ACTIONS[actions.pop()].several}"] if len(actions) == 1 else []
    return (
        f"{first} and {second}",
        f"{second} and {first}",
        f"while {first}, {second}",
        f"we see {linked}",
        f"{place}, {first} and {second}",
        *both,
    )


def tell_clip(content: ClipContent) -> str:
    """Tell a clip in a sentence.

    Examples
    --------
    >>> kinds = (("dog", 1, "left"), ("drum", 1, "spin"))
    >>> tell_clip(ClipContent(kinds, True, "grass"))
    'In the clip on the grass, first a dog moves to the left, then a drum spins.'
    """
    said = [say_action(*kind) for kind in content.kinds]
    place = f"In the clip {say_place(content.ground)},"
    if content.in_turn:
        return f"{place} first {said[0]}, then {said[1]}."
    return f"{place} {' and '.join(said)}."


def read_actions(caption: str) -> tuple[tuple[str, int, str], ...]:
    """Read what a caption says: nouns, how many of each, and the action after each.

    Parameters
    ----------
    caption : str
        Any text.

    Returns
    -------
    tuple of (str, int, str)
        In the order of the text, or of time where the text says "after". An action that is missing
        is ``""``.

    Examples
    --------
    >>> read_actions("Two dogs move to the left, then an owl spins.")
    (('dog', 2, 'left'), ('owl', 1, 'spin'))
    >>> read_actions("a dog and an owl spin")
    (('dog', 1, 'spin'), ('owl', 1, 'spin'))
    >>> read_actions("an owl spins after two dogs")
    (('dog', 2, ''), ('owl', 1, 'spin'))
    """
    words = tokenize_captions([caption])[0].split()
    mentions = split_mentions(words)
    starts = [*(mention.end - 1 for mention in mentions), len(words)][1:]
    read: list[tuple[str, int, str]] = []
    for mention, start in reversed(list(zip(mentions, starts, strict=True))):
        between = words[mention.end : start]
        action = next((_ACTION_WORDS[word] for word in between if word in _ACTION_WORDS), "")
        if not action and read and between[:1] == ["and"]:
            action = read[-1][2]
        read.append((mention.noun, mention.count, action))
    return tuple(read if "after" in words else read[::-1])


def score_clip_caption(truth: Mapping[str, Any], caption: str) -> dict[str, float]:
    """Score what a caption says of a clip.

    Parameters
    ----------
    truth : mapping
        Truth of the clip.
    caption : str
        What a model says.

    Returns
    -------
    dict of str to float
        ``exact_set``: 1 if the caption names exactly the nouns that are there, in any number.
        ``exact_actions``: with what each does. ``exact_full``: with actions, numbers and order.

    Examples
    --------
    >>> entities = [{"noun": "dog", "count": 1, "action": "spin"}]
    >>> truth = {"entities": entities, "in_turn": False, "ground": "snow"}
    >>> score_clip_caption(truth, "two dogs spin")
    {'exact_set': 1.0, 'exact_actions': 1.0, 'exact_full': 0.0}
    """
    said = read_actions(caption)
    true = [(each["noun"], each["count"], each["action"]) for each in truth["entities"]]
    words = tokenize_captions([caption])[0].split()
    ordered = bool({"then", "after"} & set(words)) == truth["in_turn"]
    same = list(said) == true if truth["in_turn"] else sorted(said) == sorted(true)
    return {
        "exact_set": float({noun for noun, _, _ in said} == {noun for noun, _, _ in true}),
        "exact_actions": float(
            sorted((noun, action) for noun, _, action in said)
            == sorted((noun, action) for noun, _, action in true)
        ),
        "exact_full": float(same and ordered),
    }
