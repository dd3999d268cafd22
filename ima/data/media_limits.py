"""Size limits of media, checked in a file's header before memory is used; warnings of readers."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ima.errors import ParameterError, SampleError

#: Variable of the environment that moves the limit, in bytes.
LIMIT_VARIABLE = "IMA_MAX_MEDIA_BYTES"
_DEFAULT_LIMIT = 1 << 30
#: Filters of warnings belong to the process, and media are read in several threads.
_WARNINGS_LOCK = threading.Lock()


def require_media_size(name: object, size: float) -> None:
    """Raise an error if a medium unpacks to more bytes than are allowed.

    Parameters
    ----------
    name : object
        What the message calls the medium: its path, or where its row stands.
    size : float
        Bytes of the unpacked medium.

    Raises
    ------
    SampleError
        If there are more than a gigabyte (2^30), or than ``IMA_MAX_MEDIA_BYTES``.

    Examples
    --------
    >>> require_media_size("cat.png", 150_528)
    """
    limit = _read_limit()
    if size > limit:
        raise SampleError(
            f"{name} unpacks to {size:.0f} bytes, more than {limit}. Cut it, or raise the limit: "
            f"{LIMIT_VARIABLE}=BYTES."
        )


def _read_limit() -> int:
    text = os.environ.get(LIMIT_VARIABLE, "")
    if not text:
        return _DEFAULT_LIMIT
    if not text.isdecimal() or int(text) < 1:
        raise ParameterError(f"{LIMIT_VARIABLE} must be a number of bytes; found {text!r}.")
    return int(text)


@contextmanager
def ignore_warnings(category: type[Warning]) -> Iterator[None]:
    """Ignore the warnings of a reader, one thread at a time.

    Two threads that enter and leave ``warnings.catch_warnings`` in turn would leave the
    filters of one of them behind.

    Examples
    --------
    >>> with ignore_warnings(UserWarning):
    ...     warnings.warn("a tag that is not needed", stacklevel=1)
    """
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
