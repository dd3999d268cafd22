"""Run the pages of claims on connectors that were trained again, and keep what they record.

Each seed is measured by the code of the pages, on as many samples as the book's standard edition
has. One connector is replaced at a time; the others are the zoo's. The smaller edition has caches
of fewer data sets, so each seed is measured among these data sets, too.

Left out are F2.2, whose page leaves out models of this size, and F3.2, which needs the weights of
several steps of a training.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ima.cache.cache_set import open_cache_set
from ima.cache.reader import read_cache_attributes
from ima.cache.store import locate_store
from ima.claims.records import ClaimRecord, read_claim_records
from ima.claims.registry import CLAIMS
from ima.claims.seeds import (
    FIRST_SEED,
    SeedMeasurement,
    SeedRecords,
    get_seed_path,
    read_seed_records,
    write_seed_records,
)
from ima.errors import CacheDifferentError, ParameterError, UnknownNameError
from ima.files import read_json
from ima.models import zoo
from ima.notebook.reachable_code import digest_code, list_reachable_modules
from ima.notebook.runner import run_notebook
from ima.studies.retrained import (
    RETRAINED_FOLDER,
    RETRAININGS,
    Retraining,
    make_recipe,
    retrain_connector,
    train_again,
)

logger = logging.getLogger("ima")

#: The models whose connectors are replaced, by data set.
SEEDED_MODELS: Mapping[str, str] = MappingProxyType(
    {
        "drawings-image-caption": "smollm2/dinov2/image-caption",
        "drawings-image-qa": "smollm2/dinov2/image-qa",
        "drawings-video-caption": "smollm2/dinov2/video-caption",
        "sounds-audio-caption": "smollm2/whisper/audio-caption",
    }
)
#: The data sets of an edition's caches of these models.
_SMALL = ("drawings-image-caption", "sounds-audio-caption")
SEEDED_SETS: tuple[tuple[str, ...], ...] = (_SMALL, tuple(SEEDED_MODELS))
#: What each kind of cache holds: the sizes of the standard edition.
CACHE_SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "findings": {"samples": 64, "keep_tokens": 32, "logit_lens": 20, "loss": False},
        "calibration": {
            "samples": 80,
            "unit": 5,
            "hook_points": ["resid_post"],
            "input_norms": True,
            "loss": False,
        },
    }
)
#: Few resamples: of each reading, only the value is kept, and not the interval.
_RESAMPLES: Mapping[str, Any] = MappingProxyType({"resamples": 100})


@dataclass(frozen=True)
class SeededPage:
    """A page that is run on each seed.

    Parameters
    ----------
    name : str
        The notebook.
    parameters : mapping
        Those that its values depend on, as in the standard edition.
    kind : {"findings", "calibration"}
        The caches that it opens.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "findings"


SEEDED_PAGES: tuple[SeededPage, ...] = (
    SeededPage("finding1", {"paired": 2, "embedded": 20, **_RESAMPLES}),
    SeededPage("finding1-words", _RESAMPLES),
    SeededPage("finding1-norms", {"controlled": 16, **_RESAMPLES}),
    SeededPage("finding3", _RESAMPLES),
    SeededPage("finding3-blocks", _RESAMPLES),
    SeededPage("finding2", {"sparsities": [0.5], "sequential": 0}, kind="calibration"),
    SeededPage(
        "finding3-controls",
        {"samples": 20, "depths": [0.5], "fewer": {"smollm2 (ST)": 4}, **_RESAMPLES},
    ),
)


def measure_seeds(
    *,
    only: Sequence[str] = (),
    samples: int = 160,
    pages: Sequence[str] = (),
    repository: Path = Path(),
) -> Path:
    """Train connectors again, and keep their curves and what the pages of claims record of them.

    What is done is not repeated: a stopped run continues with the next page.

    Parameters
    ----------
    only : sequence of str
        Names of trainings, or ``seed 0`` for the zoo's own connectors. Empty: all.
    samples : int
        Test samples of the curves.
    pages : sequence of str
        Names of :data:`SEEDED_PAGES`. Empty: all.
    repository : Path
        A clone of the repository: the sources of the pages are not in the package.

    Returns
    -------
    Path
        The folder of the numbers.

    Raises
    ------
    UnknownNameError
        If there is no such training or page.
    ParameterError
        If the repository holds no pages.
    PartAbsentError
        If a part was not fetched.
    NotebookError
        If a page fails.

    Examples
    --------
    >>> measure_seeds(only=["seed 1"])  # doctest: +SKIP
    PosixPath('data/zoo/retrained')
    """
    trainings = {one.name: one for one in RETRAININGS}
    known = [FIRST_SEED, *trainings]
    _require_known(only, known, kind="training")
    _require_known(pages, [page.name for page in SEEDED_PAGES], kind="page")
    _find_page(SEEDED_PAGES[0], repository)
    chosen_pages = [page for page in SEEDED_PAGES if not pages or page.name in pages]
    for name in known:
        if only and name not in only:
            continue
        training = trainings.get(name)
        retrain_connector(only=[name], samples=samples)
        if training is None or not training.permuted:
            for page in chosen_pages:
                _measure_page(page, name, training, repository)
    return zoo.get_zoo_root() / RETRAINED_FOLDER


def _require_known(names: Sequence[str], known: Sequence[str], *, kind: str) -> None:
    for name in names:
        if name not in known:
            raise UnknownNameError.among(kind=kind, asked=name, available=known)


def _find_page(page: SeededPage, repository: Path) -> Path:
    path = repository / "notebooks" / f"{page.name}.md"
    if not path.is_file():
        raise ParameterError(
            f"{str(repository.resolve())!r} holds no notebooks/{page.name}.md. Other seeds are "
            "measured by the pages of claims: run this in a clone of the repository."
        )
    return path


def _measure_page(
    page: SeededPage, name: str, training: Retraining | None, repository: Path
) -> None:
    """Run one page on one seed, unless its records are kept."""
    records = _begin_records(name, training)
    if page.name in records.pages:
        return
    logger.info("measuring %s on %s", page.name, name)
    measured = {one.key: one for one in records.measurements}
    weights = dict(records.weights)
    # Of the zoo's connectors and of a connector in each of two sets of data sets.
    replaced = None if training is None else (_get_dataset(training), train_again(training))
    for datasets in SEEDED_SETS:
        if replaced is not None and replaced[0] not in datasets:
            continue
        caches = {dataset: _make_cache(dataset, page.kind, replaced) for dataset in datasets}
        weights |= {dataset: _read_weights(path) for dataset, path in caches.items()}
        for record in _run_page(page, list(caches.values()), name, repository):
            if record.interval is not None:
                one = _extract_measurement(record)
                measured[one.key] = one
    write_seed_records(
        records.model_copy(
            update={
                "weights": weights,
                "pages": (*records.pages, page.name),
                "measurements": tuple(measured.values()),
            }
        )
    )


def _begin_records(name: str, training: Retraining | None) -> SeedRecords:
    """Return the kept records of a seed, or new ones if there are none of today's readings."""
    if training is None:
        recipes = {
            dataset: read_json(zoo.get_zoo_root() / "connectors" / model / zoo.CARD_FILE)["recipe"]
            for dataset, model in SEEDED_MODELS.items()
        }
        dataset, models = "", dict(SEEDED_MODELS)
    else:
        dataset = _get_dataset(training)
        recipes, models = {dataset: make_recipe(training)}, {dataset: training.model}
    new = SeedRecords(
        name=name,
        dataset=dataset,
        models=models,
        recipes=recipes,
        weights={},
        samples=CACHE_SETTINGS["findings"]["samples"],
    )
    path = get_seed_path(name)
    if not path.is_file():
        return new
    kept = read_seed_records(path)
    # Compared as JSON holds them, in which a tuple is a list.
    alike = SeedRecords.model_validate_json(new.model_dump_json())
    same = all(
        getattr(kept, part) == getattr(alike, part)
        for part in ("dataset", "models", "recipes", "samples", "schema_version")
    )
    return _drop_outdated(kept) if same else new


def _drop_outdated(kept: SeedRecords) -> SeedRecords:
    """Leave out the pages that measured another version of a reading."""
    outdated = {
        CLAIMS[one.claim].page
        for one in kept.measurements
        if one.version != CLAIMS[one.claim].readings[one.reading].version
    }
    return kept.model_copy(
        update={
            "pages": tuple(page for page in kept.pages if page not in outdated),
            "measurements": tuple(
                one for one in kept.measurements if CLAIMS[one.claim].page not in outdated
            ),
        }
    )


def _get_dataset(training: Retraining) -> str:
    """Return the data set of a training's connector."""
    return next(dataset for dataset, model in SEEDED_MODELS.items() if model == training.model)


def _make_cache(dataset: str, kind: str, replaced: tuple[str, Path] | None) -> Path:
    """Make a cache of the zoo's connector of a data set, or of the one that replaces it.

    Pages share it. Caches that other code captured stay unread, as in the book.
    """
    from ima.capture.writer import create_cache  # imports torch

    folder = _get_work_folder() / "caches" / _digest_capture_code()
    model, seed = SEEDED_MODELS[dataset], get_seed_path(FIRST_SEED).stem
    if replaced is not None and replaced[0] == dataset:
        model, seed = str(replaced[1]), replaced[1].name
    path = folder / f"{seed}-{dataset}-{kind}.zarr"
    settings = {
        "dataset": dataset if kind == "findings" else f"{dataset}:{kind}",
        "path": path,
        **CACHE_SETTINGS[kind],
    }
    try:
        create_cache(model, **settings)
    except CacheDifferentError:  # weights, samples or settings have changed since
        create_cache(model, overwrite=True, **settings)
    return path


@functools.cache
def _digest_capture_code() -> str:
    """Return a few digits that change with the code that captures, read once: as it was loaded."""
    return digest_code(list_reachable_modules("import ima.capture.writer"))[:8]


def _get_work_folder() -> Path:
    return zoo.get_zoo_root() / ".training" / RETRAINED_FOLDER


def _read_weights(path: Path) -> str:
    return str(read_cache_attributes(locate_store(path))["model"]["weights_hash"])


def _run_page(
    page: SeededPage, caches: Sequence[Path], name: str, repository: Path
) -> list[ClaimRecord]:
    """Run a page on caches, and return what it recorded."""
    open_cache_set(caches)  # one model, or an error before the page runs
    runs = _get_work_folder() / "runs"
    stem = f"{get_seed_path(name).stem}-{len(caches)}-{page.name}"
    claims = runs / f"{stem}.claims.json"
    values = {
        **page.parameters,
        "caches": [str(path) for path in caches],
        "claims": str(claims),
        "other_seeds": False,
    }
    if page.kind == "calibration":
        values["masks"] = str(runs / f"{stem}-masks")
    run_notebook(_find_page(page, repository), output=runs / f"{stem}.ipynb", parameters=values)
    return read_claim_records(claims)


def _extract_measurement(record: ClaimRecord) -> SeedMeasurement:
    """Return the value of one seed, without what other seeds add."""
    assert record.measured is not None
    return SeedMeasurement(
        claim=record.claim,
        reading=record.reading,
        version=record.version,
        model=record.model,
        dataset=record.dataset,
        value=record.measured.value,
    )
