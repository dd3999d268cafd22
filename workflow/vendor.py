"""Fetch the scripts of others that pages load, with npm, and record their versions and digests.

The files are committed: nobody needs npm or a network to build or to read the book. Run this again
only to take a new version: ``.venv/bin/python workflow/vendor.py``.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ima.files import write_json

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "book" / "_static" / "vendor"
#: What :func:`vendor` wrote: by file, its packages, digest and licences.
RECORD = VENDOR / "vendored.json"
#: Exact versions. esbuild joins zarrita, its storage and fzstd into one file.
VERSIONS = {
    "@zarrita/storage": "0.2.0",
    "esbuild": "0.28.2",
    "fzstd": "0.1.1",
    "uplot": "1.6.32",
    "zarrita": "0.7.5",
}
_ENTRY = Path(__file__).resolve().parent / "vendor" / "zarrita.js"
# Codecs that no cache uses, and one that fzstd replaces.
_UNUSED = ("blosc", "lz4", "zstd")
#: By file, the packages whose code is in it.
FILES = {
    "zarrita.min.js": ("zarrita", "@zarrita/storage", "fzstd"),
    "uPlot.iife.min.js": ("uplot",),
    "uPlot.min.css": ("uplot",),
}


def bundle_zarrita(folder: Path) -> Path:
    """Join zarrita and what it needs into one classic script: pages on disk load no modules."""
    entry, none, bundled = (folder / name for name in ("entry.js", "none.js", "zarrita.min.js"))
    shutil.copy(_ENTRY, entry)
    none.write_text("export default null;\n", encoding="utf-8")
    aliases = [f"--alias:numcodecs/{codec}=./{none.name}" for codec in _UNUSED]
    settings = "--bundle --minify --format=iife --global-name=zarrita --target=es2022"
    command = ["npx", "esbuild", entry.name, *settings.split(), "--legal-comments=none", *aliases]
    subprocess.run([*command, f"--outfile={bundled.name}"], cwd=folder, check=True)
    return bundled


def vendor(folder: Path) -> dict[str, Any]:
    """Install the packages into a scratch folder, copy their files, and return what to record."""
    wanted = [f"{name}@{version}" for name, version in VERSIONS.items()]
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *wanted]
    subprocess.run(install, cwd=folder, check=True)
    modules = folder / "node_modules"
    sources = {name: modules / "uplot" / "dist" / name for name in FILES if "uPlot" in name}
    sources["zarrita.min.js"] = bundle_zarrita(folder)
    record = {}
    for name, packages in FILES.items():
        shutil.copyfile(sources[name], VENDOR / name)
        licences = []
        for package in packages:
            licence = f"LICENSE.{package.removeprefix('@').replace('/', '-')}"
            shutil.copyfile(modules / package / "LICENSE", VENDOR / licence)
            licences.append(licence)
        record[name] = {
            "packages": {package: VERSIONS[package] for package in packages},
            "sha256": hashlib.sha256((VENDOR / name).read_bytes()).hexdigest(),
            "licences": licences,
        }
    return record


if __name__ == "__main__":
    VENDOR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_json(RECORD, vendor(Path(scratch)))
