"""The importers: how each data set is published, and how its files are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ima.data.importers import audio, images, videos
from ima.data.importers.entries import PublishedFiles, PublishedSample


@dataclass(frozen=True)
class Importer:
    """How to read one data set.

    Parameters
    ----------
    read : callable
        From the published files to entries, in their order.
    needs : str
        Which files it needs.
    """

    read: Callable[[PublishedFiles], Iterator[PublishedSample]]
    needs: str


#: By name, every data set that can be imported.
IMPORTERS: Mapping[str, Importer] = {
    "coco": Importer(
        images.read_coco,
        "Give captions_val2017.json, with instances_val2017.json beside it for the objects that "
        "are there, and the folder of images.",
    ),
    "vqav2": Importer(
        images.read_vqa,
        "Give v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json and "
        "the folder val2014.",
    ),
    "okvqa": Importer(
        images.read_vqa,
        "Give OpenEnded_mscoco_val2014_questions.json, mscoco_val2014_annotations.json and the "
        "folder val2014.",
    ),
    "gqa": Importer(
        images.read_gqa,
        "Give testdev_balanced_questions.json or another file of questions, and images.",
    ),
    "textvqa": Importer(
        images.read_textvqa, "Give TextVQA_0.5.1_val.json and the folder train_images."
    ),
    "pope": Importer(
        images.read_pope, "Give coco_pope_random.json or its like, and the folder val2014."
    ),
    "msrvtt": Importer(
        videos.read_msrvtt,
        "Give train_val_videodatainfo.json or its like, and the folder of videos.",
    ),
    "msvd": Importer(
        videos.read_msvd, "Give AllVideoDescriptions.txt and the folder YouTubeClips."
    ),
    "audiocaps": Importer(
        audio.read_audiocaps, "Give test.csv or its like, and a folder with YOUTUBEID.wav."
    ),
    "clotho": Importer(
        audio.read_clotho, "Give clotho_captions_evaluation.csv and the folder evaluation."
    ),
    "clothoaqa": Importer(
        audio.read_clotho_aqa, "Give clotho_aqa_test.csv and the folder audio_files."
    ),
}
