"""Data sets of images: COCO, VQAv2, OK-VQA, GQA, TextVQA and POPE."""

from __future__ import annotations

from collections.abc import Iterator

from ima.data.importers.entries import PublishedFiles, PublishedSample, sort_answers_by_frequency
from ima.errors import SampleError


def read_coco(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read COCO captions (Chen et al. 2015, arXiv:1504.00325), one sample per image.

    With the file of instances ``truth["objects"]`` names the categories that are there.
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


def read_vqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read VQAv2 (arXiv:1612.00837) or OK-VQA (arXiv:1906.00067): ten answers a question."""
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


def read_gqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read GQA (arXiv:1902.09506): one answer a question."""
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


def read_textvqa(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read TextVQA (arXiv:1904.08920): ten answers a question."""
    for entry in published.document("data")["data"]:
        yield PublishedSample(
            id=str(entry["question_id"]),
            modality="image",
            task="qa",
            references=sort_answers_by_frequency(entry["answers"]),
            media=published.file(f"{entry['image_id']}.jpg", f"{entry['image_id']}.png"),
            question=entry["question"].strip(),
        )


def read_pope(published: PublishedFiles) -> Iterator[PublishedSample]:
    """Read POPE (arXiv:2305.10355): whether a thing is in the image, yes or no."""
    for path in published.annotations:
        for entry in PublishedFiles((path,), published.media).lines():
            label = str(entry["label"])
            if label not in ("yes", "no"):
                message = (
                    f"{path}: question {entry['question_id']}: label {label!r} is not yes or no."
                )
                raise SampleError(message)
            yield PublishedSample(
                id=f"{path.stem}-{entry['question_id']}",
                modality="image",
                task="qa",
                references=(label,),
                media=published.file(entry["image"]),
                question=entry["text"].strip(),
                truth={"pope": path.stem, "label": label},
            )
