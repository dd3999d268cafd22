"""What an edition of the book is made of: its caches and the parameters of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Editions, smallest first. A family of models is in the edition that it names and in larger ones.
SIZES = ("small", "standard", "full")

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


def families(config: Config) -> dict[str, dict[str, Any]]:
    """Return the families of models that the edition has, in the order of the configuration."""
    at = SIZES.index(check_size(config))
    return {
        name: entry
        for name, entry in config["families"].items()
        if SIZES.index(entry.get("from", SIZES[0])) <= at
    }


def caches(config: Config) -> dict[str, dict[str, Any]]:
    """Return every cache of the edition, with the parameters that notebooks/caching.md takes.

    Names are ``family-data`` and, for other kinds than findings, ``kind-family-data``.
    """
    size = check_size(config)
    found = {}
    for kind, given in config["kinds"].items():
        own = dict(given)
        split = own.pop("split", "")
        for family, entry in families(config).items():
            for data, model in entry["caches"].items():
                parts = [family, data] if kind == "findings" else [kind, family, data]
                name = config["data"][data] + (f":{split}" if split else "")
                values = {"model": model, "dataset": name, **own, **config["sizes"][size][kind]}
                found["-".join(parts)] = {**values, "out": str(store(config, model, name))}
    return found


def chosen(config: Config, run: str) -> list[str]:
    """Return the names of the caches that a run opens.

    The entry names a kind of cache (of all families), a kind and families, or the caches.
    """
    asked = config["runs"][run].get("caches", [])
    if isinstance(asked, list):
        return asked
    kind, named = (asked, None) if isinstance(asked, str) else (asked["kind"], asked["families"])
    begin = "" if kind == "findings" else f"{kind}-"
    return [
        f"{begin}{family}-{data}"
        for family, entry in families(config).items()
        if named is None or family in named
        for data in entry["caches"]
    ]


def parameters(config: Config, run: str) -> dict[str, Any]:
    """Return the parameters of a run."""
    entry = config["runs"][run]
    values = {**entry.get("parameters", {}), **entry.get(check_size(config), {})}
    if entry.get("caches"):
        made = caches(config)
        values["caches"] = [made[name]["out"] for name in chosen(config, run)]
    if entry.get("claims"):
        values["claims"] = f"book/runs/{run}.claims.json"
    return values


def folder(config: Config) -> Path:
    """Return the folder of the edition's caches."""
    return Path("data/caches") / check_size(config)


def store(config: Config, model: str, dataset: str) -> Path:
    """Return where a model's cache of a data set is."""
    # A split of a data set is named behind a colon.
    name = f"{model.replace('/', '-')}--{dataset.replace(':', '-')}.zarr"
    return folder(config) / name
