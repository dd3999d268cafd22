"""Faults: unforeseen errors, kept in a file with what is needed to repeat them."""

from __future__ import annotations

import errno
import os
import platform
import re
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
# What torch says where memory runs out, on a GPU and here; importing torch takes seconds.
_ALLOCATION = re.compile(r"out of memory|DefaultCPUAllocator")
_SPACE, _RIGHTS = "Free some space", "Give a path that you may write to and read"
_REFUSALS = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f)",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
}
_PACKAGES = ("ima", "torch", "transformers", "zarr", "xarray", "numpy")


def describe_refusal(error: BaseException) -> str | None:
    """Return what to do where the system refuses space, rights or memory; None for other errors.

    Commands write whole files or none, so what was finished before is kept.

    Parameters
    ----------
    error : BaseException
        What ended the command.

    Examples
    --------
    >>> full = OSError(errno.ENOSPC, "No space left on device", "card.json")
    >>> print(describe_refusal(full))
    No space left on device: 'card.json'. Free some space, then run the same command again. Files \
that were finished before are whole.
    >>> describe_refusal(ValueError("no such thing")) is None
    True
    """
    if isinstance(error, MemoryError) or _ALLOCATION.search(str(error)):
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return (
            f"Memory ran out: {reason:.200}. Run it with fewer samples, a smaller batch size or a "
            "smaller model. Files that were finished before are whole."
        )
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return None
    where = f": {os.fspath(error.filename)!r}" if error.filename else ""
    return (
        f"{error.strerror}{where}. {_REFUSALS[error.errno]}, then run the same command again. "
        "Files that were finished before are whole."
    )


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
