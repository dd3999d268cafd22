"""The check of a data folder: which of its samples caching would refuse, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ima.data.folders import make_folder_sample, read_sample_lines, write_sample_records
from ima.data.sample_records import SampleRecord
from ima.data.samples import SPLITS, Sample
from ima.data.worlds import load_worlds
from ima.errors import ModelError, ParameterError, SampleError, UnknownNameError


@dataclass(frozen=True)
class SampleProblem:
    """Why a sample cannot be used.

    Parameters
    ----------
    id : str
        Id of the sample; the number of its line if the line cannot be read.
    text : str
        The error message.
    """

    id: str
    text: str


def split_folder_name(name: str) -> tuple[Path, str | None]:
    """Return the folder and the split of a name such as ``data/vqa:calibration``.

    Raises
    ------
    UnknownNameError
        If there is no such split.
    SampleError
        If the name is that of a generated data set, which needs no check.

    Examples
    --------
    >>> split_folder_name("data/vqa")
    (PosixPath('data/vqa'), None)
    """
    folder, _, split = name.rpartition(":")
    if folder and not Path(name).exists() and Path(folder).is_dir():
        if split not in SPLITS:
            raise UnknownNameError.among(f"split of {folder}", split, SPLITS)
        return Path(folder), split
    if not Path(name).exists() and any(name in own.datasets for own in load_worlds().values()):
        raise SampleError(f"{name} is generated: every sample of it can be used.")
    return Path(name), None


def check_data_folder(
    path: Path, *, split: str | None = None, use: Callable[[Sample], object] | None = None
) -> tuple[list[SampleRecord], list[SampleProblem]]:
    """Find the samples of a data folder that caching would refuse.

    Parameters
    ----------
    path : Path
        The folder.
    split : str or None
        Only the samples of this split, and lines that cannot be read; None: of all splits.
    use : callable or None
        Uses a sample as caching would, and raises an error if it cannot, as
        :func:`ima.capture.sample_check.make_model_check` does. None reads the sample's medium and
        its first reference, in several threads.

    Returns
    -------
    usable : list of SampleRecord
        The records of the samples that can be used, in order.
    problems : list of SampleProblem
        The samples that cannot, in order, each with the first reason.

    Raises
    ------
    SampleError
        If there is no file of samples, or it is no text.

    Examples
    --------
    >>> usable, problems = check_data_folder(Path("data/vqav2"))  # doctest: +SKIP
    """

    def find_problem(read: tuple[str, int, SampleRecord | SampleError]) -> SampleProblem | None:
        where, number, line = read
        if isinstance(line, SampleError):
            return SampleProblem(f"line {number}", str(line))
        try:
            sample = make_folder_sample(line, folder=Path(path), where=where)
            (use or _use_without_model)(sample)
        except (SampleError, ModelError) as error:
            return SampleProblem(line.id, str(error))
        return None

    read = [
        each
        for each in read_sample_lines(Path(path))
        if split is None or isinstance(each[2], SampleError) or each[2].split == split
    ]
    with ThreadPoolExecutor(max_workers=1 if use else None) as pool:
        found = list(pool.map(find_problem, read))
    usable = [
        line
        for (_, _, line), problem in zip(read, found, strict=True)
        if problem is None and isinstance(line, SampleRecord)
    ]
    return usable, [problem for problem in found if problem is not None]


def _use_without_model(sample: Sample) -> None:
    sample.get_target()
    if sample.modality != "text":
        sample.load()


def filter_data_folder(folder: Path, path: Path, *, keep: Sequence[SampleRecord]) -> Path:
    """Copy some samples of a data folder.

    Parameters
    ----------
    folder : Path
        The folder.
    path : Path
        A folder that does not exist yet.
    keep : sequence of SampleRecord
        The samples to copy, of :func:`check_data_folder`.

    Raises
    ------
    ParameterError
        If ``path`` exists, or no sample would be left.

    Examples
    --------
    >>> usable, _ = check_data_folder(Path("a"))  # doctest: +SKIP
    >>> filter_data_folder(Path("a"), Path("b"), keep=usable)  # doctest: +SKIP
    PosixPath('b')
    """
    if not keep:
        raise ParameterError(f"No sample of {folder} can be used; nothing was written.")
    media = [None if line.media is None else Path(folder) / line.media for line in keep]
    return write_sample_records(keep, path, media=media)
