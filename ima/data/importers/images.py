"""Image data sets: COCO, VQAv2, OK-VQA, GQA, TextVQA and POPE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ima.data.importers.entries import (
    PublishedFiles,
    PublishedRecord,
    PublishedSample,
    Text,
    sort_answers_by_frequency,
)
from ima.data.importers.registry import register_importer
from ima.errors import SampleError


class _CocoImage(PublishedRecord):
    id: int
    file_name: str


class _CocoCategory(PublishedRecord):
    id: int
    name: str


class _CocoAnnotation(PublishedRecord):
    image_id: int
    caption: str | None = None
    category_id: int | None = None


class _VqaQuestion(PublishedRecord):
    question_id: Text
    image_id: int
    question: str


class _VqaAnswer(PublishedRecord):
    answer: Text


class _VqaAnnotation(PublishedRecord):
    question_id: Text
    answers: list[_VqaAnswer]
    answer_type: str = ""


class _GqaQuestion(PublishedRecord):
    image_id: Text = Field(alias="imageId")
    question: str
    answer: Text
    full_answer: str = Field(alias="fullAnswer", default="")


class _TextVqaQuestion(PublishedRecord):
    question_id: Text
    image_id: Text
    question: str
    answers: list[Text]


class _PopeQuestion(PublishedRecord):
    question_id: Text
    image: str
    text: str
    label: Literal["yes", "no"]


@register_importer(
    "coco",
    needs="Give captions_val2017.json, with instances_val2017.json beside it for the "
    "objects that are there, and the folder of images.",
)
def read_coco(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read COCO captions (Chen et al. 2015, arXiv:1504.00325), one sample per image.

    With the file of instances ``truth["objects"]`` names the categories that are there.

    Examples
    --------
    >>> annotations, media = Path("captions_val2017.json"), Path("val2017")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_coco(files)).references  # doctest: +SKIP
    ('A cat sits on a sofa.', …)
    """
    published.find_documents("images", "annotations")
    images: dict[int, _CocoImage] = {}
    captions: dict[int, list[str]] = {}
    objects: dict[int, set[str]] = {}
    for found in published.documents:
        if not found.holds("annotations"):
            raise SampleError(f"{found.path} holds no 'annotations'.")
        has_categories = found.holds("categories")
        categories = found.records("categories", _CocoCategory) if has_categories else ()
        names = {category.id: category.name for category in categories}
        for image in found.records("images", _CocoImage) if found.holds("images") else ():
            images.setdefault(image.id, image)
            if names:
                # A picture of the file of instances that has none shows none of its categories.
                objects.setdefault(image.id, set())
        for annotation in found.records("annotations", _CocoAnnotation):
            if annotation.caption is not None:
                captions.setdefault(annotation.image_id, []).append(
                    " ".join(annotation.caption.split())
                )
            elif annotation.category_id in names:
                objects.setdefault(annotation.image_id, set()).add(names[annotation.category_id])
    for image in images.values():
        if image.id in captions:
            yield PublishedSample(
                id=str(image.id),
                modality="image",
                task="caption",
                references=tuple(captions[image.id]),
                media=published.file(image.file_name),
                truth={"objects": sorted(objects[image.id])} if image.id in objects else {},
                content=_name_coco_picture(image.id),
            )


@register_importer(
    "vqav2",
    needs="Give v2_OpenEnded_mscoco_val2014_questions.json, "
    "v2_mscoco_val2014_annotations.json and the folder val2014.",
)
@register_importer(
    "okvqa",
    needs="Give OpenEnded_mscoco_val2014_questions.json, mscoco_val2014_annotations.json "
    "and the folder val2014.",
)
def read_vqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read VQAv2 (arXiv:1612.00837) or OK-VQA (arXiv:1906.00067): ten answers per question.

    Examples
    --------
    >>> annotations, media = Path("questions.json"), Path("val2014")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_vqa(files)).references  # doctest: +SKIP
    ('yes', 'yes', 'no')
    """
    questions = published.document("questions")
    answered = published.document("annotations")
    annotations = {
        annotation.question_id: annotation
        for annotation in answered.records("annotations", _VqaAnnotation)
    }
    subset = questions.get("data_subtype", "val2014")
    for question in questions.records("questions", _VqaQuestion):
        annotation = annotations.get(question.question_id)
        if annotation is None:
            raise SampleError(
                f"{answered.path} has no answers to question {question.question_id} of "
                f"{questions.path}. Give the annotations of the same split."
            )
        image = question.image_id
        yield PublishedSample(
            id=question.question_id,
            modality="image",
            task="qa",
            references=sort_answers_by_frequency([one.answer for one in annotation.answers]),
            media=published.file(f"COCO_{subset}_{image:012d}.jpg", f"{image:012d}.jpg"),
            question=question.question.strip(),
            truth={"answer_type": annotation.answer_type, "image": image},
            content=_name_coco_picture(image),
        )


@register_importer(
    "gqa",
    needs="Give testdev_balanced_questions.json or another file of questions, and images.",
)
def read_gqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read GQA (arXiv:1902.09506): one answer per question.

    Examples
    --------
    >>> annotations, media = Path("testdev_questions.json"), Path("images")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_gqa(files)).references  # doctest: +SKIP
    ('yes',)
    """
    for found in published.documents:
        for name, entry in found.entries(_GqaQuestion):
            yield PublishedSample(
                id=name,
                modality="image",
                task="qa",
                references=(entry.answer,),
                media=published.file(f"{entry.image_id}.jpg"),
                question=entry.question.strip(),
                truth={"full_answer": entry.full_answer},
            )


@register_importer("textvqa", needs="Give TextVQA_0.5.1_val.json and the folder train_images.")
def read_textvqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read TextVQA (arXiv:1904.08920): ten answers per question.

    Examples
    --------
    >>> annotations, media = Path("TextVQA_0.5.1_val.json"), Path("train_images")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_textvqa(files)).references  # doctest: +SKIP
    ('nokia', …)
    """
    for entry in published.document("data").records("data", _TextVqaQuestion):
        yield PublishedSample(
            id=entry.question_id,
            modality="image",
            task="qa",
            references=sort_answers_by_frequency(entry.answers),
            media=published.file(f"{entry.image_id}.jpg", f"{entry.image_id}.png"),
            question=entry.question.strip(),
        )


@register_importer("pope", needs="Give coco_pope_random.json or its like, and the folder val2014.")
def read_pope(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read POPE (arXiv:2305.10355): yes-or-no questions about objects in an image.

    Examples
    --------
    >>> annotations, media = Path("coco_pope_random.json"), Path("val2014")  # doctest: +SKIP
    >>> files = PublishedFiles((annotations,), media)  # doctest: +SKIP
    >>> next(read_pope(files)).references  # doctest: +SKIP
    ('yes',)
    """
    for path, entry in published.lines(_PopeQuestion):
        found = re.findall(r"\d{12}", entry.image)
        yield PublishedSample(
            id=f"{path.stem}-{entry.question_id}",
            modality="image",
            task="qa",
            references=(entry.label,),
            media=published.file(entry.image),
            question=entry.text.strip(),
            truth={"pope": path.stem, "label": entry.label},
            content=_name_coco_picture(int(found[-1])) if found else "",
        )


def _name_coco_picture(number: int) -> str:
    """Return the content of a picture of COCO, which several data sets ask about."""
    return f"coco-{number:012d}"
