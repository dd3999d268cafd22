"""The notebook runner: executes MyST sources with checked parameters."""

from __future__ import annotations

import hashlib
import logging
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from textwrap import shorten
from typing import Any

from ima.errors import NotebookError, ParameterError
from ima.notebook.changes import (
    describe_caches,
    describe_code,
    explain_run,
    read_last_run,
    require_caches,
)
from ima.notebook.parameters import NotebookParameter, check_parameter_values, parse_parameter_cell

logger = logging.getLogger("ima")

_PARAMETERS_TAG = "parameters"
_INJECTED_TAG = "injected-parameters"
# A cell that makes a cache continues the one that it began.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: Before the line of a cell that failed, in a traceback of IPython.
_ARROW = re.compile(r"^-+> *\d+ (.*\S)", re.MULTILINE)
_AGAIN = "The same command runs it again; caches that are made stay."
# Packages that can change an output; executed notebooks record their versions.
_PACKAGES = ("ima", "numpy", "scikit-learn", "torch", "transformers", "xarray", "zarr")


def _read_notebook_source(source: str | Path) -> Any:
    """Read a MyST-markdown notebook (``.md``) or an ``.ipynb``."""
    import jupytext

    path = Path(source)
    if not path.is_file():
        available = ", ".join(sorted(map(str, path.parent.glob("*.md")))) or "none"
        raise NotebookError(
            f"No notebook {str(path)!r}. Available in this folder: {available}. "
            "Hint: ima notebook list"
        )
    notebook = jupytext.read(path)
    representation = notebook.metadata.get("jupytext", {}).get("text_representation", {})
    if path.suffix == ".md" and representation.get("format_name") != "myst":
        raise NotebookError(
            f"{path} is markdown without a notebook header. Add at its top: "
            "'jupytext: {text_representation: {extension: .md, format_name: myst}}'."
        )
    return notebook


def read_notebook_parameters(source: str | Path) -> tuple[NotebookParameter, ...]:
    """List the parameters that a notebook declares.

    Parameters
    ----------
    source : path
        The notebook.

    Returns
    -------
    tuple of NotebookParameter
        Empty if no cell has the tag ``parameters``.

    Raises
    ------
    NotebookError
        If the file does not exist or is not a notebook.

    Examples
    --------
    >>> [each.name for each in read_notebook_parameters("notebooks/caching.md")][:2]
    ... # doctest: +SKIP
    ['model', 'dataset']
    """
    return _parse_parameters(_read_notebook_source(source), source)


def describe_notebook_run(
    source: str | Path, *, parameters: Mapping[str, Any] | None = None, text: bool = False
) -> dict[str, Any]:
    """Describe what a run would depend on, as executed notebooks record it.

    Parameters
    ----------
    source : path
        A MyST-markdown notebook, or an ``.ipynb``.
    parameters : mapping or None
        As :func:`run_notebook` takes them.
    text : bool
        The values are texts of a command line, to be parsed.

    Returns
    -------
    dict
        ``source``, ``parameters``, ``caches`` and ``code``.

    Raises
    ------
    UnknownNameError
        If a parameter is not declared.
    ParameterError
        If a value has another type than declared.
    NotebookError
        If the file is not a notebook.

    Examples
    --------
    >>> list(describe_notebook_run("notebooks/finding1.md"))  # doctest: +SKIP
    ['source', 'parameters', 'caches', 'code']
    """
    notebook = _read_notebook_source(source)
    declared = _parse_parameters(notebook, source)
    values = _check_values(declared, source, values=parameters, text=text)
    return {
        "source": str(source),
        "parameters": values,
        "caches": describe_caches(_fill_defaults(declared, values)),
        "code": describe_code(_join_code(notebook)),
    }


def explain_notebook_run(
    source: str | Path,
    *,
    output: str | Path,
    parameters: Mapping[str, Any] | None = None,
    text: bool = False,
) -> str:
    """Explain what a run would do: what runs, what is reused, and what changed since the last run.

    Parameters
    ----------
    source, output : path
        As :func:`run_notebook` takes them.
    parameters : mapping or None
        As :func:`run_notebook` takes them.
    text : bool
        The values are texts of a command line, to be parsed.

    Raises
    ------
    UnknownNameError
        If a parameter is not declared.
    ParameterError
        If a value has another type than declared.
    NotebookError
        If the file is not a notebook.

    Examples
    --------
    >>> explain_notebook_run("notebooks/finding1.md", output="out.ipynb")  # doctest: +SKIP
    'All cells of notebooks/finding1.md run, because there is no out.ipynb yet.…'
    """
    now = describe_notebook_run(source, parameters=parameters, text=text)
    lines = [explain_run(now, output=output, last=read_last_run(output))]
    failed = _name_failed(Path(output))
    if failed.is_file():
        lines.append(f"The last run failed; {failed} is its log.")
    return "\n".join(lines)


def run_notebook(
    source: str | Path,
    *,
    output: str | Path,
    parameters: Mapping[str, Any] | None = None,
    text: bool = False,
) -> Path:
    """Execute a notebook and write it with its outputs.

    The output file appears after the last cell has run. If a cell fails, the notebook is saved as
    ``<output>.failed.ipynb`` and the output of an earlier run does not change.

    Parameters
    ----------
    source : path
        A MyST-markdown notebook, or an ``.ipynb``.
    output : path
        The executed ``.ipynb``.
    parameters : mapping or None
        Values for the cell tagged ``parameters``; missing ones keep their defaults.
    text : bool
        The values are texts of a command line, to be parsed.

    Returns
    -------
    Path
        The output file.

    Raises
    ------
    UnknownNameError
        If a parameter is not declared.
    ParameterError
        If a value has another type than declared.
    NotebookError
        If the file is not a notebook, or a cell fails.

    Examples
    --------
    >>> run_notebook("notebooks/finding1.md", output="out.ipynb", parameters={"resamples": 100})
    ... # doctest: +SKIP
    PosixPath('out.ipynb')
    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from ima.notebook.kernels import CurrentPythonKernelManager

    source, output = Path(source), Path(output)
    if output.suffix != ".ipynb":
        raise ParameterError(f"The output must end in .ipynb; found {str(output)!r}.")
    notebook = _read_notebook_source(source)
    declared = _parse_parameters(notebook, source)
    values = _check_values(declared, source, values=parameters, text=text)
    require_caches(values)
    code = describe_code(_join_code(notebook))  # before it runs: what runs is what was read
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotebookError(
            f"Cannot create the folder of {str(output)!r}: {error.strerror}. Choose another."
        ) from error
    partial = output.with_name(f".{output.stem}.partial.ipynb")
    failed = _name_failed(output)
    failed.unlink(missing_ok=True)
    logger.info("Run %s into %s", source, output)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        executed = papermill.execute_notebook(
            notebook,
            partial,
            parameters=values,
            kernel_name="python3",
            # tqdm estimates the time left from the cells that are done.
            progress_bar={"desc": source.stem, "unit": " cell"} if sys.stderr.isatty() else False,
            kernel_manager_class=CurrentPythonKernelManager,
            # A kernel that has finished would report the interrupt as an error.
            shutdown_kernel="immediate",
        )
    except PapermillExecutionError as error:
        partial.replace(failed)
        reason = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        raise NotebookError(
            f"Cell {error.exec_count} of {source}, {_quote_failing_line(error)}, failed with "
            f"{reason}\nThe notebook up to this cell is {failed}. {_AGAIN}"
        ) from None
    except RuntimeError as error:  # nbclient raises it if the kernel was killed
        where = _save_stopped(partial, failed)
        raise NotebookError(
            f"{source} stopped{where}: {error}. If memory ran out, reduce the number of samples. "
            f"{_AGAIN}"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _annotate(executed, source=source, output=output, values=values)
    executed.metadata["ima"]["caches"] = describe_caches(_fill_defaults(declared, values))
    executed.metadata["ima"]["code"] = code
    partial.write_text(nbformat.writes(executed) + "\n", encoding="utf-8")  # type: ignore[no-untyped-call]
    partial.replace(output)
    return output


def _check_values(
    declared: Sequence[NotebookParameter],
    source: str | Path,
    *,
    values: Mapping[str, Any] | None,
    text: bool,
) -> dict[str, Any]:
    hint = f"ima notebook params {source}"
    return check_parameter_values(declared, values=values or {}, text=text, hint=hint)


def _fill_defaults(
    declared: Sequence[NotebookParameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    return {each.name: each.default for each in declared} | dict(values)


def _join_code(notebook: Any) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def _name_failed(output: Path) -> Path:
    """Return where a run that fails leaves its notebook."""
    return output.with_name(f"{output.stem}.failed.ipynb")


def _save_stopped(partial: Path, failed: Path) -> str:
    """Keep the notebook of a kernel that died; return in words where it was."""
    import nbformat

    if not partial.is_file():
        return ""
    partial.replace(failed)
    cells = nbformat.read(failed, as_version=4).cells  # type: ignore[no-untyped-call]
    # papermill calls all of them complete; only those that were reached have a time.
    begun = [c for c in cells if c.metadata.get("papermill", {}).get("start_time")]
    named = f" in the cell {_quote_first_line(begun[-1].source)}" if begun else ""
    return f"{named} (its log is {failed})"


def _quote_failing_line(error: Any) -> str:
    """Quote the line of a cell that failed, which the traceback marks with an arrow."""
    traceback = _COLOURS.sub("", "\n".join(error.traceback or ()))
    marked = _ARROW.search(traceback)
    return _quote_first_line(marked.group(1) if marked else error.source)


def _quote_first_line(code: str) -> str:
    return f"`{shorten(code.strip().partition(chr(10))[0], width=60, placeholder=' …')}`"


def _parse_parameters(notebook: Any, source: str | Path) -> tuple[NotebookParameter, ...]:
    cells = [c for c in notebook.cells if _PARAMETERS_TAG in c.metadata.get("tags", [])]
    if len(cells) > 1:
        raise NotebookError(
            f"{source} has {len(cells)} cells tagged 'parameters'; at most one is allowed."
        )
    return parse_parameter_cell(cells[0].source) if cells else ()


def _annotate(notebook: Any, *, source: Path, output: Path, values: Mapping[str, Any]) -> None:
    """Collapse the parameters that were used, and record how the notebook was run."""
    tagged = {
        tag: [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
        for tag in (_PARAMETERS_TAG, _INJECTED_TAG)
    }
    for tag, cells in tagged.items():
        # Defaults that were replaced would contradict the values that were used.
        replaced = tag == _PARAMETERS_TAG and tagged[_INJECTED_TAG]
        for cell in cells:
            tags = cell.metadata["tags"]
            if "remove-cell" not in tags:
                cell.metadata["tags"] = [*tags, "remove-cell" if replaced else "hide-input"]
                cell.metadata["mystnb"] = {
                    "code_prompt_show": "Show the parameters of this run",
                    "code_prompt_hide": "Hide the parameters",
                }
    notebook.metadata.papermill["input_path"] = str(source)
    notebook.metadata.papermill["output_path"] = str(output)
    notebook.metadata["ima"] = {
        "source": str(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "commit": get_commit(source.resolve().parent),
        "parameters": dict(values),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _get_version(name))},
    }


def get_commit(folder: Path) -> str | None:
    """Return the commit of a checkout, with ``-dirty`` if files differ; None outside of one.

    Examples
    --------
    >>> get_commit(Path("/"))
    """
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stdout.strip() or None


def _get_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # torch is an optional dependency
        return None
