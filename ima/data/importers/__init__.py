"""Importers: data sets as their owners publish them, turned into folders of samples.

Each reads the files of one publisher and yields entries, and
:func:`ima.data.importers.entries.import_data` writes them as a folder with ``samples.jsonl`` that
:func:`ima.data.samples.open_samples` opens. Media are linked where the file system can, else
copied.
"""

from __future__ import annotations

from ima.data.importers.entries import PublishedFiles, PublishedSample, import_data
from ima.data.importers.registry import IMPORTERS, Importer
from ima.data.importers.rows import make_samples_from_rows, open_hf_dataset

__all__ = [
    "IMPORTERS",
    "Importer",
    "PublishedFiles",
    "PublishedSample",
    "import_data",
    "make_samples_from_rows",
    "open_hf_dataset",
]
