"""Other seeds of a model's connectors: what the zoo keeps of them, and intervals that cover them.

``ima zoo retrain`` trains connectors again and runs the pages of claims on each. The zoo keeps what
the pages recorded, and not the weights. Each time, one connector is replaced and the others stay,
for three reasons: a seed counts as soon as it is trained; three connectors with three seeds each
give six degrees of freedom, where three whole models would give two; and the numbers show which
connector moves a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ima.cache.cache_set import CacheSet
from ima.cache.schema import CACHE_SCHEMA_VERSION
from ima.claims.readings import ReadingName
from ima.claims.records import ClaimRecord
from ima.claims.spread import SeedSpread
from ima.errors import ModelError
from ima.files import write_json
from ima.models import zoo

#: Name of the measurements of the zoo's own connectors.
FIRST_SEED = "seed 0"
# Of the width of an interval: what other processors and random draws may change.
_LARGEST_DIFFERENCE = 0.25
#: What differs between the recipes of two seeds of one connector.
_SEEDED = ("seed",)


class SeedMeasurement(BaseModel):
    """A reading of a claim, measured with one seed of a connector: its value, without an interval.

    The interval of a record over seeds comes from its page and from the values of the seeds. Files
    may hold the interval of a seed, too; it is not read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    claim: str
    reading: ReadingName
    version: str
    model: str
    dataset: str
    value: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What two seeds measured alike: claim, reading, model and data sets."""
        return self.claim, self.reading, self.model, self.dataset


class SeedRecords(BaseModel):
    """What the pages of claims recorded with one seed of a connector.

    Parameters
    ----------
    name : str
        Name of the training; ``seed 0`` for the zoo's own connectors.
    dataset : str
        The data set of the connector that is replaced; empty for ``seed 0``.
    models : mapping of str to str
        By data set, the zoo name of the connector, or of the one that is replaced.
    recipes : mapping of str to dict
        By data set, the recipe of the connector.
    weights : mapping of str to str
        By data set, the hash of the weights of the model that was measured.
    schema_version : str
        Schema of the caches.
    samples : int
        Samples of each cache.
    pages : tuple of str
        The pages that have run.
    measurements : tuple of SeedMeasurement
        What they recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dataset: str = ""
    models: Mapping[str, str]
    recipes: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]
    schema_version: str = CACHE_SCHEMA_VERSION
    samples: int
    pages: tuple[str, ...] = ()
    measurements: tuple[SeedMeasurement, ...] = ()

    def describe_command(self) -> str:
        """Return the command line that measures this seed again.

        Examples
        --------
        >>> SeedRecords(
        ...     name="seed 1", models={}, recipes={}, weights={}, samples=64
        ... ).describe_command()
        "ima zoo retrain --only 'seed 1'"
        """
        return f"ima zoo retrain --only '{self.name}'"

    def find(self, record: ClaimRecord) -> SeedMeasurement | None:
        """Return what was measured of the reading, model and data sets of a record, if it was.

        Raises
        ------
        ModelError
            If it was measured in another version of the reading.
        """
        key = (record.claim, record.reading, record.model, record.dataset)
        found = next((one for one in self.measurements if one.key == key), None)
        if found is not None and found.version != record.version:
            raise ModelError(
                f"{get_seed_path(self.name)} holds {record.claim} {record.reading} in version "
                f"{found.version} of the reading, which is now {record.version}. "
                f"Measure it again: {self.describe_command()}"
            )
        return found


def get_seed_path(name: str) -> Path:
    """Return the file of a seed's measurements.

    Examples
    --------
    >>> get_seed_path("audio seed 1").name
    'audio-seed-1.json'
    """
    return _get_folder() / f"{name.replace(' ', '-')}.json"


def _get_folder() -> Path:
    return zoo.get_zoo_root() / "retrained" / "records"


def write_seed_records(records: SeedRecords) -> Path:
    """Write the measurements of a seed to the zoo.

    Examples
    --------
    >>> write_seed_records(measured)  # doctest: +SKIP
    PosixPath('data/zoo/retrained/records/seed-1.json')
    """
    path = get_seed_path(records.name)
    write_json(path, records.model_dump())
    return path


def read_seed_records(path: Path) -> SeedRecords:
    """Read the measurements of a seed.

    Raises
    ------
    ModelError
        If the file holds something else.

    Examples
    --------
    >>> read_seed_records(get_seed_path("seed 1")).samples  # doctest: +SKIP
    64
    """
    try:
        return SeedRecords.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ModelError(
            f"{path} holds no measurements of a seed: {error}. "
            f"Remove it, and measure again: ima zoo retrain --only '{path.stem.replace('-', ' ')}'"
        ) from error


def list_seed_records() -> list[SeedRecords]:
    """Read the measurements of all seeds that the zoo keeps, the zoo's own connectors first.

    Raises
    ------
    ModelError
        If a seed was measured on caches of another schema, on another number of samples, or with a
        recipe that differs from the zoo's in more than the seed; or if the zoo's own connectors
        were not measured.

    Examples
    --------
    >>> [one.name for one in list_seed_records()]  # doctest: +SKIP
    ['seed 0', 'audio seed 1', 'seed 1']
    """
    kept = [read_seed_records(path) for path in sorted(_get_folder().glob("*.json"))]
    if not kept:
        return []
    first = next((one for one in kept if one.name == FIRST_SEED), None)
    if first is None:
        raise ModelError(
            f"{_get_folder()} holds {', '.join(one.name for one in kept)}, but not "
            f"{FIRST_SEED}, with which they are compared. "
            f"Measure it: ima zoo retrain --only '{FIRST_SEED}'"
        )
    for one in kept:
        _require_comparable(one, first)
    return [first, *(one for one in kept if one is not first)]


def _require_comparable(one: SeedRecords, first: SeedRecords) -> None:
    """Refuse measurements that differ from those of the zoo's connectors in more than a seed."""
    reasons = []
    if one.schema_version != CACHE_SCHEMA_VERSION:
        reasons.append(
            f"caches of schema {one.schema_version}, and the schema is now {CACHE_SCHEMA_VERSION}"
        )
    if one.samples != first.samples:
        reasons.append(f"{one.samples} samples, and {FIRST_SEED} on {first.samples}")
    for dataset, recipe in one.recipes.items():
        differ = [
            name
            for name in {**recipe, **first.recipes.get(dataset, {})}
            if name not in _SEEDED and recipe.get(name) != first.recipes.get(dataset, {}).get(name)
        ]
        if differ:
            reasons.append(f"another recipe of {dataset}: {', '.join(sorted(differ))} differ")
    if reasons:
        raise ModelError(
            f"{get_seed_path(one.name)} was measured on {'; '.join(reasons)}. "
            f"Measure it again: {one.describe_command()}"
        )


def cover_seeds(
    records: Iterable[ClaimRecord], cache_sets: Mapping[str, CacheSet], *, asked: bool = True
) -> list[ClaimRecord]:
    """Let intervals and verdicts cover other seeds of the connectors, where the zoo keeps some.

    This is for pages, after they have made their records.

    Parameters
    ----------
    records : iterable of ClaimRecord
        What a page measured.
    cache_sets : mapping of str to CacheSet
        By model, the caches that it was measured on. Seeds of the zoo's connectors say nothing
        about another connector, even of the same name.
    asked : bool
        False returns the records as they are: a page that measures a seed asks for no others.

    Returns
    -------
    list of ClaimRecord
        In the same order. A record stays as it is if it has no verdict, if its caches are not of
        the zoo's connectors, or if no other seed of them was measured.

    Raises
    ------
    ModelError
        If measurements are kept that do not fit the records: of another version of the reading, of
        other weights, recipe, cache schema, samples or code. The error names the command that
        renews them.

    Examples
    --------
    >>> cover_seeds([], {})
    []
    """
    kept = list_seed_records() if asked else []
    return [_cover(record, cache_sets.get(record.model), kept) for record in records]


def _cover(
    record: ClaimRecord, cache_set: CacheSet | None, kept: Sequence[SeedRecords]
) -> ClaimRecord:
    if not kept or cache_set is None or record.interval is None or record.reason:
        return record
    first, *others = kept
    datasets = record.dataset.split(", ")
    measured = first.find(record)
    if measured is None or not _is_same_model(cache_set, datasets, first):
        return record
    _require_same_value(record, measured, cache_set, first)
    by_part: dict[str, list[float]] = {}
    for other in others:
        again = other.find(record) if other.dataset in datasets else None
        if again is not None:
            by_part.setdefault(other.dataset, [measured.value]).append(again.value)
    if not by_part:
        return record
    return record.with_spread(
        SeedSpread.of(
            record.interval,
            by_part={part: tuple(by_part[part]) for part in datasets if part in by_part},
            trained_once=tuple(name for name in datasets if name not in by_part),
        )
    )


def _require_same_value(
    record: ClaimRecord, measured: SeedMeasurement, cache_set: CacheSet, first: SeedRecords
) -> None:
    """Refuse measurements by other code: on as many samples, the same model has the same value.

    A version of a reading names its statistic, and not the code that computes it.
    """
    own = record.interval
    assert own is not None
    alike = (cache_set.members["samples"] == first.samples).all()
    if alike and abs(own.value - measured.value) > _LARGEST_DIFFERENCE * (own.high - own.low):
        raise ModelError(
            f"{get_seed_path(FIRST_SEED)} says that {record.claim} {record.reading} is "
            f"{measured.value:.3f} on {first.samples} samples of {record.dataset}, and the page "
            f"measures {own}: the code has changed since. Measure again: ima zoo retrain"
        )


def _is_same_model(cache_set: CacheSet, datasets: Sequence[str], first: SeedRecords) -> bool:
    """Return whether caches are of the connectors that were measured as the first seed.

    Raises
    ------
    ModelError
        If they have the same names, but other weights.
    """
    found = {
        str(row["dataset"]): (
            str(row["model"]),
            str(cache_set.trees[str(name)].attrs["model"]["weights_hash"]),
        )
        for name, row in cache_set.members.iterrows()
    }
    for dataset in datasets:
        model, weights = found.get(dataset, ("", ""))
        if first.weights.get(dataset) == weights:
            continue
        if first.models.get(dataset) == model:
            raise ModelError(
                f"{get_seed_path(FIRST_SEED)} was measured on other weights of {model} than its "
                "cache. Measure again: ima zoo retrain"
            )
        return False
    return True
