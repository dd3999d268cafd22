"""The notebooks that pages offer: they install the package, and say what they need to run."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from ima.notebook.parameters import NotebookParameter, parse_parameter_cell

#: An address here goes before that of ``_config.yml``.
REPOSITORY_VARIABLE = "IMA_REPOSITORY"
_GITHUB, _GITLAB = "https://github.com/", "https://gitlab.com/"
_EXTRAS = "ima[models,book]"
_WIDTH = 100
_EDITIONS = {"small": "SMALL=1 make book", "standard": "make book", "full": "FULL=1 make book"}

_NOTE = """\
**To run this notebook**, run the next cell: it installs the package, for Python 3.11, {where}.
{needs}`{{glue:text}}` stands for a number that the cells compute and that the site shows."""
_NEEDS = "It reads caches. The cell after the parameters says which command makes missing ones."
_CHECK = """# The site added this cell.
from pathlib import Path

missing = [path for path in {lists} if "://" not in path and not Path(path).exists()]
if missing:
    more = f" and {{len(missing) - 1}} more" if missing[1:] else ""
    raise SystemExit(
        f"Not in {{Path.cwd()}}: {{missing[0]}}{{more}}. Make them in a clone of {place}: "
        "{command}. Then run this notebook in the clone's root, or name caches of yours in the "
        "cell of parameters."
    )"""


def read_repository(configured: str | None) -> str:
    """Return the address of the repository, without its end; empty if none is configured.

    Parameters
    ----------
    configured : str or None
        ``repository: url`` of ``_config.yml``.

    Raises
    ------
    SystemExit
        If the address is none that pip and a browser open.
    """
    address = (os.environ.get(REPOSITORY_VARIABLE) or configured or "").rstrip("/")
    if address and not address.startswith(("https://", "http://", "file://")):
        message = (
            f"The address of the repository is {address!r}. pip and pages need one that begins "
            f"with https://; give it in _config.yml or as {REPOSITORY_VARIABLE}."
        )
        raise SystemExit(message)
    return address.removesuffix(".git")


def format_requirement(address: str, *, commit: str | None) -> str:
    """Return what pip installs: the package of the repository, at the commit of a run."""
    known = (commit or "").removesuffix("-dirty")
    return f"{_EXTRAS} @ git+{address}" + (f"@{known}" if known else "")


def choose_theme_options(options: Mapping[str, Any], *, address: str) -> dict[str, Any]:
    """Return the options of the theme with buttons of Binder and Colab, if there is an address.

    The theme writes plain links. Colab opens notebooks from GitHub only.
    """
    own = dict(options)
    buttons = dict(own.pop("launch_buttons", {}))
    for name in ("repository_url", "repository_provider"):
        own.pop(name, None)
    if not address.startswith("http"):
        return own
    if not address.startswith(_GITHUB):
        buttons.pop("colab_url", None)
    own |= {"repository_url": address, "launch_buttons": buttons}
    if not address.startswith((_GITHUB, _GITLAB)):
        own["repository_provider"] = "gitlab"  # the theme knows no others; its address stays
    return own


def make_download(
    notebook: Mapping[str, Any], *, page: str, address: str, edition: str
) -> dict[str, Any]:
    """Return an executed notebook that a reader can run again.

    It begins with a note and one line for pip. One cell holds the parameters of the run. A cell
    after it says which command makes caches that are missing.

    Parameters
    ----------
    notebook : mapping
        The executed notebook.
    page : str
        Name of the page.
    address : str
        Address of the repository; empty if none is configured.
    edition : str
        Edition whose caches the notebook reads.
    """
    made = copy.deepcopy(dict(notebook))
    own = made["metadata"].get("ima", {})
    values = dict(own.get("parameters", {}))
    if "claims" in values:
        values["claims"] = f"{page}.claims.json"  # beside the notebook: those of the book stay
    cells: list[dict[str, Any]] = []
    lists: list[str] = []
    for cell in made["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "injected-parameters" in tags:
            continue
        cells.append(cell)
        if "parameters" in tags:
            declared = parse_parameter_cell("".join(cell["source"]))
            used = {each.name: values.get(each.name, each.default) for each in declared}
            cell["source"] = "\n".join(
                _format_parameter(each, used[each.name]) for each in declared
            )
            cell["metadata"]["tags"] = ["parameters"]
            lists = [name for name, value in used.items() if _lists_caches(value)]
            if lists:
                command = _EDITIONS.get(edition, "ima cache create")
                place = address or "the repository"
                check = _CHECK.format(lists=_join(lists), place=place, command=command)
                cells.append(_make_cell("code", check, name="check"))
    where, line = _choose_line(address, commit=own.get("commit"))
    needs = f"{_NEEDS}\n" if lists else ""
    head = [
        _make_cell("markdown", _NOTE.format(where=where, needs=needs), name="note"),
        _make_cell("code", line, name="install"),
    ]
    made["cells"] = [*head, *cells]
    return made


def _choose_line(address: str, *, commit: str | None) -> tuple[str, str]:
    """Return where the package comes from, and the line that installs it."""
    if address:
        requirement = format_requirement(address, commit=commit)
        return f"from {address}", f'%pip install --quiet "{requirement}"'
    extras = _EXTRAS.removeprefix("ima")
    where = (
        "from a clone of the repository, because the site names no address of one: save this "
        f'notebook in the root of a clone, or give pip a wheel, `"PATH.whl{extras}"`, in place of '
        f'`--editable ".{extras}"`'
    )
    return where, f'%pip install --quiet --editable ".{extras}"'


def _make_cell(kind: str, text: str, *, name: str) -> dict[str, Any]:
    cell = {"cell_type": kind, "id": f"site-{name}", "metadata": {}, "source": text}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def _format_parameter(parameter: NotebookParameter, value: Any) -> str:
    """Return a line of the cell of parameters; a long list has an item a line."""
    head = f"{parameter.name}: {parameter.annotation} = "
    comment = f"  # {parameter.comment}" if parameter.comment else ""
    line = f"{head}{value!r}{comment}"
    if len(line) <= _WIDTH or not isinstance(value, list):
        return line
    return "\n".join([f"{head}[{comment}", *(f"    {item!r}," for item in value), "]"])


def _lists_caches(value: Any) -> bool:
    return isinstance(value, list) and any(str(item).endswith(".zarr") for item in value)


def _join(lists: list[str]) -> str:
    """Return an expression for the items of several lists."""
    return lists[0] if len(lists) == 1 else f"[{', '.join(f'*{name}' for name in lists)}]"
