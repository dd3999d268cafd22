"""What was found, for the front page: which claims hold, and on how many models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from ima.claims.families import adjust_verdicts
from ima.claims.overview import get_shown_verdict
from ima.claims.readings import Verdict
from ima.claims.records import ClaimRecord
from ima.claims.registry import CLAIMS

Outcome = Literal["holds", "fails", "differs", "undecided", "not testable"]

#: By outcome: how the paragraph begins the list of its claims.
_LEADS: Mapping[Outcome, str] = {
    "holds": "**Hold** in every model that could test them",
    "fails": "**Fail** in every model that could test them",
    "differs": "**Differ** between models",
    "undecided": "**Undecided**",
    "not testable": "**Not testable** on these models",
}
#: By outcome, the verb of one claim and of several.
_VERBS: Mapping[Outcome, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "differs": ("differs between models", "differ between models"),
    "undecided": ("is undecided", "are undecided"),
    "not testable": ("cannot be tested here", "cannot be tested here"),
}
#: By outcome, what stands after the name of a claim.
OUTCOME_WORDS: Mapping[Outcome, str] = {
    "holds": "holds",
    "fails": "fails",
    "differs": "differs between models",
    "undecided": "undecided",
    "not testable": "not testable on these models",
}
_DECIDED: Mapping[Verdict, str] = {
    "supported": "supported",
    "contradicted": "contradicted",
    "no effect within the margin": "no effect",
}
_TRAINED_ONCE = "Each model was trained once; the verdicts do not cover other trainings."


def decide_outcome(verdicts: Sequence[Verdict]) -> Outcome:
    """Return what the verdicts of several models on one claim say together.

    Parameters
    ----------
    verdicts : sequence of str
        One for each model, of the reading as tested.

    Returns
    -------
    str
        ``"holds"`` or ``"fails"`` if all models that could test the claim support or do not support
        it, ``"differs"`` if some support it and others do not, ``"not testable"`` if none could
        test it, and ``"undecided"`` otherwise. No effect within the margin is a failure: the claim
        says that there is one.

    Examples
    --------
    >>> decide_outcome(["supported", "not testable here", "supported"])
    'holds'
    >>> decide_outcome(["supported", "inconclusive"])
    'undecided'
    >>> decide_outcome(["supported", "no effect within the margin"])
    'differs'
    """
    tested = [verdict for verdict in verdicts if verdict != "not testable here"]
    if not tested:
        return "not testable"
    supported = sum(verdict == "supported" for verdict in tested)
    failed = sum(verdict in ("contradicted", "no effect within the margin") for verdict in tested)
    if supported == len(tested):
        return "holds"
    if failed == len(tested):
        return "fails"
    return "differs" if supported and failed else "undecided"


def summarise_claims(
    records: Sequence[ClaimRecord], *, pages: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Say in MyST markdown which claims hold, fail, differ between models or stay undecided.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured claims; the readings as tested count.
    pages : mapping of str to str or None
        Links to the pages of the book, by the path of the notebook.

    Returns
    -------
    dict of str to str
        By file: ``found.md``, the counts and what they cover, and ``outcomes.md``, a list with
        the claims of each outcome and how many models say so. Both are empty without records.

    Examples
    --------
    >>> summarise_claims([])
    {'found.md': '', 'outcomes.md': ''}
    """
    links = pages or {}
    tested = [record for record in records if record.reading == "as tested"]
    if not tested:
        return {"found.md": "", "outcomes.md": ""}
    adjusted = adjust_verdicts(records)
    models = list(dict.fromkeys(record.model for record in tested))
    listed: dict[Outcome, list[str]] = {outcome: [] for outcome in _LEADS}
    for claim in CLAIMS.values():
        own = [record for record in tested if record.claim == claim.id]
        if not own:
            continue
        verdicts = [get_shown_verdict(record, adjusted) for record in own]
        label = (
            f"[{claim.name}]({links[own[0].notebook]})" if own[0].notebook in links else claim.name
        )
        listed[decide_outcome(verdicts)].append(f"{label} ({count_verdicts(verdicts)})")
    total = sum(map(len, listed.values()))
    counts = [
        f"{len(claims)} {_VERBS[outcome][len(claims) > 1]}"
        for outcome, claims in listed.items()
        if claims
    ]
    sentence = f"Of {total} claims of the paper, {_join(counts)}. {_describe_models(models)}"
    lines = [f"- {_LEADS[outcome]}: {'; '.join(each)}." for outcome, each in listed.items() if each]
    return {
        "found.md": f"{sentence} {_describe_seeds(records)}\n",
        "outcomes.md": "\n".join(lines) + "\n",
    }


def count_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Say how many of the models that could test a claim have which verdict.

    Examples
    --------
    >>> count_verdicts(["supported", "contradicted", "inconclusive", "not testable here"])
    'supported in 1, contradicted in 1 of 3'
    """
    tested = [verdict for verdict in verdicts if verdict != "not testable here"]
    if not tested:
        return "no model could test it"
    decided = [
        f"{word} in {number}"
        for verdict, word in _DECIDED.items()
        if (number := sum(each == verdict for each in tested))
    ]
    if not decided:
        return f"inconclusive in {len(tested)} of {len(tested)}"
    return f"{', '.join(decided)} of {len(tested)}"


def _describe_models(models: Sequence[str]) -> str:
    """Name the models that were tested, without their setups where the names differ anyway."""
    short = [_drop_setup(model) for model in models]
    names = short if len(set(short)) == len(models) else models
    if len(names) == 1:
        return f"We tested {names[0]}."
    return f"We tested {len(names)} sets of models: {_join(names)}."


def _drop_setup(model: str) -> str:
    return re.sub(r" \((?:ST|MT|LM)\)$", "", model)


def _describe_seeds(records: Sequence[ClaimRecord]) -> str:
    """Say which verdicts cover other trainings."""
    covered = list(dict.fromkeys(record.model for record in records if record.spread))
    if not covered:
        return _TRAINED_ONCE
    claims = list(dict.fromkeys(record.claim for record in records if record.spread))
    return (
        f"The verdicts of {_join(covered)} on {_join(claims)} cover other seeds of its connectors. "
        "Everything else was trained once, and its verdicts do not cover other trainings."
    )


def _join(parts: Sequence[str]) -> str:
    """Return a list in words: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
