"""Processors of models from a folder or a hub: transformers' own, also without torchvision."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from ima.errors import ModelError


def load_processor(folder: Path, *, model_type: str, trust_remote_code: bool = False) -> Any:
    """Load what turns media and text into a model's inputs.

    Parameters
    ----------
    folder : Path
        Where the model is.
    model_type : str
        Its family, as its configuration names it.
    trust_remote_code : bool
        Whether code in the folder may run.

    Returns
    -------
    ProcessorMixin
        Transformers' processor of the family. Where torchvision is not installed, one that reads no
        video, with the image processor that needs Pillow alone.

    Raises
    ------
    ModelError
        If the folder has none, or it cannot be built here.
    """
    from transformers import AutoProcessor
    from transformers.utils.import_utils import is_torchvision_available

    given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    own = None if is_torchvision_available() else _class_of(model_type)
    try:
        if own is not None and "video_processor" in own.get_attributes():
            return _load_without_video(own, folder, given)
        auto: Any = AutoProcessor
        processor = auto.from_pretrained(folder, **given)
    except (OSError, ValueError, ImportError, AttributeError, TypeError, KeyError) as error:
        hint = "" if is_torchvision_available() else " Some processors need torchvision."
        message = (
            f"{folder} holds no processor that can be built here: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}.{hint}"
        )
        raise ModelError(message) from error
    if not hasattr(processor, "tokenizer"):
        message = (
            f"{folder} holds a tokenizer and no processor for media. Save the model there with "
            "processor.save_pretrained(folder)."
        )
        raise ModelError(message)
    return processor


class NoVideoProcessor(dict[str, Any]):
    """Stands where a processor keeps its video processor, and refuses videos.

    A dict, because processors write their parts as JSON when they log what they are.
    """

    model_input_names: tuple[str, ...] = ()
    _auto_class = None
    num_frames = fps = 1
    video_sampling: dict[str, Any] = {"num_frames": 1, "fps": 1}  # noqa: RUF012
    size: dict[str, int] = {"longest_edge": 0}  # noqa: RUF012

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Refuse.

        Raises
        ------
        ModelError
            Always.
        """
        message = "This model's video processor needs torchvision: pip install torchvision."
        raise ModelError(message)


def drop_video_processor(cls: type[Any]) -> type[Any]:
    """Return a processor class that takes :class:`NoVideoProcessor` for its video processor."""

    def check(self: Any, name: str, argument: Any) -> Any:
        if isinstance(argument, NoVideoProcessor):
            return NoVideoProcessor
        return cls.check_argument_for_proper_class(self, name, argument)

    return type(cls.__name__, (cls,), {"check_argument_for_proper_class": check})


def _load_without_video(cls: type[Any], folder: Path, given: dict[str, Any]) -> Any:
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

    autos: dict[str, Any] = {
        "tokenizer": AutoTokenizer,
        "image_processor": AutoImageProcessor,
        "feature_extractor": AutoFeatureExtractor,
    }
    parts = [
        NoVideoProcessor()
        if name == "video_processor"
        else autos[name].from_pretrained(folder, **given)
        for name in cls.get_attributes()
    ]
    settings, _ = cls.get_processor_dict(folder, **given)
    return drop_video_processor(cls).from_args_and_dict(parts, settings)


def _class_of(model_type: str) -> type[Any] | None:
    """Return the processor class of a family, found in the files of transformers itself.

    Transformers hides a class whose video processor cannot be imported.
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
            found: type[Any] = getattr(module, str(name))
            return found
    return None
