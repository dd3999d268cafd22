"""The recipe of the connectors of graded encoders, and encoders with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ima.drawings.graded import GRADED_FOLDER, GradedEncoder
from ima.drawings.zoo import SINGLE_TASK_RECIPE
from ima.files import replace_folder
from ima.models import zoo
from ima.models.folders import LoadOptions, load_model_config
from ima.models.parts import MODEL_PARTS
from ima.models.towers import load_encoder_and_processor
from ima.packages import find_part
from ima.training import TrainingSettings

#: One pass over few samples: the encoders shall differ, not be learned to the end.
_RECIPE: dict[str, Any] = {
    **SINGLE_TASK_RECIPE,
    "samples": 2000,
    "epochs": 1,
    "word_steps": 500,
    "warmup": 20,
    "autocast_after": 60,
    "save_every": 50,
    "checkpoints": 0,
}
#: By modality, how the encoder reads its media, as in the zoo.
_READING: Mapping[str, dict[str, Any]] = {
    "image": {},
    "video": {"frames": 4},
    "audio": {"seconds": 5.0},
}


def make_graded_settings(graded: GradedEncoder, *, seed: int) -> TrainingSettings:
    """Return the settings of the training of a connector on a graded encoder.

    Parameters
    ----------
    graded : GradedEncoder
        The encoder.
    seed : int
        Seed of initial weights and sample order.

    Examples
    --------
    >>> from ima.drawings.graded import GRADED_ENCODERS
    >>> make_graded_settings(GRADED_ENCODERS[1], seed=0).block
    3
    """
    work = zoo.get_zoo_root() / ".training"
    folder = work / GRADED_FOLDER
    encoder = graded.encoder
    if graded.random is not None:
        encoder = str(folder / "encoders" / f"{graded.encoder}-{graded.random}")
    values = {
        **_RECIPE,
        **_READING[graded.modality],
        "encoder": encoder,
        "data": graded.dataset,
        "block": graded.block,
        "pool": graded.pool,
        "seed": seed,
        "out": str(folder / "models" / f"{graded.name}-{seed}"),
        "features": str(work / "features"),
    }
    return TrainingSettings.from_values(values)


def write_random_encoder(graded: GradedEncoder, folder: Path) -> None:
    """Write an encoder with random weights as a folder of transformers, unless it is there.

    Parameters
    ----------
    graded : GradedEncoder
        The encoder; its ``random`` is the seed.
    folder : Path
        The folder.

    Raises
    ------
    PartAbsentError
        If the encoder was not fetched.

    Examples
    --------
    >>> from ima.drawings.graded import GRADED_ENCODERS
    >>> write_random_encoder(GRADED_ENCODERS[4], Path("random"))  # doctest: +SKIP
    """
    if folder.is_dir():
        return
    source = find_part(MODEL_PARTS[graded.encoder])
    loading = LoadOptions(torch.device("cpu"), torch.float32)
    encoder, processor, _ = load_encoder_and_processor(graded.encoder, source, loading=loading)
    assert graded.random is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(graded.random)
        untrained = type(encoder)(load_model_config(source, loading))
        _draw_convolutions(untrained)
    with replace_folder(folder) as partial:
        untrained.save_pretrained(partial)
        processor.save_pretrained(partial)


@torch.no_grad()
def _draw_convolutions(encoder: torch.nn.Module) -> None:
    """Draw the weights of a convolutional network so that its states do not vanish.

    As He et al. 2015 (arXiv:1502.01852). Transformers draws them, and the factors of batch
    normalisation, with a standard deviation of 0.02. As no statistics of batches were gathered,
    the states of any picture would become zero.
    """
    modules = list(encoder.modules())
    if not any(isinstance(each, torch.nn.BatchNorm2d) for each in modules):
        return
    for module in modules:
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
