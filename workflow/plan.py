"""What an edition of the book is made of: its caches and the parameters of its runs."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ima.claims.registry import list_claim_pages
from ima.data.text_files import read_text_file, split_lines
from ima.data.worlds import list_data_parts
from ima.models.parts import MODEL_PARTS
from ima.notebook.runner import read_notebook_parameters
from ima.packages import is_fetched

#: Editions, smallest first. A family of models is in the edition that it names and in larger ones.
SIZES = ("small", "standard", "full")

_NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

Config = Mapping[str, Any]


def check_size(config: Config) -> str:
    """Return the edition that is asked for.

    Raises
    ------
    SystemExit
        If there is none of that name.
    """
    size = str(config["size"])
    if size not in SIZES:
        message = f"Unknown size {size!r}. Available: {', '.join(SIZES)}."
        raise SystemExit(message)
    return size


def complete(config: Config) -> dict[str, Any]:
    """Add the runs that record claims to the configuration, and a reader's own model and data.

    A run whose parts from packages are not fetched is left out, unless it names parameters for
    ``otherwise``. Every page of a claim in
    :mod:`ima.claims.registry` is a run that records claims. A page that the configuration does not
    list opens the caches of findings and keeps its notebook's defaults. A run that comes ``after``
    systems reads what all runs record that have ``systems``.

    ``own_model`` is a name, a folder or a hub's id; ``own_data`` data sets or folders of samples
    separated by commas; ``own_samples``, ``own_device`` and ``own_precision`` may be left out.

    Raises
    ------
    SystemExit
        If one of model and data is missing, a folder holds no samples, or two data sets have one
        name.
    """
    left_out = missing_runs(config)
    runs = {name: dict(run) for name, run in config["runs"].items() if name not in left_out}
    for page in list_claim_pages():
        runs.setdefault(page, {"caches": "findings"})["claims"] = True
    recorded = [name for name, run in runs.items() if run.get("systems")]
    for run in runs.values():
        if run.get("after") == "systems":
            run |= {"after": recorded, "reads": "systems"}
    config = {**config, "runs": runs}
    model, data = (str(config.get(name) or "") for name in ("own_model", "own_data"))
    if not model and not data:
        return config
    if not model or not data:
        given, missing = ("MODEL", "DATA") if model else ("DATA", "MODEL")
        message = (
            f"{given} is given and {missing} is not. Give both: make book MODEL=folder-or-id "
            "DATA=folder-of-samples"
        )
        raise SystemExit(message)
    sets = _name_own_data(data.split(","), known=config["data"])
    names = {"samples": int, "device": str, "precision": str}
    given = {
        name: cast(config[f"own_{name}"])
        for name, cast in names.items()
        if config.get(f"own_{name}")
    }
    own = {"caches": dict.fromkeys(sets, model), "parameters": given}
    return {
        **config,
        "data": {**config["data"], **sets},
        "families": {**config["families"], "own": own},
    }


def _name_own_data(given: Sequence[str], *, known: Mapping[str, str]) -> dict[str, str]:
    """Name a reader's data sets by the last part of their paths."""
    sets: dict[str, str] = {}
    for path in given:
        name = Path(path).name.replace(":", "-")
        other = {**known, **sets}.get(name, path)
        if other != path:
            message = (
                f"Two data sets have the name {name}: {other} and {path}. Give the folder another "
                "name: caches and tables are named by it."
            )
            raise SystemExit(message)
        sets[name] = path
    return sets


def families(config: Config) -> dict[str, dict[str, Any]]:
    """Return the families of models that the edition has, in the order of the configuration."""
    kept = {name: entry for name, entry in _edition(config).items() if not _missing(entry)}
    # A page shows the first cache set in full: the book's come before a reader's own.
    return dict(sorted(kept.items(), key=lambda item: "from" not in item[1]))


def _edition(config: Config) -> dict[str, dict[str, Any]]:
    """Return the families that the edition would have if every part were fetched."""
    editions = SIZES[: SIZES.index(check_size(config)) + 1]
    kept = {}
    for name, entry in config["families"].items():
        later = [data for data, size in entry.get("larger", {}).items() if size not in editions]
        if entry.get("from", SIZES[0]) in editions:
            models = {data: model for data, model in entry["caches"].items() if data not in later}
            kept[name] = {**entry, "caches": models}
    return kept


def _missing(entry: Mapping[str, Any]) -> list[str]:
    """Return the parts from packages that a family or a run needs and that are not fetched."""
    parts = {**MODEL_PARTS, **list_data_parts()}
    return [name for name in entry.get("parts", ()) if not is_fetched(parts[name])]


def missing_parts(config: Config) -> dict[str, list[str]]:
    """Return, by family of models, the parts without which the edition leaves the family out."""
    missing = {name: _missing(entry) for name, entry in _edition(config).items()}
    return {name: parts for name, parts in missing.items() if parts}


def missing_runs(config: Config) -> dict[str, list[str]]:
    """Return, by run, the parts without which :func:`complete` leaves the run out."""
    missing = {
        name: _missing(entry) for name, entry in config["runs"].items() if "otherwise" not in entry
    }
    return {name: parts for name, parts in missing.items() if parts}


def caches(config: Config) -> dict[str, dict[str, Any]]:
    """Return every cache of the edition, with the parameters that notebooks/caching.md takes.

    Names are ``family-data`` and, for other kinds than findings, ``kind-family-data``.
    """
    found = {}
    edition = families(config)
    for kind in config["kinds"]:
        for family, data, name, held in _sets(config, kind):
            entry = edition[family]
            model = entry["caches"][data]
            values = _parameters(config, kind, held, entry.get("parameters", {}))
            values |= {"model": model, "dataset": name, "out": str(store(config, model, name))}
            found[_title(kind, family, data)] = values
    return found


def large_caches(config: Config) -> set[str]:
    """Return the names of the caches that take longest: those of models that others trained."""
    edition = families(config)
    return {
        _title(kind, family, data)
        for kind in config["kinds"]
        for family, data, *_ in _sets(config, kind)
        if edition[family].get("parts")
    }


def _title(kind: str, family: str, data: str) -> str:
    return "-".join([family, data] if kind == "findings" else [kind, family, data])


def _sets(config: Config, kind: str) -> Iterator[tuple[str, str, str, int | None]]:
    """Yield family, data, what is opened and how many samples a folder holds, cache by cache."""
    split = config["kinds"][kind].get("split", "test")
    for family, entry in families(config).items():
        for data in entry["caches"]:
            held = _held(config["data"][data])
            if held is None or held.get(split):
                opened = config["data"][data] + ("" if split == "test" else f":{split}")
                yield family, data, opened, None if held is None else held[split]


@functools.cache
def _held(data: str) -> Counter[str] | None:
    """Count the samples of each split in a folder; None for a data set that has a name."""
    file = Path(data) / "samples.jsonl"
    if not Path(data).is_dir():
        return None
    if not file.is_file():
        message = f"{data} holds no samples.jsonl. Make one: ima data import, or by hand."
        raise SystemExit(message)
    text = read_text_file(file)
    lines = [json.loads(line) for _, line in split_lines(text)]
    return Counter(str(line.get("split", "test")) for line in lines)


def _parameters(
    config: Config, kind: str, held: int | None, asked: Mapping[str, Any]
) -> dict[str, Any]:
    own = {name: value for name, value in config["kinds"][kind].items() if name != "split"}
    values = {**own, **config["sizes"][check_size(config)][kind], **asked}
    if held is not None and "samples" not in asked:
        values["samples"] = min(values["samples"], held)
    for name in ("keep_tokens", "logit_lens", "unit"):
        if name in values:
            values[name] = min(values[name], values["samples"])
    return values


def chosen(config: Config, run: str) -> list[str]:
    """Return the names of the caches that a run opens.

    The entry names a kind of cache (of all families), a kind with families or without some, the
    ``first`` caches of a kind, or the caches; what it names for an edition goes before that.
    """
    entry = config["runs"][run]
    # Of a run that opens none, `caches` is a parameter like others.
    asked = entry.get("caches", [])
    if asked:
        asked = entry.get(check_size(config), {}).get("caches", asked)
    if isinstance(asked, list):
        return asked
    given = {"kind": asked} if isinstance(asked, str) else asked
    kind, named, without = given["kind"], given.get("families"), given.get("without", ())
    found = [
        _title(kind, family, data)
        for family, data, *_ in _sets(config, kind)
        if (named is None or family in named) and family not in without
    ]
    return found[: given.get("first")]


def parameters(config: Config, run: str) -> dict[str, Any]:
    """Return the parameters of a run.

    A page that runs models and opens a cache which an accelerator made runs them there, too.
    """
    entry = config["runs"][run]
    values = {**entry.get("parameters", {}), **entry.get(check_size(config), {})}
    if _missing(entry):
        values |= entry["otherwise"]
    if entry.get("caches"):
        made = caches(config)
        opened = [made[name] for name in chosen(config, run)]
        values["caches"] = [each["out"] for each in opened]
        # "auto" spreads large models only, and a page runs all of them on one device.
        devices = [device for each in opened if (device := each.get("device", "auto")) != "auto"]
        if devices and _takes_device(run):
            values.setdefault("device", devices[-1])
    if entry.get("claims"):
        values["claims"] = f"book/runs/{run}.claims.json"
    if entry.get("systems"):
        values["systems"] = f"book/runs/{run}.systems.json"
    if entry.get("reads") == "systems":
        values["records"] = system_records(config)
    return values


def _takes_device(run: str) -> bool:
    declared = read_notebook_parameters(_NOTEBOOKS / f"{run}.md")
    return any(parameter.name == "device" for parameter in declared)


def system_records(config: Config) -> list[str]:
    """Return the files in which runs record what related systems do."""
    runs = config["runs"].items()
    return [f"book/runs/{name}.systems.json" for name, entry in runs if entry.get("systems")]


def folder(config: Config) -> Path:
    """Return the folder of the edition's caches."""
    return Path("data/caches") / check_size(config)


def store(config: Config, model: str, dataset: str) -> Path:
    """Return where a model's cache of a data set is."""
    # The name of a split follows a colon.
    name = f"{model.strip('/').replace('/', '-')}--{Path(dataset).name.replace(':', '-')}.zarr"
    return folder(config) / name
