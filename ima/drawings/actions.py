"""Actions of things in clips, and contents of clips: who does what, in turn or together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ima.data.worlds import choose_content_split
from ima.drawings.contents import draw_ground, draw_nouns


@dataclass(frozen=True)
class Action:
    """What a thing does in a clip.

    Parameters
    ----------
    one, several : str
        The verb with its complement: what one thing does, and what several do.
    does, do : str
        The answers to "What does it do?" and "What do they do?".
    direction : (int, int)
        Where it moves, x and y, y downwards.
    """

    one: str
    several: str
    does: str
    do: str
    direction: tuple[int, int] = (0, 0)


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "left": Action("moves to the left", "move to the left", "moves", "move", (-1, 0)),
        "right": Action("moves to the right", "move to the right", "moves", "move", (1, 0)),
        "up": Action("moves up", "move up", "moves", "move", (0, -1)),
        "down": Action("moves down", "move down", "moves", "move", (0, 1)),
        "grow": Action("grows", "grow", "grows", "grow"),
        "shrink": Action("shrinks", "shrink", "shrinks", "shrink"),
        "spin": Action("spins", "spin", "spins", "spin"),
        "appear": Action("appears", "appear", "appears", "appear"),
        "disappear": Action("disappears", "disappear", "disappears", "disappear"),
        "still": Action("stays still", "stay still", "stays still", "stay still"),
    }
)
DIRECTIONS = tuple(name for name, action in ACTIONS.items() if any(action.direction))
#: Moves are half of all actions; a thing stays still only beside one that does something.
_WEIGHTS = {name: 0.13 if name in DIRECTIONS else 0.08 for name in ACTIONS}
_KIND_RATE, _TURN_RATE, _TWO_RATE = 0.7, 0.4, 0.3
_MAX_DRAWINGS = 3


@dataclass(frozen=True)
class ClipContent:
    """What happens in a clip, without places and artists.

    Parameters
    ----------
    kinds : tuple of (str, int, str)
        Noun, how many of it, and the name of their action; in the order of time if in turn.
    in_turn : bool
        Whether the second kind acts after the first, instead of together with it.
    ground : str
        What is in the background.
    """

    kinds: tuple[tuple[str, int, str], ...]
    in_turn: bool
    ground: str

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns, in the order of the kinds."""
        return tuple(noun for noun, _, _ in self.kinds)

    @property
    def split(self) -> str:
        """The split that alone may show this content.

        Examples
        --------
        >>> kinds = (("dog", 1, "spin"), ("cat", 1, "grow"))
        >>> together = ClipContent(kinds, False, "snow")
        >>> together.split == ClipContent(kinds[::-1], False, "snow").split
        True
        """
        words = [f"{noun}*{number}*{action}" for noun, number, action in self.kinds]
        if self.in_turn:
            return choose_content_split(*words, self.ground, "in turn")
        return choose_content_split(*sorted(words), self.ground)


def draw_clip_content(split: str, *, variety: str, rng: np.random.Generator) -> ClipContent:
    """Draw what happens in a clip that belongs to a split.

    Parameters
    ----------
    split, variety : str
        As :func:`ima.drawings.contents.draw_content` takes them.
    rng : numpy.random.Generator
        Source of randomness. Drawing repeats until the content belongs to the split.

    Examples
    --------
    >>> draw_clip_content("test", variety="known", rng=np.random.default_rng(0)).split
    'test'
    """
    names, weights = list(_WEIGHTS), np.cumsum(list(_WEIGHTS.values()))
    while True:
        n_kinds = 2 if variety == "unseen-pairs" or rng.random() < _KIND_RATE else 1
        nouns = draw_nouns(n_kinds, variety=variety, rng=rng)
        counts = [2 if rng.random() < _TWO_RATE else 1 for _ in nouns]
        drawn = [names[int(np.searchsorted(weights, rng.random() * weights[-1]))] for _ in nouns]
        in_turn = n_kinds == 2 and bool(rng.random() < _TURN_RATE)
        if sum(counts) > _MAX_DRAWINGS or not _is_possible(drawn, in_turn=in_turn):
            continue
        kinds = tuple(zip(nouns, counts, drawn, strict=True))
        content = ClipContent(kinds, in_turn, draw_ground(nouns, rng))
        if content.split == split:
            return content


def _is_possible(actions: Sequence[str], *, in_turn: bool) -> bool:
    n_still = sum(action == "still" for action in actions)
    return n_still < len(actions) and not (in_turn and n_still)
