"""Data sets of sounds: AudioCaps, Clotho and ClothoAQA."""

from __future__ import annotations

from collections.abc import Iterator

from ima.data.importers.entries import PublishedFiles, PublishedSample, sort_answers_by_frequency


def read_audiocaps(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read AudioCaps (Kim et al. 2019), one sample per clip.

    Media are not published with it; ``YOUTUBEID.wav``, ``YOUTUBEID_START.wav`` and
    ``AUDIOCAPID.wav`` are looked for, with or without a Y before, as flac too.
    """
    captions: dict[str, list[str]] = {}
    rows: dict[str, dict[str, str]] = {}
    for row in published.tables("audiocap_id", "youtube_id", "start_time", "caption"):
        name = f"{row['youtube_id']}_{row['start_time']}"
        captions.setdefault(name, []).append(row["caption"].strip())
        rows.setdefault(name, row)
    for name, row in rows.items():
        stems = (row["youtube_id"], f"Y{row['youtube_id']}", name, f"Y{name}", row["audiocap_id"])
        yield PublishedSample(
            id=name,
            modality="audio",
            task="caption",
            references=tuple(captions[name]),
            media=published.file(*(f"{stem}{end}" for end in (".wav", ".flac") for stem in stems)),
        )


def read_clotho(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read Clotho (arXiv:1910.09387): five captions a sound."""
    names = [f"caption_{number}" for number in range(1, 6)]
    for row in published.tables("file_name", *names):
        yield PublishedSample(
            id=row["file_name"],
            modality="audio",
            task="caption",
            references=tuple(row[name].strip() for name in names),
            media=published.file(row["file_name"]),
        )


def read_clotho_aqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read ClothoAQA (arXiv:2204.09634): each question was answered by three people."""
    asked: dict[tuple[str, str], list[str]] = {}
    for row in published.tables("file_name", "QuestionText", "answer"):
        key = (row["file_name"], row["QuestionText"].strip())
        asked.setdefault(key, []).append(row["answer"].strip())
    for number, ((name, question), answers) in enumerate(asked.items()):
        yield PublishedSample(
            id=f"{name}-{number}",
            modality="audio",
            task="qa",
            references=sort_answers_by_frequency(answers),
            media=published.file(name),
            question=question,
        )
