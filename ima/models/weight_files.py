"""Files of weights that are whole: asked of their headers, before anything is loaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from ima.errors import ModelError

_POINTER = b"version https://git-lfs"


def require_whole_weights(path: Path) -> None:
    """Raise an error if a file of weights is a pointer to one, or is cut.

    Parameters
    ----------
    path : Path
        A file of the safetensors format: the length of a header, the header, and numbers.

    Raises
    ------
    ModelError
        If the file is no such file, or holds fewer bytes than its header promises.

    Examples
    --------
    >>> require_whole_weights(Path("mine/model.safetensors"))  # doctest: +SKIP
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
        if start == _POINTER:
            raise ModelError(
                f"{path} is a pointer of git-lfs and holds no weights. Fetch them there: git lfs "
                "pull"
            )
        file.seek(0)
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
        promised = 8 + length
        if promised <= size:
            try:
                header = json.loads(file.read(length))
                promised += max(
                    (
                        entry["data_offsets"][1]
                        for name, entry in header.items()
                        if name[:2] != "__"
                    ),
                    default=0,
                )
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                raise ModelError(f"{path} is no file of safetensors: {error}.") from error
    if promised > size:
        raise ModelError(
            f"{path} is not whole, or no file of safetensors: its header promises {promised} "
            f"bytes, and {size} are there. Copy or download it again."
        )
