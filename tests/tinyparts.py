"""Archives of packages as the tests write them, and planted clients that bring them."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile

from ima.packages import PackageArchive


def digest(content):
    """Return the sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def make_wheel(path, files):
    """Write a wheel that holds some files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


def make_tarball(path, files):
    """Write what `npm pack` writes."""
    with tarfile.open(path, "w:gz") as tarball:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tarball.addfile(entry, io.BytesIO(content))
    return path


def describe(path, *, package, version="1.0"):
    """Describe an archive as the registry of parts does."""
    content = path.read_bytes()
    registry = "pypi" if path.suffix == ".whl" else "npm"
    return PackageArchive(registry, package, version, path.name, len(content), digest(content))


class Registry:
    """Archives that planted clients bring, and how often they were asked."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = []
        self.says = ""

    def bring(self, archive, work, root):
        """Stand in for a client: copy the archive into the work folder, or fail as it would."""
        self.asked.append(archive.requirement)
        path = self.folder / archive.filename
        if not path.is_file():
            return subprocess.CompletedProcess([], 1, self.says or "ERROR: No matching package")
        (work / archive.filename).write_bytes(path.read_bytes())
        return subprocess.CompletedProcess([], 0, "Saved")
