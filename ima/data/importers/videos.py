"""Data sets of videos: MSR-VTT and MSVD."""

from __future__ import annotations

from collections.abc import Iterator

from ima.data.importers.entries import PublishedFiles, PublishedSample
from ima.errors import SampleError

_ENDINGS = (".mp4", ".avi", ".webm", ".mkv", "")


def read_msrvtt(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read MSR-VTT (Xu et al. 2016), one sample per video; ``truth["split"]`` is its split."""
    document = published.document("videos", "sentences")
    captions: dict[str, list[str]] = {}
    for sentence in document["sentences"]:
        captions.setdefault(str(sentence["video_id"]), []).append(str(sentence["caption"]).strip())
    for video in document["videos"]:
        name = str(video["video_id"])
        if name in captions:
            yield _video(published, name, captions[name], split=str(video.get("split", "")))


def read_msvd(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read MSVD (Chen & Dolan 2011): lines of a clip's name and a description of it."""
    captions: dict[str, list[str]] = {}
    for path in published.annotations:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, text = line.strip().partition(" ")
            if not text:
                message = f"{path}, line {number}: expected a clip's name and a description."
                raise SampleError(message)
            captions.setdefault(name, []).append(text.strip())
    for name, texts in captions.items():
        yield _video(published, name, texts)


def _video(
    published: PublishedFiles, name: str, captions: list[str], **truth: str
) -> PublishedSample:
    return PublishedSample(
        id=name,
        modality="video",
        task="caption",
        references=tuple(captions),
        media=published.file(*(f"{name}{ending}" for ending in _ENDINGS)),
        truth=dict(truth),
    )
