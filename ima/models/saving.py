"""Saving a model of the zoo to a folder that loads like anyone's."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

from transformers import CLIPImageProcessorPil, LlavaProcessor

from ima.errors import ModelError, ParameterError
from ima.files import replace_folder
from ima.models import zoo
from ima.models.frozen import FrozenModel
from ima.models.llava import IMAGE_PLACEHOLDER
from ima.models.trained import is_trained_model


def save_model(model: FrozenModel, folder: str | os.PathLike[str]) -> Path:
    """Save a model of the zoo to a folder of its own, which :func:`ima.models.load_model` takes.

    Parameters
    ----------
    model : FrozenModel
        A model that ``ima train`` made, which keeps the names of its frozen parts, or a multitask
        model of the miniature zoo, which becomes a folder of transformers' LLaVA.
    folder : str or path
        A folder that does not exist.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ParameterError
        If the folder exists.
    ModelError
        If the model is of another kind.

    Examples
    --------
    >>> save_model(load_model("llava-mini-3"), "models/mine")  # doctest: +SKIP
    PosixPath('models/mine')
    """
    target = Path(folder)
    if target.exists():
        raise ParameterError(f"{target} exists. Give another folder, or remove it.")
    if model.name in zoo.list_model_names():
        source = zoo.find_model_folder(model.name)
        if is_trained_model(source):
            with replace_folder(target) as partial:
                shutil.copytree(source, partial, dirs_exist_ok=True)
            return target
    if model.perception is None or model.setup != "MT":
        raise ModelError(
            f"{model.name!r} is neither a model that `ima train` made nor a multitask model. "
            "See: ima models list."
        )
    encoder, half = model.perception.encoder.config, [0.5, 0.5, 0.5]
    size = {"height": encoder.image_size, "width": encoder.image_size}
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": encoder.image_size}, crop_size=size, image_mean=half, image_std=half
    )
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_PLACEHOLDER]})
    processor = LlavaProcessor(  # type: ignore[no-untyped-call]
        pictures, tokenizer, image_token=IMAGE_PLACEHOLDER
    )
    processor.patch_size, processor.vision_feature_select_strategy = encoder.patch_size, "default"
    processor.num_additional_image_tokens = 1
    with replace_folder(target) as partial:
        model.language.save_pretrained(partial)
        processor.save_pretrained(partial)
    return target
