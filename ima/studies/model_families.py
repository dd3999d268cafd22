"""Families of models (I1, I2): which models a column of the front table compares, and how.

A *family* is what a frozen language model makes in one setup. Its models are the finished ones, the
steps of their training and the short runs. Not all of them are independent: steps of one run, and
all connectors on one frozen encoder that is read at one block, are one model. Readings of one
encoder at two blocks count as two, although they share the earlier blocks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ima.cache.cache_set import name_cache_set
from ima.errors import ParameterError
from ima.models import zoo
from ima.stats import FloatArray, correlation
from ima.stats.intervals import Interval
from ima.studies.experiment_grid import TASK_TITLES, GridEntry
from ima.studies.model_summary import IMA_SCORE, ModelSummary

ModelStage = Literal["finished", "step", "short run"]
#: What :attr:`ima.drawings.graded.GradedEncoder.title` adds to the name of an encoder.
_READING = re.compile(r"(-random\d+)?(-\d+)?$")


@dataclass(frozen=True)
class ComparedModel:
    """A model with its IMA score and another score, on one data set.

    Parameters
    ----------
    name : str
        Name of the model, with ``@STEP`` for a step of its training.
    encoder : str
        The frozen encoder.
    dataset : str
        The data set, which has one modality and one task.
    stage : {"finished", "step", "short run"}
        Whether training was complete.
    samples : int
        Number of samples.
    ima_score, score : ndarray
        ``(1 + draw,)``: the value, then its values in resamples of the samples.
    """

    name: str
    encoder: str
    dataset: str
    stage: ModelStage
    samples: int
    ima_score: FloatArray
    score: FloatArray

    @property
    def run(self) -> str:
        """The training run: the name without its step."""
        return zoo.split_checkpoint_name(self.name)[0]

    @property
    def modality(self) -> str:
        """Modality of the data set."""
        return self.dataset.split("-")[1]


@dataclass(frozen=True)
class Association:
    """How the IMA score goes with another score over models.

    Parameters
    ----------
    n : int
        Number of models.
    dataset : str
        Names of their data sets.
    interval : Interval or None
        The rank correlation; None if it is not defined.
    finding : str
        What was found, in one sentence; empty without an interval.
    reason : str
        Why there is no correlation; empty with an interval, and if the number of models says it.
    """

    n: int
    dataset: str
    interval: Interval | None = None
    finding: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Outcomes:
    """Words for the ends of a score, for sentences.

    Parameters
    ----------
    more, less : str
        A larger and a smaller score, for example ``"a higher task score"``.
    name : str
        The score.
    smallest : float
        The smallest rank correlation that counts.
    """

    more: str
    less: str
    name: str
    smallest: float = 0.0


def group_families(
    summaries: Mapping[GridEntry, ModelSummary],
    *,
    metrics: Mapping[str, str],
    short_runs: Mapping[str, ModelSummary] | None = None,
) -> dict[str, list[ComparedModel]]:
    """Group models by the column of the front table to which they belong.

    Parameters
    ----------
    summaries : mapping of GridEntry to ModelSummary
        From :func:`ima.studies.experiment_grid.summarize_grid_entry`.
    metrics : mapping of str to str
        By task, the score; models of other tasks are left out.
    short_runs : mapping of str to ModelSummary or None
        Short runs of captioning connectors, from :func:`ima.studies.short_runs.read_short_runs`
        and :func:`ima.studies.graded_encoders.read_graded_encoders`.

    Returns
    -------
    dict of str to list of ComparedModel
        By family. A model that does several tasks is listed once for each. The last step of a run
        is the finished model, and is not listed again.

    Raises
    ------
    ParameterError
        If a model lacks its score.

    Examples
    --------
    >>> families = group_families(summaries, metrics={"qa": "exact_match"})  # doctest: +SKIP
    >>> list(families)  # doctest: +SKIP
    ['opt-mini (ST)', 'llava-mini-3 (MT)']
    """
    families: dict[str, list[ComparedModel]] = {}
    finished = {(entry.name, entry.task) for entry in summaries if entry.step is None}
    for entry, summary in summaries.items():
        is_repeated = entry.step is not None and entry.is_finished
        if entry.task not in metrics or (is_repeated and (entry.run, entry.task) in finished):
            continue
        stage: ModelStage = "finished" if entry.is_finished else "step"
        metric = metrics[entry.task]
        model = _make_model(entry.name, summary, encoder=entry.encoder, stage=stage, metric=metric)
        families.setdefault(entry.family, []).append(model)
    for name, summary in (short_runs or {}).items() if "caption" in metrics else ():
        encoder = summary.model.split("/")[1]
        model = _make_model(
            name, summary, encoder=encoder, stage="short run", metric=metrics["caption"]
        )
        families.setdefault(name_cache_set(summary.model, setup="ST"), []).append(model)
    return families


def _make_model(
    name: str, summary: ModelSummary, *, encoder: str, stage: ModelStage, metric: str
) -> ComparedModel:
    if metric not in summary.scores:
        available = ", ".join(summary.scores) or "no scores"
        raise ParameterError(f"{name} has no {metric} on {summary.dataset}; it has {available}.")
    ima_score, score = summary.proxies[IMA_SCORE], summary.scores[metric]
    return ComparedModel(name, encoder, summary.dataset, stage, summary.samples, ima_score, score)


def select_independent_models(models: Iterable[ComparedModel]) -> list[ComparedModel]:
    """Select one model for each data set and frozen encoder.

    The models of a data set were all trained alike: they are its finished models or, if more
    encoders have short runs than finished models, its short runs. Several of them with one encoder
    are averaged. Other steps of training are left out.

    Parameters
    ----------
    models : iterable of ComparedModel
        The models of one family.

    Returns
    -------
    list of ComparedModel
        Named by their encoder.

    Examples
    --------
    >>> given = ("vit", "mini-image-caption", "short run", 9)
    >>> runs = [ComparedModel(f"vit-{i}", *given, np.array([i]), np.array([2 * i])) for i in (1, 3)]
    >>> (model,) = select_independent_models(runs)
    >>> model.name, model.ima_score, model.score
    ('vit', array([2.]), array([4.]))
    """
    by_dataset: dict[str, dict[ModelStage, dict[str, list[ComparedModel]]]] = {}
    for model in models:
        stages = by_dataset.setdefault(model.dataset, {"finished": {}, "short run": {}})
        if model.stage in stages:
            stages[model.stage].setdefault(model.encoder, []).append(model)
    selected = []
    for stages in by_dataset.values():
        # The first of equally many: the finished models.
        for encoder, own in max(stages.values(), key=len).items():
            ima_score = np.mean([model.ima_score for model in own], axis=0)
            score = np.mean([model.score for model in own], axis=0)
            selected.append(replace(own[0], name=encoder, ima_score=ima_score, score=score))
    return selected


def arrange_strata(models: Iterable[ComparedModel]) -> dict[str, list[ComparedModel]]:
    """Arrange models by modality and task.

    Examples
    --------
    >>> one = ComparedModel("vit", "vit", "mini-image-qa", "finished", 9, np.ones(1), np.ones(1))
    >>> arrange_strata([one]).keys()
    dict_keys(['image questions'])
    """
    strata: dict[str, list[ComparedModel]] = {}
    for model in models:
        task = model.dataset.split("-", maxsplit=2)[2]
        strata.setdefault(f"{model.modality} {TASK_TITLES[task]}", []).append(model)
    return strata


def select_tested_groups(
    families: Mapping[str, Sequence[ComparedModel]],
) -> dict[str, list[ComparedModel]]:
    """Select the groups of independent models that have a correlation, or all if none has.

    Parameters
    ----------
    families : mapping of str to sequence of ComparedModel
        From :func:`group_families`.

    Returns
    -------
    dict of str to list of ComparedModel
        By family, modality and task.

    Examples
    --------
    >>> select_tested_groups(families).keys()  # doctest: +SKIP
    dict_keys(['opt-mini (ST), image captions', 'opt-mini (ST), image questions'])
    """
    groups = {
        f"{family}, {title}": own
        for family, models in families.items()
        for title, own in arrange_strata(select_independent_models(models)).items()
    }
    numbers = {title: _read_numbers(own) for title, own in groups.items()}
    usable = correlation.select_usable_strata(numbers)
    return {title: own for title, own in groups.items() if title in usable} or groups


def _read_numbers(models: Iterable[ComparedModel]) -> dict[str, tuple[float, float]]:
    return {model.name: (float(model.ima_score[0]), float(model.score[0])) for model in models}


def associate_all_models(
    models: Sequence[ComparedModel], *, outcomes: Outcomes, resamples: int = 2000, seed: int = 0
) -> Association:
    """Correlate the IMA score with another score over all models of a family.

    Parameters
    ----------
    models : sequence of ComparedModel
        From :func:`group_families`.
    outcomes : Outcomes
        Words for the score.
    resamples : int
        Bootstrap resamples of models.
    seed : int
        Seed of resamples and permutations.

    Returns
    -------
    Association
        Spearman's correlation, with :attr:`~ima.stats.correlation.RankCorrelation.widened`.

    Examples
    --------
    >>> models = [
    ...     ComparedModel(f"m{i}", "vit", "mini-image-qa", "step", 9, np.array([i]), np.array([-i]))
    ...     for i in range(6)
    ... ]
    >>> words = Outcomes("a higher task score", "a lower task score", "task score")
    >>> print(associate_all_models(models, outcomes=words, resamples=20).finding)
    Over 6 models, a higher IMA score goes with a lower task score (rank correlation -1.00).
    """
    x = np.array([model.ima_score[0] for model in models])
    y = np.array([model.score[0] for model in models])
    dataset = _join_datasets(models)
    if len(models) < correlation.MIN_MODELS:
        return Association(len(models), dataset)
    for name, values in (("IMA score", x), (outcomes.name, y)):
        if np.ptp(values) == 0:
            reason = f"All {len(models)} models have the same {name}, {values[0]:.3f}."
            return Association(len(models), dataset, reason=reason)
    result = correlation.compute_rank_correlation(x, y, resamples=resamples, seed=seed)
    interval = result.widened
    finding = (
        f"Over {len(models)} models, {_describe_direction(interval.value, outcomes)} "
        f"(rank correlation {interval.value:.2f})."
    )
    return Association(len(models), dataset, interval, finding)


def associate_independent_models(
    models: Sequence[ComparedModel], *, outcomes: Outcomes, seed: int = 0
) -> Association:
    """Correlate the IMA score with another score over encoders read at one block, within strata.

    Parameters
    ----------
    models : sequence of ComparedModel
        From :func:`group_families`.
    outcomes : Outcomes
        Words for the score.
    seed : int
        Seed of random orders, where there are too many for an exact test.

    Returns
    -------
    Association
        From :func:`ima.stats.correlation.correlate_within_strata`; without an interval if the
        strata that have a correlation hold fewer than five models.

    Examples
    --------
    >>> models = [
    ...     ComparedModel(name, name, "mini-image-qa", "finished", 9, np.array([i]), np.array([i]))
    ...     for i, name in enumerate(["vit", "mae", "clip", "dino", "mocov3"])
    ... ]
    >>> words = Outcomes("a higher task score", "a lower task score", "task score")
    >>> print(associate_independent_models(models, outcomes=words).finding)
    Among 5 encoders read at one block, a higher IMA score goes with a higher task score (rank \
correlation 1.00 on image questions; p = 0.017).
    """
    groups = arrange_strata(select_independent_models(models))
    strata = {title: _read_numbers(own) for title, own in groups.items()}
    usable = correlation.select_usable_strata(strata)
    counted = {name for own in usable.values() for name in own}
    if len(counted) < correlation.MIN_MODELS:
        listed = "; ".join(f"{title}: {', '.join(own)}" for title, own in strata.items()) or "none"
        reason = (
            f"The test needs {correlation.MIN_MODELS} encoders whose scores differ, at least "
            f"{correlation.MIN_STRATUM_MODELS} in each group of one modality and task. "
            f"Found: {listed}."
        )
        names = {name for own in strata.values() for name in own}
        return Association(len(names), _join_datasets(models), reason=reason)
    result = correlation.correlate_within_strata(usable, seed=seed)
    finding = (
        f"Among {result.interval.n} encoders read at one block, "
        f"{_describe_direction(result.interval.value, outcomes)} "
        f"({_describe_strata(result)}; p = {result.p:.2g})."
    )
    dataset = _join_datasets([model for title in usable for model in groups[title]])
    return Association(result.interval.n, dataset, result.interval, finding)


def describe_sources(families: Mapping[str, Sequence[ComparedModel]]) -> str:
    """Say from how many encoders the models come that the test of each family counts.

    Parameters
    ----------
    families : mapping of str to sequence of ComparedModel
        From :func:`group_families`. Families that have no correlation are left out.

    Examples
    --------
    >>> given = ("mini-image-qa", "finished", 9)
    >>> models = [
    ...     ComparedModel(name, name, *given, np.array([i]), np.array([i]))
    ...     for i, name in enumerate(["vit", "dinov2", "dinov2-6", "dinov2-random0"])
    ... ]
    >>> describe_sources({"smollm2 (ST)": models})
    'smollm2 (ST): 4, from 2 encoders (dinov2 3, vit 1)'
    >>> describe_sources({"smollm2 (ST)": models[:1]})
    'none'
    """
    described = []
    for family, models in families.items():
        strata = {
            title: _read_numbers(own)
            for title, own in arrange_strata(select_independent_models(models)).items()
        }
        usable = correlation.select_usable_strata(strata)
        names = sorted({name for own in usable.values() for name in own})
        encoders = Counter(_READING.sub("", name) for name in names)
        listed = ", ".join(f"{name} {count}" for name, count in encoders.most_common())
        if names:
            described.append(f"{family}: {len(names)}, from {len(encoders)} encoders ({listed})")
    return "; ".join(described) or "none"


def _join_datasets(models: Iterable[ComparedModel]) -> str:
    return ", ".join(sorted({model.dataset for model in models}))


def _describe_direction(value: float, outcomes: Outcomes) -> str:
    if abs(value) <= outcomes.smallest:
        return f"the IMA score and the {outcomes.name} are hardly correlated"
    return f"a higher IMA score goes with {outcomes.more if value > 0 else outcomes.less}"


def _describe_strata(result: correlation.StratifiedCorrelation) -> str:
    rhos = result.by_stratum
    if len(rhos) == 1:
        ((title, rho),) = rhos.items()
        return f"rank correlation {rho:.2f} on {title}"
    if max(rhos.values()) - min(rhos.values()) < 0.005:
        rho = result.interval.value
        return f"rank correlation {rho:.2f} in each of {len(rhos)} groups of one modality and task"
    lowest, highest = (choose(rhos, key=lambda title: rhos[title]) for choose in (min, max))
    return (
        f"mean rank correlation {result.interval.value:.2f} in {len(rhos)} groups of one modality "
        f"and task, from {rhos[lowest]:.2f} on {lowest} to {rhos[highest]:.2f} on {highest}"
    )
