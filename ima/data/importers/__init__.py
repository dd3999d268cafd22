"""Importers: published data sets, turned into folders of samples.

Each module reads the files of one kind of data set and yields its samples;
:func:`ima.data.importers.entries.import_data` writes them as a folder with ``samples.jsonl`` that
:func:`ima.data.samples.open_samples` opens. Media are linked where the file system allows it,
copied elsewhere. To add a data set, add a module with a function that
:func:`ima.data.importers.registry.register_importer` decorates.
"""
