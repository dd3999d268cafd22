"""Text that describes no scene: lists, stories, arithmetic, comparisons, instructions, facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ima.metrics.hallucination import plural
from ima.miniature import lexicon as lx
from ima.miniature.speech import NUMBERS, article, join
from ima.miniature.world import COLOURS

Turn = tuple[str, str]
Rng = np.random.Generator
#: What a writer returns: an opening text and turns of (prompt, answer).
Page = tuple[str, list[Turn]]


def ask(text: str, answer: str) -> Turn:
    """Return a question and its answer as a turn."""
    return (f"question : {text} answer :", answer)


def pick(rng: Rng, items: Sequence[str], n: int) -> list[str]:
    """Draw ``n`` distinct items."""
    return [items[i] for i in rng.choice(len(items), n, replace=False)]


def one(rng: Rng, items: Sequence[str]) -> str:
    """Draw one item."""
    return items[int(rng.integers(len(items)))]


def shuffled(rng: Rng, items: Sequence[int]) -> list[int]:
    """Return the items in random order."""
    return [items[i] for i in rng.permutation(len(items))]


_WORDS = tuple(
    dict.fromkeys(lx.NAMES + lx.THINGS + lx.FOODS + lx.PLACES_OF_LIFE + lx.JOBS + COLOURS)
)


def key_values(rng: Rng) -> Page:
    """Keys with one or two values each, then every key again with its values."""
    n, width = int(rng.integers(2, 6)), int(rng.integers(1, 3))
    words = pick(rng, _WORDS, n * (1 + width))
    rows = [words[i * (1 + width) : (i + 1) * (1 + width)] for i in range(n)]
    order = shuffled(rng, range(n)) * 2
    return (
        " ; ".join(" ".join(r) for r in rows) + " .",
        [(f"recall : {rows[i][0]}", " ".join(rows[i][1:])) for i in order],
    )


def possessions(rng: Rng) -> Page:
    """Tell who has which thing in which colour and place; some give theirs away."""
    n = int(rng.integers(2, 5))
    names, things = pick(rng, lx.NAMES, n), pick(rng, lx.THINGS, n)
    colours, places = pick(rng, COLOURS, n), pick(rng, lx.PLACES_OF_LIFE, n)
    lines = [
        f"{a} has {article(f'{c} {t}')} and is in the {p} ."
        for a, c, t, p in zip(names, colours, things, places, strict=True)
    ]
    owner = list(names)
    if rng.random() < 0.5:
        i, j = (int(k) for k in rng.choice(n, 2, replace=False))
        lines.append(f"{names[i]} gives the {things[i]} to {names[j]} .")
        owner[i] = names[j]
    turns = []
    for i in shuffled(rng, range(n)):
        turns += [
            ask(f"who has the {things[i]} ?", owner[i]),
            ask(f"what colour is the {things[i]} ?", colours[i]),
            ask(f"where is {names[i]} ?", f"in the {places[i]}"),
        ]
    return " ".join(lines), [turns[i] for i in rng.permutation(len(turns))[:8]]


def story(rng: Rng) -> Page:
    """Tell a short story with a beginning, a turn and an end, and ask about it."""
    a, b = pick(rng, lx.NAMES, 2)
    job, day, weather = one(rng, lx.JOBS), one(rng, lx.DAYS), one(rng, lx.WEATHER)
    thing, place, other = one(rng, lx.THINGS), *pick(rng, lx.PLACES_OF_LIFE, 2)
    colour, food = one(rng, COLOURS), one(rng, lx.FOODS)
    feeling, relief = lx.OPPOSITES[int(rng.integers(len(lx.OPPOSITES)))]
    text = (
        f"once there was {article(job)} whose name was {a} . on {day} , in the {weather} , {a} "
        f"went to the {place} and lost {article(f'{colour} {thing}')} . {a} was sad and ate some "
        f"{food} . then {b} found the {thing} in the {other} and brought it back . the day had "
        f"been {feeling} , but the evening was {relief} . {a} said thank you to {b} ."
    )
    turns = [
        ask(f"who lost the {thing} ?", a),
        ask(f"who found the {thing} ?", b),
        ask(f"where did {b} find the {thing} ?", f"in the {other}"),
        ask(f"where did {a} go ?", f"to the {place}"),
        ask(f"what was the job of {a} ?", job),
        ask(f"what colour was the {thing} ?", colour),
        ask("which day was it ?", day),
        ask(f"what did {a} eat ?", food),
        ask("how was the evening ?", relief),
    ]
    return text, [turns[i] for i in rng.permutation(len(turns))[:6]]


def arithmetic(rng: Rng) -> Page:
    """Small sums and differences, in words and in digits."""
    turns = []
    for _ in range(int(rng.integers(4, 9))):
        a, b = sorted(int(k) for k in rng.integers(0, 6, 2))
        if rng.random() < 0.5:
            turns.append(ask(f"what is {NUMBERS[a]} plus {NUMBERS[b]} ?", NUMBERS[a + b]))
        elif rng.random() < 0.5:
            turns.append(ask(f"what is {NUMBERS[b]} minus {NUMBERS[a]} ?", NUMBERS[b - a]))
        else:
            turns.append((f"{a} + {b} =", str(a + b)))
    return "", turns


def word_problem(rng: Rng) -> Page:
    """Somebody has some, gets or loses some: how many are left."""
    lines, turns = [], []
    for name in pick(rng, lx.NAMES, 2):
        a, b = sorted(int(k) for k in rng.integers(0, 6, 2))
        food = plural(one(rng, lx.FOODS[:12]))
        if rng.random() < 0.5:
            lines.append(f"{name} has {NUMBERS[b]} {food} and eats {NUMBERS[a]} .")
            turns.append(ask(f"how many {food} does {name} have now ?", NUMBERS[b - a]))
        else:
            lines.append(f"{name} has {NUMBERS[a]} {food} and gets {NUMBERS[b]} more .")
            turns.append(ask(f"how many {food} does {name} have now ?", NUMBERS[a + b]))
    return " ".join(lines), turns


def comparison(rng: Rng) -> Page:
    """Compare sizes of animals that the corpus knows, and of people that the text introduces."""
    turns = []
    for _ in range(3):
        i, j = sorted(int(k) for k in rng.choice(len(lx.ANIMALS), 2, replace=False))
        small, large = lx.ANIMALS[i][0], lx.ANIMALS[j][0]
        pair = (small, large) if rng.random() < 0.5 else (large, small)
        word, right = ("bigger", large) if rng.random() < 0.5 else ("smaller", small)
        turns.append(ask(f"which is {word} , {article(pair[0])} or {article(pair[1])} ?", right))
    names = pick(rng, lx.NAMES, 3)
    text = f"{names[0]} is older than {names[1]} . {names[1]} is older than {names[2]} ."
    turns += [ask("who is the oldest ?", names[0]), ask("who is the youngest ?", names[2])]
    return text, [turns[i] for i in rng.permutation(len(turns))]


def counting(rng: Rng) -> Page:
    """Count how often things stand in a list."""
    kinds = pick(rng, lx.FOODS[:16] + lx.THINGS[:16], int(rng.integers(2, 4)))
    counts = [int(k) for k in rng.integers(1, 5, len(kinds))]
    row = [k for k, c in zip(kinds, counts, strict=True) for _ in range(c)]
    row = [row[i] for i in rng.permutation(len(row))]
    turns = [
        ask(f"how many {plural(k)} are there ?", NUMBERS[c])
        for k, c in zip(kinds, counts, strict=True)
    ]
    return "there are : " + " , ".join(row) + " .", turns


def negation(rng: Rng) -> Page:
    """Say what things are not and what they are."""
    lines, turns = [], []
    for thing in pick(rng, lx.THINGS, int(rng.integers(2, 4))):
        wrong, right, other = pick(rng, COLOURS + lx.MATERIALS, 3)
        lines.append(f"the {thing} is not {wrong} but {right} .")
        asked = one(rng, (wrong, right, other))
        turns.append(ask(f"is the {thing} {asked} ?", "yes" if asked == right else "no"))
        turns.append(ask(f"what is the {thing} ?", right))
    return " ".join(lines), [turns[i] for i in rng.permutation(len(turns))]


def instruction(rng: Rng) -> Page:
    """Follow instructions over a row of words: repeat, reverse, first, last, which is missing."""
    turns = []
    for _ in range(int(rng.integers(2, 5))):
        words = pick(rng, _WORDS, int(rng.integers(2, 6)))
        row = " ".join(words)
        task = one(rng, ("repeat", "backwards", "first", "last", "after"))
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


def facts(rng: Rng) -> Page:
    """State what is always true of animals, tools, opposites and the calendar, and ask for it."""
    turns = []
    for _ in range(int(rng.integers(3, 6))):
        name, _, sound, home, food = lx.ANIMALS[int(rng.integers(len(lx.ANIMALS)))]
        tool, use = lx.USES[int(rng.integers(len(lx.USES)))]
        left, right = lx.OPPOSITES[int(rng.integers(len(lx.OPPOSITES)))]
        calendar = lx.DAYS if rng.random() < 0.5 else lx.MONTHS
        i = int(rng.integers(len(calendar)))
        turns.append(
            (
                ask(f"what sound does the {name} make ?", sound),
                ask(f"where does the {name} live ?", f"in the {home}"),
                ask(f"what does the {name} eat ?", food),
                ask(f"what is {article(tool)} for ?", f"to {use}"),
                ask(f"what is the opposite of {left} ?", right),
                ask(f"what comes after {calendar[i]} ?", calendar[(i + 1) % len(calendar)]),
            )[int(rng.integers(6))]
        )
    return "", turns


def chronicle(rng: Rng) -> Page:
    """Tell what people do with things, one sentence after another, and ask who did what."""
    n = int(rng.integers(3, 6))
    names, things = pick(rng, lx.NAMES, n), pick(rng, lx.THINGS + lx.FOODS, n)
    verbs = pick(rng, lx.VERBS, n)
    material = one(rng, lx.MATERIALS)
    lines = [f"{a} {v} the {t} ." for a, v, t in zip(names, verbs, things, strict=True)]
    lines.append(f"the {things[0]} is made of {material} .")
    turns = [ask(f"who {verbs[i]} the {things[i]} ?", names[i]) for i in range(n)]
    turns += [ask(f"what does {names[i]} do with the {things[i]} ?", verbs[i]) for i in range(n)]
    turns.append(ask(f"what is the {things[0]} made of ?", material))
    turns.append((f"name everybody : {join(names)} . answer :", " ".join(names)))
    return " ".join(lines), [turns[i] for i in rng.permutation(len(turns))[:7]]


WRITERS: dict[str, Callable[[Rng], Page]] = {
    "key_values": key_values,
    "possessions": possessions,
    "story": story,
    "arithmetic": arithmetic,
    "word_problem": word_problem,
    "comparison": comparison,
    "counting": counting,
    "negation": negation,
    "instruction": instruction,
    "facts": facts,
    "chronicle": chronicle,
}
