"""The experiment grid of I1 and I2: models by data sets, and the comparisons made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ima.cache.cache_set import name_cache_set
from ima.data.worlds import load_worlds
from ima.errors import ParameterError, UnknownNameError
from ima.models import zoo
from ima.studies.model_comparison import ModelComparison
from ima.studies.model_summary import ModelSummary, compute_model_summary

#: For each task that a model can be given, the training tasks of the models that can do it.
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
    """A model with one of the data sets that it can be given.

    Parameters
    ----------
    name : str
        Name of the model for :func:`ima.models.load_model`; a final ``@STEP`` selects a checkpoint.
    dataset : str
        Name of the data set.
    task : str
        Task of the data set: a key of :data:`MODEL_TASKS`.
    language : str
        Name of the language model.
    setup : str
        Setup of the paper: ST or MT.
    modality : str
        Modality of the media.
    encoder : str
        Name of the encoder.
    is_finished : bool
        Whether training was complete: false for all steps but the last.
    """

    name: str
    dataset: str
    task: str
    language: str
    setup: str
    modality: str
    encoder: str
    is_finished: bool = True

    @property
    def run(self) -> str:
        """Name of the training run: the model without its step."""
        return zoo.split_checkpoint_name(self.name)[0]

    @property
    def step(self) -> int | None:
        """Training step of a checkpoint; None for the finished model."""
        return zoo.split_checkpoint_name(self.name)[1]

    @property
    def title(self) -> str:
        """What tells the model from others of its language model: its encoder, or its name."""
        return self.encoder if self.setup == "ST" else self.name

    @property
    def family(self) -> str:
        """Name of the column of the front table to which the model belongs.

        Single-task models of one language model are one family, whatever the training objective of
        their encoders. A multitask model is a family of its own, as on the other pages.
        """
        return name_cache_set(self.name, setup=self.setup, language=self.language)


def list_grid_entries(
    tasks: Sequence[str], *, models: Sequence[str] = (), tracked: Sequence[str] | None = None
) -> list[GridEntry]:
    """List the multimodal models of the zoo with the data sets that each can be given.

    Parameters
    ----------
    tasks : sequence of str
        Keys of :data:`MODEL_TASKS`.
    models : sequence of str
        Names of the models; empty selects all.
    tracked : sequence of str or None
        Models whose training checkpoints are listed too; None selects all models that have
        checkpoints.

    Returns
    -------
    list of GridEntry
        The finished models, then the checkpoints, each on the data of the world that it was trained
        in. A task that this world does not have is left out.

    Raises
    ------
    UnknownNameError
        If a task or a multimodal model does not exist.
    ParameterError
        If a tracked model has no checkpoints.

    Examples
    --------
    >>> entries = list_grid_entries(["caption"], models=["opt-mini/vit/image-caption"], tracked=[])
    >>> entries[0].dataset, entries[0].encoder  # doctest: +SKIP
    ('mini-image-caption', 'vit')
    """
    for task in tasks:
        if task not in MODEL_TASKS:
            raise UnknownNameError.among(kind="task", asked=task, available=MODEL_TASKS)
    records = {r["name"]: r for r in zoo.list_models() if r["setup"] in {"ST", "MT"}}
    names = list(models) or list(records)
    tracked_names = (
        [name for name in names if records.get(name, {}).get("checkpoints")]
        if tracked is None
        else list(tracked)
    )
    for name in (*names, *tracked_names):
        if name not in records:
            raise UnknownNameError.among(kind="model", asked=name, available=records)
    untracked = [name for name in tracked_names if not records[name]["checkpoints"]]
    if untracked:
        raise ParameterError(
            f"{', '.join(untracked)} has no training checkpoints. See: ima models list."
        )
    entries = [_make_entry(records[name], task) for name in names for task in tasks]
    entries += [
        _make_entry(records[name], task, step=step)
        for name in tracked_names
        for step in records[name]["checkpoints"]
        for task in tasks
    ]
    return [entry for entry in entries if entry is not None]


def _make_entry(
    record: Mapping[str, Any], task: str, *, step: int | None = None
) -> GridEntry | None:
    if record["task"] not in MODEL_TASKS[task]:
        return None
    name, modality = str(record["name"]), str(record["modality"])
    if record["setup"] == "ST":
        language, encoder, _ = name.split("/")
    else:
        parts = zoo.read_card(zoo.find_model_folder(name))["made_of"]
        language, encoder = (parts[part].rpartition("/")[2] for part in ("language", "encoder"))
    # A model is compared on data of the world that it was trained in.
    dataset = f"{str(record['dataset']).partition('-')[0]}-{modality}-{task}"
    if not any(dataset in world.datasets for world in load_worlds().values()):
        return None
    return GridEntry(
        name if step is None else f"{name}{zoo.CHECKPOINT_SEPARATOR}{step}",
        dataset,
        task,
        language,
        str(record["setup"]),
        modality,
        encoder,
        is_finished=step is None or step == max(record["checkpoints"]),
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
    """Cache the activations of a model on its data set and compute its summary.

    Parameters
    ----------
    entry : GridEntry
        The model and its data set.
    caches : path
        Folder of the caches. A cache of other weights or settings is replaced.
    samples : int
        Number of test samples.
    resamples : int
        Bootstrap resamples of samples.
    device : str
        Device that runs the model.
    seed : int
        Seed of the resamples.

    Returns
    -------
    ModelSummary
        Proxies and scores of the model on this data set.

    Examples
    --------
    >>> entry = list_grid_entries(["qa"])[0]  # doctest: +SKIP
    >>> summarize_grid_entry(entry, caches="data/caches/proxy", samples=100, resamples=200)
    ... # doctest: +SKIP
    """
    from ima.capture.training_runs import cache_residual_stream, make_cache_name

    path = Path(caches) / make_cache_name(entry.name, entry.dataset)
    settings = {"samples": samples, "predict": True, "device": device}
    cache_residual_stream(entry.name, path=path, dataset=entry.dataset, replace=True, **settings)
    return compute_model_summary(path, resamples=resamples, seed=seed)


def build_comparisons(
    summaries: Mapping[GridEntry, ModelSummary],
    *,
    metrics: Mapping[str, Sequence[str]],
    short_runs: Mapping[str, ModelSummary] | None = None,
) -> list[ModelComparison]:
    """Group models that differ in one thing into comparisons.

    Parameters
    ----------
    summaries : mapping of GridEntry to ModelSummary
        From :func:`summarize_grid_entry`.
    metrics : mapping of str to sequence of str
        By task, the scores by which models are compared.
    short_runs : mapping of str to ModelSummary or None
        Short runs of captioning connectors, from :func:`ima.studies.short_runs.read_short_runs`
        and :func:`ima.studies.graded_encoders.read_graded_encoders`.

    Returns
    -------
    list of ModelComparison
        For each task: encoders of all modalities, encoders of each modality, variants of multitask
        models, the checkpoints of each training run, and short runs.

    Examples
    --------
    >>> build_comparisons(summaries, metrics={"qa": ["exact_match"]})  # doctest: +SKIP
    """
    comparisons = []
    for task, task_metrics in metrics.items():
        of_task = {entry: own for entry, own in summaries.items() if entry.task == task}
        groups = _group_entries(of_task, TASK_TITLES[task])
        if short_runs and task == "caption":
            groups |= _group_short_runs(short_runs)
        for title, group in groups.items():
            for metric in task_metrics:
                full_title = f"{title}, {metric}" if len(task_metrics) > 1 else title
                comparisons.append(ModelComparison(full_title, metric, group))
    return comparisons


def _group_short_runs(
    short_runs: Mapping[str, ModelSummary],
) -> dict[str, Mapping[str, ModelSummary]]:
    """Return the short runs of each language model and modality by title."""
    groups: dict[str, dict[str, ModelSummary]] = {}
    for name, summary in short_runs.items():
        language, modality = summary.model.split("/")[0], summary.dataset.split("-")[1]
        groups.setdefault(f"{language}, short runs, {modality} captions", {})[name] = summary
    return dict(groups)


def _group_entries(
    summaries: Mapping[GridEntry, ModelSummary], task_title: str
) -> dict[str, Mapping[str, ModelSummary]]:
    """Return the models of each comparison by its title, which does not name the score yet."""
    groups: dict[str, Mapping[str, ModelSummary]] = {}
    finished = [entry for entry in summaries if entry.step is None]
    for language, setup in dict.fromkeys((entry.language, entry.setup) for entry in finished):
        own = [entry for entry in finished if (entry.language, entry.setup) == (language, setup)]
        differing = "multitask variants" if setup == "MT" else "all encoders"
        title = f"{language}, {differing}, {task_title}"
        groups[title] = {entry.title: summaries[entry] for entry in own}
        if setup == "MT":
            continue
        for modality in dict.fromkeys(entry.modality for entry in own):
            part = [entry for entry in own if entry.modality == modality]
            if len(part) > 1:
                title = f"{language}, {modality} encoders, {task_title}"
                groups[title] = {entry.title: summaries[entry] for entry in part}
    for run in dict.fromkeys(entry.run for entry in summaries if entry.step is not None):
        steps = [entry for entry in summaries if entry.run == run and entry.step is not None]
        # Names of multitask models, and those of polls, do not contain the task.
        needs_task = steps[0].setup == "MT" or steps[0].task.startswith("poll")
        title = f"{run} in training" + (f", {task_title}" if needs_task else "")
        groups[title] = {str(entry.step): summaries[entry] for entry in steps}
    return groups
