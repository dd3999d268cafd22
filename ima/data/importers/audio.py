"""Audio data sets: AudioCaps, Clotho and ClothoAQA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import Field

from ima.data.importers.entries import (
    PublishedFiles,
    PublishedRecord,
    PublishedSample,
    sort_answers_by_frequency,
)
from ima.data.importers.registry import register_importer
from ima.errors import SampleError


class _AudioCapsRow(PublishedRecord):
    audiocap_id: str
    youtube_id: str
    start_time: str
    caption: str


class _ClothoRow(PublishedRecord):
    file_name: str
    caption_1: str
    caption_2: str
    caption_3: str
    caption_4: str
    caption_5: str

    @property
    def captions(self) -> tuple[str, ...]:
        five = (self.caption_1, self.caption_2, self.caption_3, self.caption_4, self.caption_5)
        return tuple(caption.strip() for caption in five)


class _ClothoAqaRow(PublishedRecord):
    file_name: str
    question: str = Field(alias="QuestionText")
    answer: str


@register_importer("audiocaps", needs="Give test.csv or its like, and a folder with YOUTUBEID.wav.")
def read_audiocaps(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read AudioCaps (Kim et al. 2019), one sample per clip.

    The data set is published without media. The reader looks for ``YOUTUBEID_START.wav``,
    ``AUDIOCAPID.wav`` and ``YOUTUBEID.wav``, in this order, also with a leading Y and as flac. The
    last one does not say which of several clips of a video it is.

    Examples
    --------
    >>> annotations, media = Path("test.csv"), Path("audio")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_audiocaps(files)).references  # doctest: +SKIP
    ('A dog barks.', …)
    """
    captions: dict[str, list[str]] = {}
    rows: dict[str, _AudioCapsRow] = {}
    for row in published.tables(_AudioCapsRow):
        name = f"{row.youtube_id}_{row.start_time}"
        captions.setdefault(name, []).append(row.caption.strip())
        rows.setdefault(name, row)
    clips = Counter(row.youtube_id for row in rows.values())
    for name, row in rows.items():
        stems = (name, f"Y{name}", row.audiocap_id, row.youtube_id, f"Y{row.youtube_id}")
        media = published.file(*(f"{stem}{end}" for stem in stems for end in (".wav", ".flac")))
        if media.exists() and media.stem in stems[-2:] and clips[row.youtube_id] > 1:
            raise SampleError(
                f"{media} may be any of {clips[row.youtube_id]} clips of {row.youtube_id}. Name "
                f"each clip by its start: {name}.wav."
            )
        yield PublishedSample(
            id=name,
            modality="audio",
            task="caption",
            references=tuple(captions[name]),
            media=media,
        )


@register_importer("clotho", needs="Give clotho_captions_evaluation.csv and the folder evaluation.")
def read_clotho(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read Clotho (arXiv:1910.09387): five captions per sound.

    Examples
    --------
    >>> annotations, media = Path("clotho.csv"), Path("evaluation")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_clotho(files)).references  # doctest: +SKIP
    ('Rain falls.', …)
    """
    for row in published.tables(_ClothoRow):
        yield PublishedSample(
            id=row.file_name,
            modality="audio",
            task="caption",
            references=row.captions,
            media=published.file(row.file_name),
        )


@register_importer("clothoaqa", needs="Give clotho_aqa_test.csv and the folder audio_files.")
def read_clotho_aqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read ClothoAQA (arXiv:2204.09634): three people answered each question.

    ``truth["majority"]`` is the answer that at least two of them gave, where there is one.

    Examples
    --------
    >>> annotations, media = Path("clotho_aqa_test.csv"), Path("audio_files")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_clotho_aqa(files)).references  # doctest: +SKIP
    ('yes', 'yes', 'no')
    """
    answers_by_question: dict[tuple[str, str], list[str]] = {}
    for row in published.tables(_ClothoAqaRow):
        key = (row.file_name, row.question.strip())
        answers_by_question.setdefault(key, []).append(row.answer.strip())
    for number, ((name, question), answers) in enumerate(answers_by_question.items()):
        yield PublishedSample(
            id=f"{name}-{number}",
            modality="audio",
            task="qa",
            references=sort_answers_by_frequency(answers),
            media=published.file(name),
            question=question,
            truth=_find_majority(answers),
        )


def _find_majority(answers: Sequence[str]) -> dict[str, str]:
    (answer, count), *_ = Counter(answers).most_common(1)
    return {"majority": answer} if 2 * count > len(answers) else {}
