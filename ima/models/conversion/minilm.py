"""MiniLM: the folder in a zip file becomes the folder of a ``BertModel``."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ima.errors import PartError

#: What the folder needs; the rest belongs to another library.
_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
)


def convert_sentence_encoder(members: Mapping[str, Path], folder: Path) -> None:
    """Unpack the encoder, its tokenizer and its settings; paths in the zip file are not trusted.

    Parameters
    ----------
    members : mapping of str to Path
        One zip file.
    folder : Path
        Where to write the files.

    Raises
    ------
    PartError
        If the zip file lacks one of them.

    Examples
    --------
    >>> convert_sentence_encoder({"model.zip": path}, folder)  # doctest: +SKIP
    """
    (path,) = members.values()
    with zipfile.ZipFile(path) as archive:
        for name in _FILES:
            if name not in archive.namelist():
                raise PartError(f"The zip file of the sentence encoder lacks {name}.")
            with archive.open(name) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
