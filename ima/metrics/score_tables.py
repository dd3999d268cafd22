"""Tables of the scores on model cards, with their floors and ceilings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

#: The main score of each task.
MAIN_METRICS = {"caption": "exact_set", "qa": "exact_match", "relation": "exact_match"}
#: Floors and ceiling of a score, by the prefix of their columns.
REFERENCE_SCORES = {
    "floor": "perceptual tokens of another sample",
    "none": "no perceptual tokens",
    "majority": "most frequent answer",
    "words": "text-only ceiling: the content described in words",
}
_INTERVAL_FIELDS = ("value", "low", "high", "n")


def tabulate_card_scores(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Tabulate every score of every model with its floors and its ceiling.

    Parameters
    ----------
    records : iterable of mapping
        From :func:`ima.models.list_models`.

    Returns
    -------
    pandas.DataFrame
        A row per model, task and metric: ``model``, ``setup``, ``modality``, ``task``, ``metric``,
        ``value``, ``low``, ``high``, ``n``, and ``<prefix>_value`` … ``<prefix>_n`` for each prefix
        of :data:`REFERENCE_SCORES`; NaN where a card has no such score.

    Examples
    --------
    >>> score = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 20}
    >>> record = {"name": "opt-mini/vit/image-qa", "setup": "ST", "modality": "image", "task": "qa",
    ...           "scores": {"exact_match": score}, "floors": {}, "controls": {}}
    >>> tabulate_card_scores([record])[["model", "metric", "value"]].values.tolist()
    [['opt-mini/vit/image-qa', 'exact_match', 0.6]]
    """
    rows = []
    for record in records:
        references = {"floor": record["floors"], **record["controls"]}
        for name, score in record["scores"].items():
            task, metric = _split_score_name(name, task=record["task"])
            row = {key: record[key] for key in ("setup", "modality")}
            row |= {"model": record["name"], "task": task, "metric": metric, **score}
            for prefix in REFERENCE_SCORES:
                reference = references.get(prefix, {}).get(name, {})
                row |= {f"{prefix}_{key}": reference.get(key, np.nan) for key in _INTERVAL_FIELDS}
            rows.append(row)
    numbers = [f"{prefix}_{key}" for prefix in REFERENCE_SCORES for key in _INTERVAL_FIELDS]
    names = ["model", "setup", "modality", "task", "metric"]
    return pd.DataFrame(rows, columns=[*names, *_INTERVAL_FIELDS, *numbers])


def _split_score_name(name: str, *, task: str | None) -> tuple[str, str]:
    """Split the name of a score into task and metric; multitask models put the task first.

    Examples
    --------
    >>> _split_score_name("caption/exact_set", task="multitask")
    ('caption', 'exact_set')
    >>> _split_score_name("exact_match/count", task="qa")
    ('qa', 'exact_match/count')
    """
    if task != "multitask" or name.startswith("poll_"):
        return ("qa" if task in {None, "multitask"} else str(task)), name
    score_task, _, metric = name.partition("/")
    return score_task, metric


def select_main_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Keep the main score of each model and task.

    Parameters
    ----------
    scores : pandas.DataFrame
        From :func:`tabulate_card_scores`.

    Returns
    -------
    pandas.DataFrame
        The same columns and ``normalized_score``: 0 at the floor (perceptual tokens of another
        sample), 1 at the text-only ceiling, NaN if the ceiling is not above the floor.

    Examples
    --------
    >>> score = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 20}
    >>> record = {"name": "opt-mini/vit/image-qa", "setup": "ST", "modality": "image", "task": "qa",
    ...           "scores": {"exact_match": score, "vqa_accuracy": score},
    ...           "floors": {"exact_match": {**score, "value": 0.2}},
    ...           "controls": {"words": {"exact_match": {**score, "value": 1.0}}}}
    >>> main = select_main_scores(tabulate_card_scores([record]))
    >>> main["normalized_score"].round(2).tolist()
    [0.5]
    """
    main = scores[scores["metric"] == scores["task"].map(MAIN_METRICS)].copy()
    room = main["words_value"] - main["floor_value"]
    main["normalized_score"] = (main["value"] - main["floor_value"]) / room.where(room > 0)
    return main.reset_index(drop=True)


def describe_main_scores(main: pd.DataFrame) -> dict[str, str]:
    """Say how many scores are nearer to their ceiling than to their floor, and whose are not.

    Parameters
    ----------
    main : pandas.DataFrame
        From :func:`select_main_scores`, with ``kind``, the objective of each model's encoder.

    Returns
    -------
    dict of str to str
        ``nearer``, counts over all scores that have a ceiling and by objective; ``farther``, the
        models that have a score nearer to the floor.

    Examples
    --------
    >>> main = pd.DataFrame({"model": ["a", "b"], "kind": ["supervised", "self-supervised"],
    ...                      "normalized_score": [0.9, 0.2]})
    >>> describe_main_scores(main)["nearer"]
    'Of 2 scores, 1 is nearer to a ceiling than to a floor: 1 of 1 with supervised encoders, 0 of \
1 with self-supervised encoders'
    >>> describe_main_scores(main)["farther"]
    'These models have scores nearer to the floor: b'
    """
    held = main[main["normalized_score"].notna()]
    is_near = held["normalized_score"] >= 0.5
    split = [
        f"{int(own.sum())} of {len(own)} with {kind} encoders"
        for kind, own in is_near.groupby(held["kind"].astype(str), sort=False)
    ]
    verb = "is" if is_near.sum() == 1 else "are"
    counts = (
        f"Of {len(held)} scores, {int(is_near.sum())} {verb} nearer to a ceiling than to a floor"
    )
    models = list(dict.fromkeys(held["model"][~is_near]))
    named = f"These models have scores nearer to the floor: {', '.join(models)}"
    return {
        "nearer": ": ".join([counts, *([", ".join(split)] if split else [])]),
        "farther": named if models else "No score is nearer to the floor",
    }


def describe_tuned_models(cards: Iterable[Mapping[str, Any]]) -> str:
    """Name the models whose copy of the language model is tuned.

    Parameters
    ----------
    cards : iterable of mapping
        Model cards.

    Examples
    --------
    >>> describe_tuned_models([{"name": "b", "tuned": True}, {"name": "a"}])
    'Exceptions by design, whose copy of the language model is tuned as in the public LLaVA: b'
    >>> describe_tuned_models([])
    'No model of this zoo has a tuned language model'
    """
    names = sorted(str(card["name"]) for card in cards if card.get("tuned"))
    if not names:
        return "No model of this zoo has a tuned language model"
    head = "Exceptions by design, whose copy of the language model is tuned as in the public LLaVA"
    return f"{head}: {', '.join(names)}"


def select_main_record_scores(scores: Mapping[str, Any], *, task: str | None) -> dict[str, Any]:
    """Keep the main scores of one record, one for each of its tasks.

    Parameters
    ----------
    scores : mapping of str to object
        By name, as on a model card.
    task : str or None
        The task of the model.

    Examples
    --------
    >>> list(select_main_record_scores({"exact_match": {}, "exact_match/count": {}}, task="qa"))
    ['exact_match']
    """
    split = {name: _split_score_name(name, task=task) for name in scores}
    return {
        name: scores[name]
        for name, (score_task, metric) in split.items()
        if MAIN_METRICS.get(score_task) == metric
    }


def tabulate_checkpoint_scores(cards: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Tabulate the scores of the checkpoints saved during training.

    Parameters
    ----------
    cards : iterable of mapping
        Model cards.

    Returns
    -------
    pandas.DataFrame
        A row per model, task, step and metric: ``model``, ``modality``, ``task``, ``step``,
        ``metric``, ``value``, ``low``, ``high``, ``n``.

    Examples
    --------
    >>> score = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 20}
    >>> card = {"name": "opt-mini/vit/image-qa", "modality": "image", "task": "qa",
    ...         "checkpoints": [{"step": 100, "scores": {"exact_match": score}}]}
    >>> tabulate_checkpoint_scores([card])[["step", "metric", "value"]].values.tolist()
    [[100, 'exact_match', 0.6]]
    """
    rows = []
    for card in cards:
        for checkpoint in card.get("checkpoints", ()):
            for name, score in checkpoint.get("scores", {}).items():
                task, metric = _split_score_name(name, task=card["task"])
                if metric in MAIN_METRICS.values():
                    row = {"model": card["name"], "modality": card["modality"], "task": task}
                    rows.append(row | {"step": checkpoint["step"], "metric": metric, **score})
    return pd.DataFrame(
        rows, columns=["model", "modality", "task", "step", "metric", "value", "low", "high", "n"]
    )


def format_score_cell(row: Mapping[str, Any], prefix: str = "", *, digits: int = 2) -> str:
    """Format a score with its interval as a table cell; empty if there is no score.

    Parameters
    ----------
    row : mapping of str to object
        A row of :func:`tabulate_card_scores`.
    prefix : str
        Empty for the score itself, or a key of :data:`REFERENCE_SCORES` followed by ``_``.
    digits : int
        Decimal places.

    Examples
    --------
    >>> format_score_cell({"value": 0.5, "low": 0.25, "high": 0.75})
    '0.50 [0.25, 0.75]'
    """
    value, low, high = (row[f"{prefix}{key}"] for key in ("value", "low", "high"))
    if not np.isfinite(value):
        return ""
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
