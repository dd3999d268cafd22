"""The notebook runner: executes MyST sources with checked parameters."""

from __future__ import annotations

import hashlib
import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ima.errors import CacheError, NotebookError, ParameterError
from ima.notebook.parameters import NotebookParameter, check_parameter_values, parse_parameter_cell

logger = logging.getLogger("ima")

_PARAMETERS_TAG = "parameters"
_INJECTED_TAG = "injected-parameters"
_CACHE_SUFFIX = ".zarr"
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
    hint = f"ima notebook params {source}"
    declared = _parse_parameters(notebook, source)
    values = check_parameter_values(declared, values=parameters or {}, text=text, hint=hint)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotebookError(
            f"Cannot create the folder of {str(output)!r}: {error.strerror}. Choose another."
        ) from error
    partial = output.with_name(f".{output.stem}.partial.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    failed.unlink(missing_ok=True)
    logger.info("Run %s into %s", source, output)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        executed = papermill.execute_notebook(
            notebook,
            partial,
            parameters=values,
            kernel_name="python3",
            progress_bar=sys.stderr.isatty(),
            kernel_manager_class=CurrentPythonKernelManager,
            # A kernel that has finished would report the interrupt as an error.
            shutdown_kernel="immediate",
        )
    except PapermillExecutionError as error:
        partial.replace(failed)
        reason = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
        raise NotebookError(
            f"Cell {error.exec_count} of {source} failed with {reason}\n"
            f"The notebook up to this cell is {failed}."
        ) from None
    except RuntimeError as error:  # nbclient raises it if the kernel was killed
        partial.unlink(missing_ok=True)
        raise NotebookError(
            f"{source} stopped: {error}. If memory ran out, reduce the number of samples."
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    used = {each.name: each.default for each in declared} | values
    _annotate(executed, source=source, output=output, values=values)
    executed.metadata["ima"]["caches"] = _describe_caches(used)
    partial.write_text(nbformat.writes(executed) + "\n", encoding="utf-8")  # type: ignore[no-untyped-call]
    partial.replace(output)
    return output


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


def _describe_caches(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return name, samples and digest of the caches that parameters name.

    The digest is over the settings of the cache and the fingerprints of its weights and samples.
    """
    from ima.cache.reader import read_cache_attributes
    from ima.cache.store import ROOT_DIGEST_KEY, locate_store

    texts = [
        text
        for value in values.values()
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str) and text.endswith(_CACHE_SUFFIX)
    ]
    found = []
    for text in texts:
        try:
            attributes = read_cache_attributes(locate_store(text))
        except CacheError:  # a page that needs it has said so
            continue
        digest = attributes.get(ROOT_DIGEST_KEY)
        samples = attributes.get("parameters", {}).get("samples")
        found.append({"path": text, "samples": samples, "sha256": digest})
    return found


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
