"""Video data sets: MSR-VTT and MSVD."""

from __future__ import annotations

from collections.abc import Iterator

from ima.data.importers.entries import PublishedFiles, PublishedRecord, PublishedSample, Text
from ima.data.importers.registry import register_importer
from ima.data.samples import SPLITS
from ima.data.text_files import split_lines
from ima.errors import SampleError

_ENDINGS = (".mp4", ".avi", ".webm", ".mkv", "")


class _Sentence(PublishedRecord):
    video_id: Text
    caption: Text


class _MsrvttVideo(PublishedRecord):
    video_id: Text
    split: str = ""


@register_importer(
    "msrvtt",
    needs="Give train_val_videodatainfo.json or its like, and the folder of videos.",
)
def read_msrvtt(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read MSR-VTT (Xu et al. 2016), one sample per video; ``truth["split"]`` is its split.

    Examples
    --------
    >>> annotations, media = Path("train_val_videodatainfo.json"), Path("videos")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_msrvtt(files)).references  # doctest: +SKIP
    ('A man sings.', …)
    """
    document = published.document("videos", "sentences")
    captions: dict[str, list[str]] = {}
    for sentence in document.records("sentences", _Sentence):
        captions.setdefault(sentence.video_id, []).append(sentence.caption.strip())
    for video in document.records("videos", _MsrvttVideo):
        if video.video_id in captions:
            yield _video(published, video.video_id, captions[video.video_id], split=video.split)


@register_importer("msvd", needs="Give AllVideoDescriptions.txt and the folder YouTubeClips.")
def read_msvd(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read MSVD (Chen & Dolan 2011): each line names a clip and describes it.

    Examples
    --------
    >>> annotations, media = Path("descriptions.txt"), Path("YouTubeClips")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_msvd(files)).references  # doctest: +SKIP
    ('a man sings', …)
    """
    captions: dict[str, list[str]] = {}
    for path in published.annotations:
        for number, line in split_lines(published.text(path)):
            if line.startswith("#"):
                continue
            name, _, text = line.strip().partition(" ")
            if not text:
                raise SampleError(
                    f"{path}, line {number}: expected a clip's name and a description."
                )
            captions.setdefault(name, []).append(text.strip())
    for name, texts in captions.items():
        yield _video(published, name, texts)


def _video(
    published: PublishedFiles, name: str, captions: list[str], *, split: str = ""
) -> PublishedSample:
    return PublishedSample(
        id=name,
        modality="video",
        task="caption",
        references=tuple(captions),
        media=published.file(*(f"{name}{ending}" for ending in _ENDINGS)),
        truth={"split": split} if split else {},
        # The publisher writes "validate".
        split={"validate": "validation"}.get(split, split if split in SPLITS else ""),
    )
