"""Notebooks: MyST sources executed with checked parameters, whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from ima.errors import NotebookError, ParameterError
from ima.notebook.parameters import NotebookParameter, check_parameter_values, parse_parameter_cell

logger = logging.getLogger("ima")

_PARAMETERS_TAG = "parameters"
_INJECTED_TAG = "injected-parameters"
# Versions that can change an output; kept in the metadata of every executed notebook.
_PACKAGES = ("ima", "numpy", "scikit-learn", "torch", "transformers", "xarray", "zarr")


def _read_notebook_source(source: str | Path) -> Any:
    """Read a notebook source.

    Parameters
    ----------
    source : path
        A MyST-markdown notebook (``.md``), or an ``.ipynb``.

    Returns
    -------
    nbformat.NotebookNode
        The notebook, without outputs if it was markdown.

    Raises
    ------
    NotebookError
        If there is no such file or it is not a notebook.
    """
    import jupytext

    path = Path(source)
    if not path.is_file():
        beside = sorted(str(p) for p in path.parent.glob("*.md")) if path.parent.is_dir() else []
        message = (
            f"No notebook {str(path)!r}. Available there: {', '.join(beside) or 'none'}. "
            "Hint: ima notebook list"
        )
        raise NotebookError(message)
    notebook = jupytext.read(path)
    written = notebook.metadata.get("jupytext", {}).get("text_representation", {})
    if path.suffix == ".md" and written.get("format_name") != "myst":
        message = (
            f"{path} is markdown without a notebook header: it needs "
            "'jupytext: {text_representation: {extension: .md, format_name: myst}}' at its top."
        )
        raise NotebookError(message)
    return notebook


def read_notebook_parameters(source: str | Path) -> tuple[NotebookParameter, ...]:
    """List the parameters that a notebook declares.

    Parameters
    ----------
    source : path
        The notebook.

    Returns
    -------
    tuple of Parameter
        Empty if no cell is tagged ``parameters``.
    """
    return _declared(_read_notebook_source(source), source)


def run_notebook(
    source: str | Path,
    *,
    output: str | Path,
    parameters: Mapping[str, Any] | None = None,
    text: bool = False,
    cwd: str | Path | None = None,
) -> Path:
    """Execute a notebook and write it with its outputs.

    The output appears when the last cell has run. A notebook that fails is kept as
    ``<output>.failed.ipynb`` for inspection, and an output of an earlier run stays as it was.

    Parameters
    ----------
    source : path
        A MyST-markdown notebook, or an ``.ipynb``.
    output : path
        The executed ``.ipynb``.
    parameters : mapping or None
        Values for the cell tagged ``parameters``; the others keep their defaults.
    text : bool
        Whether the values come from a command line and are to be read from text.
    cwd : path or None
        The directory in which the cells run; None is the current one.

    Returns
    -------
    Path
        The output.

    Raises
    ------
    UnknownNameError
        If a parameter is not declared.
    ParameterError
        If a value has another type than declared.
    NotebookError
        If a cell fails.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from ima.notebook.kernels import CurrentPythonKernelManager

    source, output = Path(source), Path(output)
    if output.suffix != ".ipynb":
        message = f"An executed notebook ends in .ipynb; asked for {str(output)!r}."
        raise ParameterError(message)
    notebook = _read_notebook_source(source)
    hint = f"ima notebook params {source}"
    values = check_parameter_values(
        _declared(notebook, source), values=parameters or {}, text=text, hint=hint
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"Cannot make the folder of {str(output)!r}: {error.strerror}. Choose another."
        raise NotebookError(message) from error
    partial = output.with_name(f".{output.stem}.partial.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    failed.unlink(missing_ok=True)
    logger.info("Run %s into %s", source, output)
    try:
        with _quiet("papermill"):
            executed = papermill.execute_notebook(
                notebook,
                partial,
                parameters=values,
                kernel_name="python3",
                progress_bar=sys.stderr.isatty(),
                cwd=cwd,
                kernel_manager_class=CurrentPythonKernelManager,
                # Interrupting a kernel that has finished makes it complain about the interrupt.
                shutdown_kernel="immediate",
            )
    except PapermillExecutionError as error:
        partial.replace(failed)
        what = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        message = (
            f"Cell {error.exec_count} of {source} failed with {what}\n"
            f"The notebook up to there is {failed}."
        )
        raise NotebookError(message) from None
    except RuntimeError as error:  # nbclient's word for a kernel that was killed
        partial.unlink(missing_ok=True)
        message = f"{source} stopped: {error}. If memory ran out, ask for fewer samples at a time."
        raise NotebookError(message) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _finish(executed, source=source, output=output, values=values)
    partial.write_text(_dump(executed), encoding="utf-8")
    partial.replace(output)
    return output


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hold back warnings of a logger: papermill calls each parameter of a union type unknown."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _declared(notebook: Any, source: str | Path) -> tuple[NotebookParameter, ...]:
    cells = [c for c in notebook.cells if _PARAMETERS_TAG in c.metadata.get("tags", [])]
    if len(cells) > 1:
        message = f"{source} has {len(cells)} cells tagged 'parameters'; at most one can be filled."
        raise NotebookError(message)
    return parse_parameter_cell(cells[0].source) if cells else ()


def _finish(notebook: Any, *, source: Path, output: Path, values: Mapping[str, Any]) -> None:
    """Hide the parameter cells from the page and note what was run."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if {_PARAMETERS_TAG, _INJECTED_TAG} & set(tags) and "remove-cell" not in tags:
            cell.metadata["tags"] = [*tags, "remove-cell"]
    notebook.metadata.papermill["input_path"] = str(source)
    notebook.metadata.papermill["output_path"] = str(output)
    notebook.metadata["ima"] = {
        "source": str(source),
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "parameters": dict(values),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # torch is absent where only caches are read
        return None


def _dump(notebook: Any) -> str:
    import nbformat

    return str(nbformat.writes(notebook)) + "\n"  # type: ignore[no-untyped-call]
