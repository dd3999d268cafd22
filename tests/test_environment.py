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


def test_importing_the_package_is_light():
    seen = "import sys, ima; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", seen], check=True, capture_output=True, text=True, cwd=ROOT
    )
    heavy = {"torch", "transformers", "xarray", "zarr", "pandas", "matplotlib", "sklearn"}
    assert not heavy & set(done.stdout.split())


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
    listed = re.findall(r"^  make ([\w-]+)  ", done.stdout, flags=re.MULTILINE)
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert listed == phony[1].split()
    assert {"setup", "book", "test", "lint", "zoo", "bench", "clean"} <= set(listed)


def test_continuous_integration_runs_the_same_commands():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("make bucket", "make test", "make lint", "SMALL=1 make book"):
        assert re.search(rf"^{command}$", text, flags=re.MULTILINE), command
