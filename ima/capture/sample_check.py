"""The check of a sample with a model: its batch is built as caching builds it."""

from __future__ import annotations

from collections.abc import Callable

from ima.data.samples import Sample
from ima.errors import SampleError
from ima.models.frozen import FrozenModel


def make_model_check(model: FrozenModel) -> Callable[[Sample], None]:
    """Return a function that uses a sample as caching with a model would.

    It counts the sample's tokens, reads its medium, runs encoder and processor, and builds a batch
    of it alone. It raises the error that caching would raise.

    Parameters
    ----------
    model : FrozenModel
        The model.

    Examples
    --------
    >>> check = make_model_check(load_model("llama-mini"))  # doctest: +SKIP
    >>> check(Sample("a", "text", "qa", "cold ?", ()))  # doctest: +SKIP
    Traceback (most recent call last):
    ...
    ima.errors.SampleError: Sample 'a' has no reference text. Give it a prompt and ...
    """

    def check(sample: Sample) -> None:
        if sample.modality != "text" and sample.media is None:
            sample.load()
        # Where counting needs the medium, the batch does it.
        ((_, textual),) = model.count_tokens([sample], perceptual=0)
        if textual == 0:
            raise SampleError(f"Sample {sample.id!r} has an empty text.")
        model.encode([sample])

    return check
