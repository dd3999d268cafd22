"""What a model raises while it runs: errors of its own are told from faults of this package."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ima.errors import ImaError, ModelError
from ima.models.memory import is_out_of_memory

_PACKAGE = __name__.partition(".")[0]


@contextmanager
def name_run_errors(name: str, model: nn.Module) -> Iterator[None]:
    """Turn what a model raises for its own inputs into an error that names the model.

    Parameters
    ----------
    name : str
        Name of the model.
    model : torch.nn.Module
        The model that runs in the context.

    Raises
    ------
    ModelError
        If the model cannot run on its inputs. Other errors pass: those of memory, and faults of
        this package.

    Examples
    --------
    >>> with name_run_errors(model.name, model.language):  # doctest: +SKIP
    ...     model.language(**inputs)
    """
    try:
        yield
    except ImaError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        # Neither memory nor a fault of ours says anything of the model.
        if is_out_of_memory(error) or _is_from_a_hook(error, model):
            raise
        raise ModelError(
            f"{name!r} cannot run on what its own processor makes: {type(error).__name__}: "
            f"{error!s:.200}. Check that processor and weights belong together."
        ) from error


def _is_from_a_hook(error: Exception, model: nn.Module) -> bool:
    """Return whether this package raised the error while the model was running.

    What both call, torch above all, is no one's own: the deepest frame of either decides.
    """
    packages = (
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )
    of_model = {"transformers", type(model).__module__.partition(".")[0]} - {_PACKAGE}
    known = [package for package in packages if package == _PACKAGE or package in of_model]
    return known[-1:] == [_PACKAGE] and not of_model.isdisjoint(known)
