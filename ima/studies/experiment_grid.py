"""Line-up: which models of a zoo are compared with which, and on what (I1, I2)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ima.capture.training_runs import cache_residual_stream, make_cache_name
from ima.errors import ParameterError, UnknownNameError
from ima.models import zoo
from ima.studies.model_comparison import ModelComparison
from ima.studies.model_summary import ModelSummary, compute_model_summary

#: What a model trained for a task can be asked, by what is asked of it.
MODEL_TASKS: Mapping[str, tuple[str, ...]] = {
    "caption": ("caption", "multitask"),
    "qa": ("qa", "multitask"),
    "relation": ("multitask",),
    "poll-random": ("qa", "multitask"),
    "poll-popular": ("qa", "multitask"),
    "poll-adversarial": ("qa", "multitask"),
}
TASK_TITLES: Mapping[str, str] = {
    "caption": "captions",
    "qa": "questions",
    "relation": "relations",
    "poll-random": "polls (random)",
    "poll-popular": "polls (popular)",
    "poll-adversarial": "polls (adversarial)",
}


@dataclass(frozen=True)
class GridEntry:
    """A model that reads one data set.

    Parameters
    ----------
    name : str
        What :func:`ima.models.load_model` takes; ``@STEP`` at its end is a step of its training.
    dataset, task : str
        What it reads, and what that asks: a key of :data:`MODEL_TASKS`.
    language, setup, modality : str
        Its language model, its setup of the paper, and what it perceives.
    encoder : str
        What it perceives with.
    """

    name: str
    dataset: str
    task: str
    language: str
    setup: str
    modality: str
    encoder: str

    @property
    def run(self) -> str:
        """The model without the step of its training."""
        return zoo.split_checkpoint_name(self.name)[0]

    @property
    def step(self) -> int | None:
        """The step of its training; None for the finished model."""
        return zoo.split_checkpoint_name(self.name)[1]

    @property
    def family(self) -> str:
        """Language model and setup, as claims name them."""
        return f"{self.language} ({self.setup})"


def list_grid_entries(
    tasks: Sequence[str], *, models: Sequence[str] = (), tracked: Sequence[str] | None = None
) -> list[GridEntry]:
    """List the models of the zoo that perceive, with what each is asked.

    Parameters
    ----------
    tasks : sequence of str
        Keys of :data:`MODEL_TASKS`.
    models : sequence of str
        Which models; empty takes all.
    tracked : sequence of str or None
        Of which models every step whose weights were kept is listed too; None takes all that have
        any.

    Returns
    -------
    list of Entry
        Finished models first.

    Raises
    ------
    UnknownNameError
        If there is no such task, or no such model that perceives.
    ParameterError
        If a tracked model has no weights along its training.
    """
    for task in tasks:
        if task not in MODEL_TASKS:
            raise UnknownNameError.among(kind="task", asked=task, available=MODEL_TASKS)
    records = {r["name"]: r for r in zoo.list_models() if r["setup"] in {"ST", "MT"}}
    wanted = list(models) or list(records)
    followed = (
        [name for name in wanted if records.get(name, {}).get("checkpoints")]
        if tracked is None
        else list(tracked)
    )
    for name in (*wanted, *followed):
        if name not in records:
            raise UnknownNameError.among(kind="model", asked=name, available=records)
    without = [name for name in followed if not records[name]["checkpoints"]]
    if without:
        message = f"{', '.join(without)} has no weights along its training. See: ima models list."
        raise ParameterError(message)
    found = [_entry(records[name], task) for name in wanted for task in tasks]
    found += [
        _entry(records[name], task, step=step)
        for name in followed
        for step in records[name]["checkpoints"]
        for task in tasks
    ]
    return [entry for entry in found if entry is not None]


def _entry(record: Mapping[str, object], task: str, *, step: int | None = None) -> GridEntry | None:
    if record["task"] not in MODEL_TASKS[task]:
        return None
    name, modality = str(record["name"]), str(record["modality"])
    if record["setup"] == "ST":
        language, encoder, _ = name.split("/")
    else:
        made_of = zoo.read_card(zoo.find_model_folder(name))["made_of"]
        language, encoder = (made_of[part].split("/")[1] for part in ("language", "encoder"))
    return GridEntry(
        name if step is None else f"{name}{zoo.CHECKPOINT_SEPARATOR}{step}",
        f"mini-{modality}-{task}",
        task,
        language,
        str(record["setup"]),
        modality,
        encoder,
    )


def summarize_grid_entry(
    entry: GridEntry,
    *,
    caches: str | os.PathLike[str],
    samples: int,
    resamples: int,
    device: str = "cpu",
    seed: int = 0,
) -> ModelSummary:
    """Cache what a model does with its test samples, and reduce it to numbers.

    Parameters
    ----------
    entry : Entry
        The model, and what it reads.
    caches : path
        Folder for its cache; one of other weights or settings is replaced.
    samples : int
        Test samples.
    resamples : int
        Bootstrap resamples of samples that are kept of each number.
    device : str
        Where the model runs.
    seed : int
        Of the resamples.
    """
    path = Path(caches) / make_cache_name(entry.name, entry.dataset)
    settings = {"samples": samples, "predict": True, "device": device}
    cache_residual_stream(entry.name, path=path, dataset=entry.dataset, replace=True, **settings)
    return compute_model_summary(path, resamples=resamples, seed=seed)


def build_comparisons(
    found: Mapping[GridEntry, ModelSummary],
    *,
    metrics: Mapping[str, Sequence[str]],
    short: Mapping[str, ModelSummary] | None = None,
    short_family: str = "",
) -> list[ModelComparison]:
    """Put models side by side that differ in one thing.

    Parameters
    ----------
    found : mapping of Entry to Candidate
        What caches say of them.
    metrics : mapping of str to sequence of str
        By task, the scores by which they are compared.
    short : mapping of str to Candidate or None
        Short runs of captioning connectors, by name; see ``ima.miniature.sweep``.
    short_family : str
        Their language model and setup.

    Returns
    -------
    list of Comparison
        Encoders of all modalities, and of each; each run along its training; variants of multitask
        models; short runs.
    """
    made = []
    for task, scores in metrics.items():
        asked = {entry: one for entry, one in found.items() if entry.task == task}
        groups = _groups(asked, TASK_TITLES[task])
        if short and task == "caption":
            dataset = next(iter(short.values())).dataset
            groups.append(("short runs, captions", "runs", short_family, dataset, short))
        for title, kind, family, dataset, points in groups:
            for metric in scores:
                named = f"{title}, {metric}" if len(scores) > 1 else title
                made.append(ModelComparison(named, kind, family, dataset, metric, points))
    return made


_Group = tuple[str, str, str, str, Mapping[str, ModelSummary]]


def _groups(asked: Mapping[GridEntry, ModelSummary], told: str) -> list[_Group]:
    found: list[_Group] = []
    finished = [entry for entry in asked if entry.step is None]
    for family in dict.fromkeys(entry.family for entry in finished):
        own = [entry for entry in finished if entry.family == family]
        datasets = ", ".join(sorted({entry.dataset for entry in own}))
        if own[0].setup == "MT":
            continue
        points = {entry.encoder: asked[entry] for entry in own}
        title = f"{own[0].language}, all encoders, {told}"
        found.append((title, "encoders", family, datasets, points))
        for modality in dict.fromkeys(entry.modality for entry in own):
            seen = [entry for entry in own if entry.modality == modality]
            if len(seen) > 1:
                points = {entry.encoder: asked[entry] for entry in seen}
                title = f"{own[0].language}, {modality} encoders, {told}"
                found.append((title, "encoders", family, seen[0].dataset, points))
    tuned = [entry for entry in finished if entry.setup == "MT"]
    if tuned:
        points = {entry.name: asked[entry] for entry in tuned}
        title = f"multitask variants, {told}"
        found.append((title, "variants", tuned[0].family, tuned[0].dataset, points))
    for run in dict.fromkeys(entry.run for entry in asked if entry.step is not None):
        steps = [entry for entry in asked if entry.run == run and entry.step is not None]
        points = {str(entry.step): asked[entry] for entry in steps}
        first = steps[0]
        # A multitask model's name does not say what it is asked.
        title = f"{run} in training" + (f", {told}" if first.setup == "MT" else "")
        if first.task.startswith("poll") and first.setup == "ST":
            title += f", {told}"
        found.append((title, "training", first.family, first.dataset, points))
    return found
