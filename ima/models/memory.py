"""Memory that ran out: one question for a GPU, for this machine and for NumPy."""

from __future__ import annotations

import torch

# torch raises a plain RuntimeError where this machine's memory runs out.
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out.

    Parameters
    ----------
    error : BaseException
        What a computation raised.

    Examples
    --------
    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    True
    >>> is_out_of_memory(RuntimeError("shapes do not fit"))
    False
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)
