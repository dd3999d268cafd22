"""Documents about other things than scenes: lists, stories, arithmetic, instructions, facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ima.metrics.hallucination import pluralize_noun
from ima.miniature import lexicon as lx
from ima.miniature.speech import NUMBER_WORDS, add_article, join_phrases
from ima.miniature.world import OBJECT_COLOURS

_T = TypeVar("_T")
_Turn = tuple[str, str]
_Rng = np.random.Generator
#: The output of a writer: an opening text and turns of (prompt, answer).
_Page = tuple[str, list[_Turn]]


def _make_turn(text: str, answer: str) -> _Turn:
    """Return a question and its answer as a turn."""
    return (f"question : {text} answer :", answer)


def _draw_items(rng: _Rng, items: Sequence[str], n: int) -> list[str]:
    """Draw ``n`` distinct items."""
    return [items[i] for i in rng.choice(len(items), n, replace=False)]


def _draw_item(rng: _Rng, items: Sequence[_T]) -> _T:
    """Draw one item."""
    return items[int(rng.integers(len(items)))]


def _shuffle_items(rng: _Rng, items: Sequence[_T]) -> list[_T]:
    """Return the items in random order."""
    return [items[i] for i in rng.permutation(len(items))]


_WORDS = tuple(
    dict.fromkeys(lx.PERSON_NAMES + lx.THINGS + lx.FOODS + lx.LOCATIONS + lx.JOBS + OBJECT_COLOURS)
)


def _write_key_values(rng: _Rng) -> _Page:
    """List keys with one or two values each, then ask for the values of every key, twice."""
    n, width = int(rng.integers(2, 6)), int(rng.integers(1, 3))
    words = _draw_items(rng, _WORDS, n * (1 + width))
    rows = [words[i * (1 + width) : (i + 1) * (1 + width)] for i in range(n)]
    order = _shuffle_items(rng, range(n)) * 2
    return (
        " ; ".join(" ".join(r) for r in rows) + " .",
        [(f"recall : {rows[i][0]}", " ".join(rows[i][1:])) for i in order],
    )


def _write_possessions(rng: _Rng) -> _Page:
    """Say who has which thing, in which colour and where; somebody may give a thing away."""
    n = int(rng.integers(2, 5))
    names, things = _draw_items(rng, lx.PERSON_NAMES, n), _draw_items(rng, lx.THINGS, n)
    colours, places = _draw_items(rng, OBJECT_COLOURS, n), _draw_items(rng, lx.LOCATIONS, n)
    lines = [
        f"{a} has {add_article(f'{c} {t}')} and is in the {p} ."
        for a, c, t, p in zip(names, colours, things, places, strict=True)
    ]
    owner = list(names)
    if rng.random() < 0.5:
        i, j = (int(k) for k in rng.choice(n, 2, replace=False))
        lines.append(f"{names[i]} gives the {things[i]} to {names[j]} .")
        owner[i] = names[j]
    turns = []
    for i in _shuffle_items(rng, range(n)):
        turns += [
            _make_turn(f"who has the {things[i]} ?", owner[i]),
            _make_turn(f"what colour is the {things[i]} ?", colours[i]),
            _make_turn(f"where is {names[i]} ?", f"in the {places[i]}"),
        ]
    return " ".join(lines), _shuffle_items(rng, turns)[:8]


def _write_story(rng: _Rng) -> _Page:
    """Tell a short story and ask about it."""
    a, b = _draw_items(rng, lx.PERSON_NAMES, 2)
    job, day, weather = (_draw_item(rng, words) for words in (lx.JOBS, lx.DAYS, lx.WEATHER))
    thing, place, other = _draw_item(rng, lx.THINGS), *_draw_items(rng, lx.LOCATIONS, 2)
    colour, food = _draw_item(rng, OBJECT_COLOURS), _draw_item(rng, lx.FOODS)
    feeling, relief = _draw_item(rng, lx.OPPOSITES)
    text = (
        f"once there was {add_article(job)} whose name was {a} . on {day} , in the {weather} , "
        f"{a} went to the {place} and lost {add_article(f'{colour} {thing}')} . {a} was sad "
        f"and ate some {food} . then {b} found the {thing} in the {other} and brought it back . "
        f"the day had been {feeling} , but the evening was {relief} . {a} said thank you to {b} ."
    )
    turns = [
        _make_turn(f"who lost the {thing} ?", a),
        _make_turn(f"who found the {thing} ?", b),
        _make_turn(f"where did {b} find the {thing} ?", f"in the {other}"),
        _make_turn(f"where did {a} go ?", f"to the {place}"),
        _make_turn(f"what was the job of {a} ?", job),
        _make_turn(f"what colour was the {thing} ?", colour),
        _make_turn("which day was it ?", day),
        _make_turn(f"what did {a} eat ?", food),
        _make_turn("how was the evening ?", relief),
    ]
    return text, _shuffle_items(rng, turns)[:6]


def _write_arithmetic(rng: _Rng) -> _Page:
    """Ask for small sums and differences, in words and in digits."""
    turns = []
    for _ in range(int(rng.integers(4, 9))):
        a, b = sorted(int(k) for k in rng.integers(0, 6, 2))
        low, high = NUMBER_WORDS[a], NUMBER_WORDS[b]
        if rng.random() < 0.5:
            turns.append(_make_turn(f"what is {low} plus {high} ?", NUMBER_WORDS[a + b]))
        elif rng.random() < 0.5:
            turns.append(_make_turn(f"what is {high} minus {low} ?", NUMBER_WORDS[b - a]))
        else:
            turns.append((f"{a} + {b} =", str(a + b)))
    return "", turns


def _write_word_problem(rng: _Rng) -> _Page:
    """Ask how many things somebody has after getting or eating some."""
    lines, turns = [], []
    for name in _draw_items(rng, lx.PERSON_NAMES, 2):
        a, b = sorted(int(k) for k in rng.integers(0, 6, 2))
        food = pluralize_noun(_draw_item(rng, lx.FOODS[:12]))
        if rng.random() < 0.5:
            lines.append(f"{name} has {NUMBER_WORDS[b]} {food} and eats {NUMBER_WORDS[a]} .")
            left = b - a
        else:
            lines.append(f"{name} has {NUMBER_WORDS[a]} {food} and gets {NUMBER_WORDS[b]} more .")
            left = a + b
        turns.append(_make_turn(f"how many {food} does {name} have now ?", NUMBER_WORDS[left]))
    return " ".join(lines), turns


def _write_comparison(rng: _Rng) -> _Page:
    """Compare the sizes of animals, a fixed fact, and the ages of people, given in the text."""
    turns = []
    for _ in range(3):
        i, j = sorted(int(k) for k in rng.choice(len(lx.ANIMALS), 2, replace=False))
        small, large = lx.ANIMALS[i][0], lx.ANIMALS[j][0]
        pair = (small, large) if rng.random() < 0.5 else (large, small)
        word, answer = ("bigger", large) if rng.random() < 0.5 else ("smaller", small)
        text = f"which is {word} , {add_article(pair[0])} or {add_article(pair[1])} ?"
        turns.append(_make_turn(text, answer))
    names = _draw_items(rng, lx.PERSON_NAMES, 3)
    text = f"{names[0]} is older than {names[1]} . {names[1]} is older than {names[2]} ."
    turns.append(_make_turn("who is the oldest ?", names[0]))
    turns.append(_make_turn("who is the youngest ?", names[2]))
    return text, _shuffle_items(rng, turns)


def _write_counting(rng: _Rng) -> _Page:
    """Count how often each thing occurs in a list."""
    kinds = _draw_items(rng, lx.FOODS[:16] + lx.THINGS[:16], int(rng.integers(2, 4)))
    counts = [int(k) for k in rng.integers(1, 5, len(kinds))]
    row = [k for k, c in zip(kinds, counts, strict=True) for _ in range(c)]
    row = _shuffle_items(rng, row)
    turns = [
        _make_turn(f"how many {pluralize_noun(k)} are there ?", NUMBER_WORDS[c])
        for k, c in zip(kinds, counts, strict=True)
    ]
    return "there are : " + " , ".join(row) + " .", turns


def _write_negation(rng: _Rng) -> _Page:
    """Say what things are not, and what they are."""
    lines, turns = [], []
    for thing in _draw_items(rng, lx.THINGS, int(rng.integers(2, 4))):
        wrong, right, other = _draw_items(rng, OBJECT_COLOURS + lx.MATERIALS, 3)
        lines.append(f"the {thing} is not {wrong} but {right} .")
        value = _draw_item(rng, (wrong, right, other))
        turns.append(_make_turn(f"is the {thing} {value} ?", "yes" if value == right else "no"))
        turns.append(_make_turn(f"what is the {thing} ?", right))
    return " ".join(lines), _shuffle_items(rng, turns)


def _write_instruction(rng: _Rng) -> _Page:
    """Give instructions on a row of words: repeat it, reverse it, name one of its words."""
    turns = []
    for _ in range(int(rng.integers(2, 5))):
        words = _draw_items(rng, _WORDS, int(rng.integers(2, 6)))
        row = " ".join(words)
        task = _draw_item(rng, ("repeat", "backwards", "first", "last", "after"))
        if task == "repeat":
            turns.append((f"repeat the words : {row} . answer :", row))
        elif task == "backwards":
            turns.append((f"say the words backwards : {row} . answer :", " ".join(words[::-1])))
        elif task == "after":
            i = int(rng.integers(len(words) - 1))
            turns.append((f"name the word after {words[i]} : {row} . answer :", words[i + 1]))
        else:
            answer = words[0] if task == "first" else words[-1]
            turns.append((f"name the {task} word : {row} . answer :", answer))
    return "", turns


def _write_facts(rng: _Rng) -> _Page:
    """State what is always true of animals, tools, opposites and the calendar, and ask for it."""
    turns = []
    for _ in range(int(rng.integers(3, 6))):
        name, sound, home, food = _draw_item(rng, lx.ANIMALS)
        tool, use = _draw_item(rng, lx.THING_USES)
        left, right = _draw_item(rng, lx.OPPOSITES)
        calendar = lx.DAYS if rng.random() < 0.5 else lx.MONTHS
        i = int(rng.integers(len(calendar)))
        facts = (
            _make_turn(f"what sound does the {name} make ?", sound),
            _make_turn(f"where does the {name} live ?", f"in the {home}"),
            _make_turn(f"what does the {name} eat ?", food),
            _make_turn(f"what is {add_article(tool)} for ?", f"to {use}"),
            _make_turn(f"what is the opposite of {left} ?", right),
            _make_turn(f"what comes after {calendar[i]} ?", calendar[(i + 1) % len(calendar)]),
        )
        turns.append(_draw_item(rng, facts))
    return "", turns


def _write_chronicle(rng: _Rng) -> _Page:
    """Say in one sentence per person what they do with a thing, and ask who does what."""
    n = int(rng.integers(3, 6))
    names, things = _draw_items(rng, lx.PERSON_NAMES, n), _draw_items(rng, lx.THINGS + lx.FOODS, n)
    verbs = _draw_items(rng, lx.VERBS, n)
    material = _draw_item(rng, lx.MATERIALS)
    lines = [f"{a} {v} the {t} ." for a, v, t in zip(names, verbs, things, strict=True)]
    lines.append(f"the {things[0]} is made of {material} .")
    turns = [_make_turn(f"who {verbs[i]} the {things[i]} ?", names[i]) for i in range(n)]
    turns += [
        _make_turn(f"what does {names[i]} do with the {things[i]} ?", verbs[i]) for i in range(n)
    ]
    turns.append(_make_turn(f"what is the {things[0]} made of ?", material))
    turns.append((f"name everybody : {join_phrases(names)} . answer :", " ".join(names)))
    return " ".join(lines), _shuffle_items(rng, turns)[:7]


PROSE_WRITERS: dict[str, Callable[[_Rng], _Page]] = {
    write.__name__.removeprefix("_write_"): write
    for write in (
        _write_key_values, _write_possessions, _write_story, _write_arithmetic, _write_word_problem,
        _write_comparison, _write_counting, _write_negation, _write_instruction, _write_facts,
        _write_chronicle,
    )
}  # fmt: skip
