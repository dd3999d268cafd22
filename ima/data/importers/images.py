"""Image data sets: COCO, VQAv2, OK-VQA, GQA, TextVQA and POPE."""

from __future__ import annotations

from collections.abc import Iterator

from ima.data.importers.entries import PublishedFiles, PublishedSample, sort_answers_by_frequency
from ima.data.importers.registry import register_importer
from ima.errors import SampleError


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
    document = published.document("images", "annotations")
    captions: dict[int, list[str]] = {}
    objects: dict[int, set[str]] = {}
    for found in published.documents:
        names = {c["id"]: c["name"] for c in found.get("categories", ())}
        for annotation in found["annotations"]:
            image = annotation["image_id"]
            if "caption" in annotation:
                captions.setdefault(image, []).append(" ".join(annotation["caption"].split()))
            elif annotation.get("category_id") in names:
                objects.setdefault(image, set()).add(names[annotation["category_id"]])
    for image in document["images"]:
        if image["id"] in captions:
            truth = {"objects": sorted(objects[image["id"]])} if image["id"] in objects else {}
            yield PublishedSample(
                id=str(image["id"]),
                modality="image",
                task="caption",
                references=tuple(captions[image["id"]]),
                media=published.file(image["file_name"]),
                truth=truth,
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
    answers = {
        entry["question_id"]: entry for entry in published.document("annotations")["annotations"]
    }
    subset = questions.get("data_subtype", "val2014")
    for question in questions["questions"]:
        image = int(question["image_id"])
        annotation = answers[question["question_id"]]
        yield PublishedSample(
            id=str(question["question_id"]),
            modality="image",
            task="qa",
            references=sort_answers_by_frequency(
                [answer["answer"] for answer in annotation["answers"]]
            ),
            media=published.file(f"COCO_{subset}_{image:012d}.jpg", f"{image:012d}.jpg"),
            question=question["question"].strip(),
            truth={"answer_type": annotation.get("answer_type", ""), "image": image},
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
        for name, entry in found.items():
            yield PublishedSample(
                id=str(name),
                modality="image",
                task="qa",
                references=(entry["answer"],),
                media=published.file(f"{entry['imageId']}.jpg"),
                question=entry["question"].strip(),
                truth={"full_answer": entry.get("fullAnswer", "")},
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
    for entry in published.document("data")["data"]:
        yield PublishedSample(
            id=str(entry["question_id"]),
            modality="image",
            task="qa",
            references=sort_answers_by_frequency(entry["answers"]),
            media=published.file(f"{entry['image_id']}.jpg", f"{entry['image_id']}.png"),
            question=entry["question"].strip(),
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
    for path in published.annotations:
        for entry in PublishedFiles((path,), published.media).lines():
            label = str(entry["label"])
            if label not in ("yes", "no"):
                raise SampleError(
                    f"{path}: question {entry['question_id']}: label {label!r} is not yes or no."
                )
            yield PublishedSample(
                id=f"{path.stem}-{entry['question_id']}",
                modality="image",
                task="qa",
                references=(label,),
                media=published.file(entry["image"]),
                question=entry["text"].strip(),
                truth={"pope": path.stem, "label": label},
            )
