"""What a run of a notebook depends on, and what has changed since its last run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ima.errors import CacheError
from ima.notebook.reachable_code import ROOT, digest_module, list_notebook_modules

_CACHE_SUFFIX = ".zarr"
_DIGITS = 10
_SHOWN = 3


def describe_caches(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe the caches that parameters name.

    Parameters
    ----------
    values : mapping of str to object
        Parameters by name. Texts that end in ``.zarr``, alone or in lists, name caches.

    Returns
    -------
    list of dict
        ``path``, ``samples`` and ``sha256`` of each cache that can be read. The digest is over the
        settings of the cache and the fingerprints of its weights and samples.

    Examples
    --------
    >>> describe_caches({"caches": ["missing.zarr"], "samples": 3})
    []
    """
    from ima.cache.reader import read_cache_attributes
    from ima.cache.store import ROOT_DIGEST_KEY, locate_store

    found = []
    for text in list_cache_paths(values):
        try:
            attributes = read_cache_attributes(locate_store(text))
        except CacheError:  # a page that needs it says so
            continue
        digest = attributes.get(ROOT_DIGEST_KEY)
        samples = attributes.get("parameters", {}).get("samples")
        found.append({"path": text, "samples": samples, "sha256": digest})
    return found


def require_caches(values: Mapping[str, Any]) -> None:
    """Look whether the caches that a page is to read are there, before its kernel starts.

    Parameters
    ----------
    values : mapping of str to object
        Parameters that were given; ``cache`` and ``caches`` name what a page reads.

    Raises
    ------
    CacheError
        If one cannot be read.

    Examples
    --------
    >>> require_caches({"samples": 3})
    """
    from ima.cache.reader import read_cache_attributes
    from ima.cache.store import locate_store

    for text in list_cache_paths({name: values.get(name) for name in ("cache", "caches")}):
        read_cache_attributes(locate_store(text))


def list_cache_paths(values: Mapping[str, Any]) -> list[str]:
    """List the paths of caches among the values of parameters.

    Parameters
    ----------
    values : mapping of str to object
        Parameters by name.

    Examples
    --------
    >>> list_cache_paths({"caches": ["a.zarr", "b.zarr"], "out": "c.zarr", "name": "d"})
    ['a.zarr', 'b.zarr', 'c.zarr']
    """
    return [
        text
        for value in values.values()
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str) and text.endswith(_CACHE_SUFFIX)
    ]


def describe_code(code: str, *, root: Path = ROOT) -> dict[str, Any]:
    """Describe the code that a notebook runs.

    Parameters
    ----------
    code : str
        The code of all its cells.
    root : Path
        The folder that holds the package.

    Returns
    -------
    dict
        ``cells``, a digest, and ``modules``, digests by name of the modules of the package that
        the cells can reach. Docstrings and comments of modules do not count.

    Examples
    --------
    >>> list(describe_code("x = 1")["modules"])
    []
    """
    modules = sorted(list_notebook_modules(code, root=root))
    return {
        "cells": hashlib.sha256(code.encode()).hexdigest()[:_DIGITS],
        "modules": {
            path.relative_to(root).as_posix(): digest_module(path)[:_DIGITS] for path in modules
        },
    }


def read_last_run(output: str | Path) -> dict[str, Any] | None:
    """Return what an executed notebook records of its run; None if there is none.

    Parameters
    ----------
    output : path
        The executed notebook.

    Returns
    -------
    dict or None
        ``parameters``, ``caches`` and ``code`` of the run, ``seconds`` and ``day``.

    Examples
    --------
    >>> read_last_run("missing.ipynb")
    """
    path = Path(output)
    if not path.is_file():
        return None
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    except (ValueError, KeyError):  # another's file: the run replaces it
        return None
    run = metadata.get("papermill", {})
    own = dict(metadata.get("ima", {}))
    day = str(run.get("start_time") or "")[:10]
    return {**own, "seconds": run.get("duration"), "day": day} if own else None


def list_changes(now: Mapping[str, Any], *, last: Mapping[str, Any]) -> list[str]:
    """List what differs between two runs, a line each.

    Parameters
    ----------
    now, last : mapping
        ``parameters``, ``caches`` and ``code`` of a run.

    Returns
    -------
    list of str
        Empty if nothing has changed.

    Examples
    --------
    >>> list_changes({"parameters": {"samples": 48}}, last={"parameters": {"samples": 24}})
    ['parameter samples: 24, now 48']
    """
    return [
        *_compare_parameters(now.get("parameters", {}), last.get("parameters", {})),
        *_compare_caches(now.get("caches", []), last.get("caches", [])),
        *_compare_code(now.get("code"), last.get("code")),
    ]


def _compare_parameters(now: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    lines = []
    for name in sorted({*now, *last}):
        # Of lists of caches, each cache is compared.
        lists = all(isinstance(each.get(name, []), list) for each in (now, last))
        if now.get(name) == last.get(name) or (lists and list_cache_paths({name: now.get(name)})):
            continue
        before, after = (
            _shorten(each[name]) if name in each else "its default" for each in (last, now)
        )
        lines.append(f"parameter {name}: {before}, now {after}")
    return lines


def _compare_caches(
    now: Iterable[Mapping[str, Any]], last: Iterable[Mapping[str, Any]]
) -> list[str]:
    before, after = ({each["path"]: each for each in caches} for caches in (last, now))
    lines = []
    for path, each in after.items():
        if path not in before:
            lines.append(f"cache {path} is new to it")
        elif each["sha256"] != before[path]["sha256"]:
            old, new = (str(one["sha256"] or "none")[:_DIGITS] for one in (before[path], each))
            lines.append(f"cache {path}: digest {old}, now {new}")
    return [*lines, *(f"cache {path} is not read any more" for path in before.keys() - after)]


def _compare_code(now: Mapping[str, Any] | None, last: Mapping[str, Any] | None) -> list[str]:
    if now is None:
        return []
    if last is None:
        return ["the last run did not record its code"]
    lines = [] if now["cells"] == last["cells"] else ["the code of its cells"]
    before, after = last["modules"], now["modules"]
    changed = sorted(name for name in after if before.get(name) != after[name])
    changed += sorted(before.keys() - after)
    if changed:
        more = f" and {len(changed) - _SHOWN} more modules" if len(changed) > _SHOWN else ""
        lines.append(f"code of {', '.join(changed[:_SHOWN])}{more}")
    return lines


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def explain_run(
    now: Mapping[str, Any], *, output: str | Path, last: Mapping[str, Any] | None
) -> str:
    """Explain in words what runs, what is reused, and why.

    Parameters
    ----------
    now : mapping
        ``source``, ``parameters``, ``caches`` and ``code`` of the run that is to come.
    output : path
        The executed notebook.
    last : mapping or None
        What :func:`read_last_run` returns.

    Examples
    --------
    >>> print(explain_run({"source": "a.md", "parameters": {}, "caches": []},
    ...                   output="a.ipynb", last=None))
    All cells of a.md run, because there is no a.ipynb yet.
    No cache is reused.
    """
    source = now["source"]
    if last is None:
        lines = [f"All cells of {source} run, because there is no {output} yet."]
    else:
        changes = list_changes(now, last=last)
        took = f" in {last['seconds']:.0f} s" if last.get("seconds") else ""
        made = f"{output} was made on {last['day'] or 'an unknown day'}{took}"
        lines = [
            f"All cells of {source} run again. {made}. Since then this changed:"
            if changes
            else f"All cells of {source} run again, because you ask for it. {made}, and nothing "
            "has changed since then."
        ]
        lines += [f"  {line}" for line in changes]
    caches = list(now["caches"])
    lines.append("Reused, and not made again:" if caches else "No cache is reused.")
    lines += [
        f"  cache {each['path']}, {each['samples']} samples, digest "
        f"{str(each['sha256'] or 'none')[:_DIGITS]}"
        for each in caches
    ]
    return "\n".join(lines)
