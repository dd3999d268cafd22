"""The environment: what is pinned, what agrees, and what imports without torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
# What needs torch: everything left of the cache. All else reads caches where torch is absent.
TORCH_SIDE = re.compile(
    r"ima\.(capture|evaluation|interventions|miniature|models|training|cache\.(batches|units|verification|writer))\b"
)
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
"""
# Not part of what is installed from the index: the project itself and the installer.
NOT_PINNED = {"ima", "pip"}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements():
    listed = project()
    groups = [listed["dependencies"], *listed["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def test_every_requirement_is_pinned_within_its_range():
    pinned = constraints()
    for requirement in requirements():
        version = pinned.get(canonical(requirement.name))
        assert version, f"constraints.txt lacks {requirement.name}"
        assert requirement.specifier.contains(Version(version)), f"{requirement} against {version}"


def test_what_is_installed_is_what_is_pinned():
    """Everything that the requirements pull in, however indirectly, stands in constraints.txt."""
    pinned = constraints()
    reached, todo = {}, [canonical(requirement.name) for requirement in requirements()]
    while todo:
        name = todo.pop()
        if name in reached or name in NOT_PINNED:
            continue
        installed = metadata.distribution(name)
        reached[name] = installed.version.split("+")[0]  # torch's build is not a version
        for line in installed.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                todo.append(canonical(needed.name))
    assert {name: pinned.get(name) for name in reached} == reached


def test_torch_is_pinned_without_a_build():
    assert "+" not in constraints()["torch"]


def test_conda_environment_agrees():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    listed = project()
    *conda, last = environment["dependencies"]
    pip = last["pip"]
    assert environment["name"] == listed["name"]
    python = next(line for line in conda if line.startswith("python="))
    assert SpecifierSet(listed["requires-python"]).contains(python.split("=")[1] + ".0")
    assert "--constraint constraints.txt" in pip
    extras = ",".join(listed["optional-dependencies"])
    assert f"--editable .[{extras}]" in pip
    # Any version that stands in the file itself would be a second opinion.
    assert set(conda) == {python, "pip"}
    assert len(pip) == 2


def modules():
    paths = sorted((ROOT / "ima").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def test_readers_do_without_torch():
    """Every module right of the cache imports where torch and transformers are absent."""
    wanted = [name for name in modules() if not TORCH_SIDE.match(name)]
    assert {"ima", "ima.cache", "ima.cli", "ima.claims", "ima.notebook.runner"} <= set(wanted)
    imports = "\n".join(f"import {name}" for name in wanted)
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH + imports], check=True, cwd=ROOT)


def test_torch_is_really_absent_there():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + "import ima.capture"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "No module named 'torch'" in done.stderr


def test_importing_the_package_is_light():
    seen = "import sys, ima; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", seen], check=True, capture_output=True, text=True, cwd=ROOT
    )
    heavy = {"torch", "transformers", "xarray", "zarr", "pandas", "matplotlib", "sklearn"}
    assert not heavy & set(done.stdout.split())


def test_every_module_has_room():
    """No module over 400 lines, half of them under 200."""
    sizes = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n")
        for path in (ROOT / "ima").rglob("*.py")
    }
    assert {name: size for name, size in sizes.items() if size > 400} == {}
    assert sorted(sizes.values())[len(sizes) // 2] < 200


def test_citation_names_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == project()["version"]
    assert cited["license"] == project()["license"] == "Apache-2.0"
    paper = cited["preferred-citation"]
    assert {author["family-names"] for author in paper["authors"]} == {"Shukor", "Cord"}
    assert paper["identifiers"][0]["value"] == "arXiv:2405.16700"


def test_licence_is_the_whole_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("arguments", [["help"], []])
def test_make_help_lists_every_target(arguments):
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    listed = re.findall(r"^  make (\w+)  ", done.stdout, flags=re.MULTILINE)
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert listed == phony[1].split()
    assert {"setup", "book", "test", "lint", "zoo", "bench", "clean"} <= set(listed)


def test_continuous_integration_runs_the_same_commands():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("make test", "make lint", "SMALL=1 make book"):
        assert re.search(rf"^{command}$", text, flags=re.MULTILINE), command
