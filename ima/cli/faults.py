"""Faults: unforeseen errors, kept in a file with what is needed to repeat them."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_log_path

#: Variable of the environment that moves the folder of the files.
LOG_VARIABLE = "IMA_LOGS"
_PACKAGES = ("ima", "torch", "transformers", "zarr", "xarray", "numpy")


def write_fault(error: BaseException) -> Path:
    """Write the command and the traceback of an error to a new file.

    Parameters
    ----------
    error : BaseException
        The error, with its traceback.

    Returns
    -------
    Path
        The file: in the platform's folder of logs, in that of ``IMA_LOGS``, or, where neither can
        be written, in the folder of temporary files.

    Examples
    --------
    >>> write_fault(ValueError("no such thing"))  # doctest: +SKIP
    PosixPath('/home/me/.local/state/ima/log/fault-20261129-224501-4711.txt')
    """
    text = "\n".join(
        [
            shlex.join(sys.argv),
            f"Python {platform.python_version()}, {platform.platform()}",
            ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
            "",
            *traceback.format_exception(error),
        ]
    )
    name = f"fault-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    given = os.environ.get(LOG_VARIABLE)
    folder = Path(given).expanduser() if given else user_log_path("ima")
    content = text.encode("utf-8", "backslashreplace")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(content)
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="ima-")) / name
        path.write_bytes(content)
    return path
