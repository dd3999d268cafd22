"""Errors: each says what was asked, what was found, what exists and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImaError(Exception):
    """Base of every error that the package raises on purpose."""


class UnknownNameError(ImaError, ValueError):
    """A model, data set, hook point, parameter or metric name that does not exist."""

    @classmethod
    def among(
        cls, kind: str, asked: object, available: Iterable[str], *, hint: str = ""
    ) -> UnknownNameError:
        """Build the message from what was asked and what exists.

        Parameters
        ----------
        kind : str
            Kind of the name, for example ``"hook point"``.
        asked : object
            The unknown name.
        available : iterable of str
            The names that exist.
        hint : str
            A command or call that helps.

        Examples
        --------
        >>> print(UnknownNameError.among("hook point", "resid_pots", ["mlp_post", "resid_post"]))
        Unknown hook point 'resid_pots'. Did you mean 'resid_post'? Available: mlp_post, resid_post.
        """
        names = sorted(available)
        folded = {name.casefold(): name for name in reversed(names)}
        close = difflib.get_close_matches(str(asked).casefold(), folded, n=1, cutoff=0.5)
        message = f"Unknown {kind} {asked!r}."
        if close:
            message += f" Did you mean {folded[close[0]]!r}?"
        message += f" Available: {', '.join(names) if names else 'none'}."
        if hint:
            message += f" Hint: {hint}"
        return cls(message)


class ParameterError(ImaError, ValueError):
    """A parameter of the wrong type or outside its range."""


class SampleError(ImaError, ValueError):
    """A sample that cannot be used: no media, an empty text, a malformed record."""


class ModelError(ImaError, RuntimeError):
    """A model that cannot be loaded or whose structure is not understood."""


class PartError(ImaError, OSError):
    """A part that others made which cannot be fetched, or whose folder was edited."""


class PartAbsentError(PartError):
    """A part that was not fetched, or was fetched from other archives than today's."""


class PartUnreachableError(PartError):
    """A part whose registry does not answer, most often because there is no network."""


class ActivationError(ImaError, ValueError):
    """Activations that must not be stored: NaN, infinity, or beyond the range of the dtype."""


class CacheError(ImaError, OSError):
    """A cache that cannot be read or written."""


class CacheUnreachableError(CacheError):
    """A store that does not answer, or does not let its user in."""


class CacheIncompleteError(CacheError):
    """A cache whose writer has not finished."""


class CacheSchemaError(CacheError):
    """A cache with an unknown schema version, or without the schema's groups."""


class CacheDifferentError(CacheError):
    """A cache whose parameters differ from the requested ones."""


class CacheLockedError(CacheError):
    """A cache that another process is writing."""


class CacheCorruptError(CacheError):
    """A cache with bytes that fail their checksum."""


class SchedulerError(ImaError, OSError):
    """A scheduler of workers that does not answer, or that has no workers."""


class WorkerError(ImaError, RuntimeError):
    """A worker that cannot do its part: other versions, no model, or a path that it cannot see."""


class NotebookError(ImaError, RuntimeError):
    """A notebook that could not be run to its end."""
