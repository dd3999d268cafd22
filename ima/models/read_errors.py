"""What libraries raise for a model's folder that they cannot read."""

from __future__ import annotations

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

#: Damaged files raise more than ``OSError``. Caught around a single call that reads a
#: configuration, a tokenizer, a processor or weights.
READ_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    ImportError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    StrictDataclassError,
    SafetensorError,
)
_LETTERS = 300


def describe_read_error(error: Exception) -> str:
    r"""Return the reason of an error on one line, with its class unless that says nothing.

    Examples
    --------
    >>> describe_read_error(KeyError("model_type"))
    "KeyError: 'model_type'"
    >>> describe_read_error(OSError("No such file.\nLook again."))
    'No such file. Look again.'
    """
    reason = " ".join(str(error).split()) or "no reason given"
    if len(reason) > _LETTERS:
        reason = f"{reason[:_LETTERS]} …"
    named = isinstance(error, OSError | ImportError | ValueError | RuntimeError)
    return reason if named else f"{type(error).__name__}: {reason}"
