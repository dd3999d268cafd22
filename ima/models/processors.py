"""Processors of multimodal models: those of transformers, also without torchvision."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ima.data.clips import ClipTiming
from ima.data.samples import Media
from ima.errors import ModelError
from ima.models.read_errors import READ_ERRORS, describe_read_error


def load_processor(folder: Path, *, model_type: str, trust_remote_code: bool = False) -> Any:
    """Load the processor that turns media and text into a model's inputs.

    Parameters
    ----------
    folder : Path
        The model's folder.
    model_type : str
        The architecture, as the model's configuration names it.
    trust_remote_code : bool
        Whether code in the folder may run.

    Returns
    -------
    ProcessorMixin
        The processor of transformers. Without torchvision: one that reads no video and whose image
        processor needs Pillow only.

    Raises
    ------
    ModelError
        If the folder has no processor, or it cannot be built here.

    Examples
    --------
    >>> load_processor(Path("models/qwen"), model_type="qwen2_5_vl")  # doctest: +SKIP
    Qwen2_5_VLProcessor(…)
    """
    from transformers import AutoProcessor
    from transformers.utils.import_utils import is_torchvision_available

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    cls = None if is_torchvision_available() else _find_processor_class(model_type)
    try:
        if cls is not None and "video_processor" in cls.get_attributes():
            return _load_without_video(cls, folder, options)
        auto: Any = AutoProcessor
        processor = auto.from_pretrained(folder, **options)
    except READ_ERRORS as error:
        hint = "" if is_torchvision_available() else " Some processors need torchvision."
        raise ModelError(
            f"{folder} holds no processor that can be built here: "
            f"{describe_read_error(error)}.{hint}"
        ) from error
    if not hasattr(processor, "tokenizer"):
        raise ModelError(
            f"{folder} holds a tokenizer and no processor for media. Save the model there with "
            "processor.save_pretrained(folder)."
        )
    return processor


class NoVideoProcessor(dict[str, Any]):
    """Takes the place of a processor's video processor, and raises an error for videos.

    It is a dict, because processors write their parts as JSON when they are logged.
    """

    model_input_names: tuple[str, ...] = ()
    _auto_class = None
    num_frames = fps = 1
    video_sampling: dict[str, Any] = {"num_frames": 1, "fps": 1}  # noqa: RUF012
    size: dict[str, int] = {"longest_edge": 0}  # noqa: RUF012

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise an error.

        Raises
        ------
        ModelError
            Always.
        """
        raise ModelError("This model's video processor needs torchvision: pip install torchvision.")


def prepare_videos(clips: Sequence[Media]) -> dict[str, Any]:
    """Return what a processor takes of clips: all their frames, and when they are shown.

    Frames without a timing count as one second apart.

    Parameters
    ----------
    clips : sequence of ndarray
        ``(frame, height, width, 3)`` uint8 each; with a timing if it is a
        :class:`ima.data.clips.Clip`.

    Returns
    -------
    dict
        Arguments of a processor of transformers. It takes the frames as they are and samples none.

    Examples
    --------
    >>> import numpy as np
    >>> prepare_videos([np.zeros((8, 4, 4, 3), np.uint8)])["video_metadata"][0].timestamps[:2]
    [0.0, 1.0]
    """
    from transformers.video_utils import VideoMetadata

    metadata = []
    for clip in clips:
        length, height, width, _ = clip.shape
        found = getattr(clip, "timing", None)
        timing = found or ClipTiming(tuple(range(length)), duration=length, frames=length)
        metadata.append(
            VideoMetadata(
                total_num_frames=timing.frames,
                fps=timing.rate,
                width=width,
                height=height,
                duration=timing.duration,
                frames_indices=timing.indices,
            )
        )
    return {
        "videos": [np.asarray(clip) for clip in clips],
        "video_metadata": metadata,
        "do_sample_frames": False,
    }


def drop_video_processor(cls: type[Any]) -> type[Any]:
    """Return a processor class that accepts :class:`NoVideoProcessor` as its video processor.

    Examples
    --------
    >>> from transformers import Qwen2_5_VLProcessor  # doctest: +SKIP
    >>> drop_video_processor(Qwen2_5_VLProcessor).__name__  # doctest: +SKIP
    'Qwen2_5_VLProcessor'
    """

    def check(self: Any, name: str, argument: Any) -> Any:
        if isinstance(argument, NoVideoProcessor):
            return NoVideoProcessor
        return cls.check_argument_for_proper_class(self, name, argument)

    return type(cls.__name__, (cls,), {"check_argument_for_proper_class": check})


def _load_without_video(cls: type[Any], folder: Path, options: dict[str, Any]) -> Any:
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

    autos: dict[str, Any] = {
        "tokenizer": AutoTokenizer,
        "image_processor": AutoImageProcessor,
        "feature_extractor": AutoFeatureExtractor,
    }
    parts = [
        NoVideoProcessor()
        if name == "video_processor"
        else autos[name].from_pretrained(folder, **options)
        for name in cls.get_attributes()
    ]
    settings, _ = cls.get_processor_dict(folder, **options)
    return drop_video_processor(cls).from_args_and_dict(parts, settings)


def _find_processor_class(model_type: str) -> type[Any] | None:
    """Return the processor class of an architecture, found in the files of transformers.

    transformers hides a class whose video processor cannot be imported.
    """
    import transformers.models
    from transformers.models.auto import processing_auto

    name = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"].get(model_type)
    root = Path(str(transformers.models.__file__)).parent
    for path in sorted(root.glob("*/processing_*.py")) if name else ():
        if re.search(rf"^class {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            try:
                module = importlib.import_module(
                    f"transformers.models.{path.parent.name}.{path.stem}"
                )
            except ImportError:
                return None
            cls: type[Any] = getattr(module, str(name))
            return cls
    return None
