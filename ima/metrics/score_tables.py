"""Tables of what the cards of a zoo say: every model, every task, floors and ceiling beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

#: The score by which a task is judged first.
MAIN_METRICS = {"caption": "exact_set", "qa": "exact_match", "relation": "exact_match"}
#: What stands beside a score, by the prefix of its columns: floors, and the ceiling.
REFERENCE_SCORES = {
    "floor": "percepts of another sample",
    "none": "no percepts",
    "majority": "most frequent answer",
    "words": "language model told in words",
}
_INTERVAL_FIELDS = ("value", "low", "high", "n")


def tabulate_card_scores(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return every score of every model with what stands beside it.

    Parameters
    ----------
    records : iterable of mapping
        From :func:`ima.models.list_models`.

    Returns
    -------
    pandas.DataFrame
        A row per model, task and metric: ``model``, ``setup``, ``modality``, ``task``, ``metric``;
        ``value``, ``low``, ``high``, ``n``; and the same four with each key of :data:`REFERENCE_SCORES` and
        ``_`` before them, NaN where there is none.
    """
    rows = []
    for record in records:
        beside = {"floor": record["floors"], **record["controls"]}
        for name, score in record["scores"].items():
            task, metric = _split_score_name(name, task=record["task"])
            row = {key: record[key] for key in ("setup", "modality")}
            row |= {"model": record["name"], "task": task, "metric": metric, **score}
            for prefix in REFERENCE_SCORES:
                found = beside.get(prefix, {}).get(name, {})
                row |= {f"{prefix}_{end}": found.get(end, np.nan) for end in _INTERVAL_FIELDS}
            rows.append(row)
    known = ["model", "setup", "modality", "task", "metric"]
    numbers = [
        *_INTERVAL_FIELDS,
        *(f"{prefix}_{end}" for prefix in REFERENCE_SCORES for end in _INTERVAL_FIELDS),
    ]
    return pd.DataFrame(rows, columns=[*known, *numbers])


def _split_score_name(name: str, *, task: str | None) -> tuple[str, str]:
    """Return task and metric of a score's name; those of a multitask model begin with the task.

    Examples
    --------
    >>> split("caption/exact_set", task="multitask"), split("exact_match/count", task="qa")
    (('caption', 'exact_set'), ('qa', 'exact_match/count'))
    """
    if task != "multitask" or name.startswith("poll_"):
        return ("qa" if task in {None, "multitask"} else str(task)), name
    first, _, rest = name.partition("/")
    return first, rest


def select_main_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Keep, of each model and task, the score by which the task is judged first.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`tabulate_card_scores`.

    Returns
    -------
    pandas.DataFrame
        The same columns and ``way``: which share of the way from the floor (another sample's
        percepts) to the ceiling (the language model told in words) the model goes.
    """
    kept = scores[scores["metric"] == scores["task"].map(MAIN_METRICS)].copy()
    room = kept["words_value"] - kept["floor_value"]
    kept["way"] = (kept["value"] - kept["floor_value"]) / room.where(room > 0)
    return kept.reset_index(drop=True)


def select_main_record_scores(scores: Mapping[str, Any], *, task: str | None) -> dict[str, Any]:
    """Keep, of a record's scores, those by which its tasks are judged first.

    Examples
    --------
    >>> list(judged({"exact_match": {}, "exact_match/count": {}}, task="qa"))
    ['exact_match']
    """
    found = {name: _split_score_name(name, task=task) for name in scores}
    return {
        name: scores[name] for name, (of, metric) in found.items() if MAIN_METRICS.get(of) == metric
    }


def tabulate_checkpoint_scores(
    cards: Iterable[Mapping[str, Any]], *, metrics: Sequence[str] = tuple(MAIN_METRICS.values())
) -> pd.DataFrame:
    """Return the scores of weights that were kept along training.

    Parameters
    ----------
    cards : iterable of mapping
        Cards of models.
    metrics : sequence of str
        Which scores.

    Returns
    -------
    pandas.DataFrame
        A row per model, task, step and metric: ``model``, ``modality``, ``task``, ``step``,
        ``metric``, ``value``, ``low``, ``high``, ``n``.
    """
    rows = []
    for card in cards:
        for kept in card.get("checkpoints", ()):
            for name, score in kept.get("scores", {}).items():
                task, metric = _split_score_name(name, task=card["task"])
                if metric in metrics:
                    row = {"model": card["name"], "modality": card["modality"], "task": task}
                    rows.append(row | {"step": kept["step"], "metric": metric, **score})
    return pd.DataFrame(
        rows, columns=["model", "modality", "task", "step", "metric", "value", "low", "high", "n"]
    )


def format_score_cell(row: Mapping[str, Any], prefix: str = "", *, digits: int = 2) -> str:
    """Return a score with its interval as a cell of a table; empty where there is none.

    Examples
    --------
    >>> shown({"value": 0.5, "low": 0.25, "high": 0.75})
    '0.50 [0.25, 0.75]'
    """
    value, low, high = (row[f"{prefix}{end}"] for end in ("value", "low", "high"))
    if not np.isfinite(value):
        return ""
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
