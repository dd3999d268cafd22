"""A Sphinx extension: pages are read and written on several cores; Jupyter Book has no option."""

from __future__ import annotations

import os
from typing import Any

#: How many cores a build may use; `make book` sets it.
CORES_VARIABLE = "IMA_CORES"
# Extensions that Jupyter Book adds, and that do not say whether pages can be read side by side. One
# numbers sections when all pages are read, the other changes single pages and keeps nothing.
_SILENT = ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")


def allow_silent_extensions(app: Any, _config: Any) -> None:
    """Say in the place of other extensions that pages can be read side by side."""
    for name in _SILENT:
        extension = app.extensions.get(name)
        if extension is not None and extension.parallel_read_safe is None:
            extension.parallel_read_safe = True


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx how many cores it may use."""
    app.parallel = int(os.environ.get(CORES_VARIABLE) or 1)
    app.connect("config-inited", allow_silent_extensions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
