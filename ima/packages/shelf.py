"""The shelf of fetched parts: where their folders stand, and whether they are as they were made."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ima.errors import PartAbsentError, PartError
from ima.files import hash_file, read_json, write_json
from ima.packages.parts import Part, Source

RECORD_FILE = "part.json"
ROOT_VARIABLE = "IMA_PARTS"
_FORMAT = 1
#: Packages whose versions the record keeps where they are installed.
_MAKERS = ("ima", "gguf", "onnx", "resvg-py", "torch", "transformers")


def get_parts_root() -> Path:
    """Return the folder of fetched parts: ``$IMA_PARTS``, or in the user's cache folder.

    Examples
    --------
    >>> get_parts_root()  # doctest: +SKIP
    PosixPath('/home/me/.cache/ima/parts')
    """
    variable = os.environ.get(ROOT_VARIABLE)
    return Path(variable).expanduser() if variable else user_cache_path("ima") / "parts"


def find_part(part: Part, *, source: Source = "package") -> Path:
    """Return the folder of a fetched part, after a look at the names and sizes of its files.

    Parameters
    ----------
    part : Part
        The part.
    source : str
        ``"package"``, or ``"hub"`` for the original of its authors.

    Raises
    ------
    PartAbsentError
        If the part was not fetched, or was fetched from other archives than the registry names.
    PartError
        If files of the folder are missing, were added or have other sizes.

    Examples
    --------
    >>> from ima.models.parts import MODEL_PARTS
    >>> find_part(MODEL_PARTS["smollm2"])  # doctest: +SKIP
    PosixPath('/home/me/.cache/ima/parts/smollm2')
    """
    folder = get_parts_root() / part.get_name(source)
    record = _read_record(part, folder, source=source)
    present = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.name != RECORD_FILE
    }
    for name, entry in record["files"].items():
        if name not in present:
            raise _edited(part, folder, source=source, found=f"{name} is missing")
        if present[name] != entry["size"]:
            found = f"{name} has {present[name]:,} bytes instead of {entry['size']:,}"
            raise _edited(part, folder, source=source, found=found)
    added = sorted(set(present) - set(record["files"]))
    if added:
        raise _edited(part, folder, source=source, found=f"{added[0]} was added")
    return folder


def verify_part(part: Part, *, source: Source = "package") -> Path:
    """Read every file of a fetched part and compare its digest with the one at its making.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    PartAbsentError
        If the part was not fetched.
    PartError
        If a file was edited; the message names it.

    Examples
    --------
    >>> from ima.models.parts import MODEL_PARTS
    >>> verify_part(MODEL_PARTS["smollm2"])  # doctest: +SKIP
    PosixPath('/home/me/.cache/ima/parts/smollm2')
    """
    folder = find_part(part, source=source)
    for name, entry in _read_record(part, folder, source=source)["files"].items():
        if hash_file(folder / name) != entry["sha256"]:
            raise _edited(part, folder, source=source, found=f"{name} has other bytes")
    return folder


def is_fetched(part: Part, *, source: Source = "package") -> bool:
    """Return whether the folder of a part is there and complete.

    Examples
    --------
    >>> from ima.models.parts import MODEL_PARTS
    >>> is_fetched(MODEL_PARTS["smollm2"])  # doctest: +SKIP
    True
    """
    try:
        find_part(part, source=source)
    except PartError:
        return False
    return True


def write_part_record(part: Part, folder: Path, *, source: Source, origin: dict[str, Any]) -> None:
    """Write the record of a new folder, with the digests of its files.

    Parameters
    ----------
    part : Part
        The part.
    folder : Path
        The finished folder.
    source : str
        ``"package"`` or ``"hub"``.
    origin : dict
        What the files were made from.

    Examples
    --------
    >>> write_part_record(part, folder, source="package", origin={})  # doctest: +SKIP
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    record = {
        "format": _FORMAT,
        "name": part.get_name(source),
        "source": source,
        "description": part.description,
        "made_by": part.made_by,
        "licence": part.licence,
        "fingerprint": part.compute_fingerprint() if source == "package" else None,
        "origin": origin,
        "versions": _list_versions(),
        "files": {
            path.relative_to(folder).as_posix(): {
                "size": path.stat().st_size,
                "sha256": hash_file(path),
            }
            for path in paths
        },
    }
    write_json(folder / RECORD_FILE, record)


def _list_versions() -> dict[str, str]:
    versions = {}
    for name in _MAKERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _read_record(part: Part, folder: Path, *, source: Source) -> dict[str, Any]:
    path = folder / RECORD_FILE
    command = part.get_command(source)
    name = part.get_name(source)
    if not path.is_file():
        raise PartAbsentError(
            f"Part {name!r} ({part.description}) is not fetched: there is no {path}. "
            f"Fetch it where there is a network: {command}"
        )
    try:
        record = read_json(path)
        files, fingerprint = record["files"], record["fingerprint"]
        if not isinstance(files, dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _edited(part, folder, source=source, found=f"{RECORD_FILE} is no record") from error
    if source == "package" and fingerprint != part.compute_fingerprint():
        raise PartAbsentError(
            f"Part {name!r} in {folder} was made from other archives or by an older conversion. "
            f"Fetch it again where there is a network: {command}"
        )
    return record


def _edited(part: Part, folder: Path, *, source: Source, found: str) -> PartError:
    message = (
        f"The folder of part {part.get_name(source)!r} was edited after it was fetched: {found} in "
        f"{folder}. Replace it: {part.get_command(source)} --force"
    )
    return PartError(message)
