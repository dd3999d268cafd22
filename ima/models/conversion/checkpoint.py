"""Checkpoints: weights under the names of a hub's checkpoints become a model, strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

from ima.errors import PartError


def build_model(model_class: Any, config: Any, weights: Mapping[str, Any]) -> Any:
    """Make a model from weights, as if it were loaded from a checkpoint with these names.

    transformers renames weights of older checkpoints on loading, so the names are those of
    published checkpoints and not those of today's modules.

    Parameters
    ----------
    model_class : type
        A model class of transformers.
    config : PreTrainedConfig
        Its configuration.
    weights : mapping of str to Tensor
        All its weights.

    Raises
    ------
    PartError
        If a weight is missing, unknown or of another shape; the message names one.

    Examples
    --------
    >>> build_model(Dinov2Model, config, weights)  # doctest: +SKIP
    """
    model, found = model_class.from_pretrained(
        None,
        config=config,
        state_dict=dict(weights),
        dtype="float32",
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    for kind in ("missing", "unexpected", "mismatched"):
        names = sorted(map(str, found[f"{kind}_keys"]))
        if names:
            raise PartError(
                f"The weights are not those of {model_class.__name__}: {len(names)} {kind}, "
                f"for example {names[0]}."
            )
    return model


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Hide the progress bars and remarks of transformers while a part is converted.

    Examples
    --------
    >>> with silence_transformers():
    ...     pass
    """
    import transformers.utils

    logging: Any = transformers.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # Some bars do not ask whether they are wanted.
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
