"""One connector for several modalities between parts of the pretrained zoo, and its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ima.data.samples import Sample, open_samples
from ima.drawings.kept_parts import get_features_folder, keep_trained_part
from ima.drawings.line_drawings import LINE_DRAWING, draw_lines
from ima.models import load_model, zoo
from ima.models.unified import (
    UNIFIED_FOLDER,
    ModalityReader,
    make_unified_model,
    open_perceptions,
)
from ima.models.universal_connector import (
    UniversalConnectorConfig,
    count_weights,
    list_router_weights,
)
from ima.training.features import EncoderTokenStore
from ima.training.frozen_language import measure_embedding_norm
from ima.training.loop import TrainingRecipe, TrainingResult
from ima.training.unified import (
    UnifiedRecipe,
    make_separate_config,
    train_unified,
)


@dataclass(frozen=True)
class DrawingsUnifiedRecipe:
    """The recipe of a training between parts of the pretrained zoo.

    Parameters
    ----------
    language : str
        The frozen language model.
    readers : mapping of str to ModalityReader
        By modality, whose encoder reads it; pictures come first.
    datasets : mapping of str to str
        By modality, its data set of captions.
    samples : int
        Training samples of each modality; a fiftieth of it in the validation split.
    sizes : mapping
        Sizes of the connector with shared experts.
    separate : mapping or None
        Hidden size and heads of separate connectors; None shares the experts.
    unified : UnifiedRecipe
        Hyperparameters.
    autocast_after : int or None
        The first step in bfloat16, where the hardware is faster with it.
    """

    language: str
    readers: Mapping[str, ModalityReader]
    datasets: Mapping[str, str]
    samples: int
    sizes: Mapping[str, int]
    separate: Mapping[str, int] | None
    unified: UnifiedRecipe
    autocast_after: int | None = None


_PICTURES = ModalityReader("image", "smollm2/dinov2/image-caption")
_SHARED = DrawingsUnifiedRecipe(
    language="smollm2",
    readers={
        "image": _PICTURES,
        "video": ModalityReader("video", "smollm2/dinov2/video-caption"),
        "audio": ModalityReader("audio", "smollm2/whisper/audio-caption"),
        LINE_DRAWING: _PICTURES,
    },
    datasets={
        "image": "drawings-image-caption",
        "video": "drawings-video-caption",
        "audio": "sounds-audio-caption",
        LINE_DRAWING: "drawings-image-caption",
    },
    samples=1000,
    sizes={"width": 256, "layers": 2, "heads": 8, "feed_forward": 512, "router_width": 64},
    separate=None,
    unified=UnifiedRecipe(
        TrainingRecipe(
            steps=1000, learning_rate=1e-3, seed=71, warmup=50, probe_every=200, save_every=50
        ),
        batch_size=16,
    ),
    autocast_after=100,
)
#: By name in the zoo, a training; both see the same samples in the same order.
UNIFIED_RECIPES: Mapping[str, DrawingsUnifiedRecipe] = MappingProxyType(
    {
        f"{UNIFIED_FOLDER}/smollm2-shared": _SHARED,
        f"{UNIFIED_FOLDER}/smollm2-separate": replace(_SHARED, separate={"width": 224, "heads": 8}),
    }
)


def open_unified_samples(
    recipe: DrawingsUnifiedRecipe, modality: str, split: str, *, n: int
) -> list[Sample]:
    """Return caption samples of one modality of a recipe.

    Line drawings follow the pictures of the modality ``image`` in their split, so that no picture
    is shown in both.

    Examples
    --------
    >>> samples = open_unified_samples(recipe, "drawing", "train", n=10)  # doctest: +SKIP
    """
    name = f"{recipe.datasets[modality]}:{split}"
    if modality != LINE_DRAWING:
        return list(open_samples(name, n=n))
    return [draw_lines(sample) for sample in open_samples(name, n=2 * n)[n:]]


class StoredSamples:
    """Samples of one modality, whose encoder tokens a file keeps.

    Parameters
    ----------
    samples : sequence of Sample
        The samples.
    perception : Perception
        Its encoder reads them.
    features : Path
        Folder of the file.

    Examples
    --------
    >>> StoredSamples(samples, perception, features=Path("features"))  # doctest: +SKIP
    """

    def __init__(self, samples: Sequence[Sample], perception: Any, *, features: Path) -> None:
        self.samples = samples
        key = perception.describe_reading()
        self._store = EncoderTokenStore(features, samples, perception.tokens, key=key)

    def read_tokens(self, rows: Sequence[int]) -> Tensor:
        """Return the encoder tokens of some samples, ``(sample, position, width)``."""
        return self._store.read(rows)


def train_drawings_unified(name: str) -> Path:
    """Train one of :data:`UNIFIED_RECIPES`, unless the zoo holds it; a stopped run continues.

    Parameters
    ----------
    name : str
        Its folder in the zoo.

    Returns
    -------
    Path
        The folder, which :func:`ima.models.unified.load_unified_model` loads.

    Raises
    ------
    PartAbsentError
        If a part that is needed was not fetched.

    Examples
    --------
    >>> train_drawings_unified("onellm/smollm2-shared")  # doctest: +SKIP
    PosixPath('data/zoo/onellm/smollm2-shared')
    """
    recipe, root = UNIFIED_RECIPES[name], zoo.get_zoo_root()
    made_of = {
        modality: f"connectors/{reader.encoder}" for modality, reader in recipe.readers.items()
    }
    parts = {role: zoo.read_card(root / part)["sha256"] for role, part in made_of.items()}
    train = partial(_train, name, recipe, {"made_of": made_of, "parts": parts})
    return keep_trained_part(name, train, recipe={**asdict(recipe), "parts": parts})


def _train(
    name: str, recipe: DrawingsUnifiedRecipe, origin: Mapping[str, Any], state_path: Path
) -> tuple[dict[str, Tensor], dict[str, Any], TrainingResult]:
    """Train one connector or several; return weights, the card's own entries, and the result."""
    base = load_model(recipe.language)
    perceptions = open_perceptions(recipe.readers)
    sources = {
        split: {
            modality: StoredSamples(
                open_unified_samples(recipe, modality, split, n=n),
                perceptions[reader.encoder],
                features=get_features_folder(),
            )
            for modality, reader in recipe.readers.items()
        }
        for split, n in (
            ("train", recipe.samples),
            ("validation", max(2, recipe.samples // 50)),
        )
    }
    config = UniversalConnectorConfig(
        widths={
            modality: own.read_tokens([0]).shape[-1] for modality, own in sources["train"].items()
        },
        hidden=base.hidden,
        output_norm=measure_embedding_norm(base.language),
        **recipe.sizes,
    )
    if recipe.separate is not None:
        config = make_separate_config(config, **recipe.separate)
    training = recipe.unified.training
    model = make_unified_model(
        base, config, readers=recipe.readers, perceptions=perceptions, seed=training.seed
    )
    result = train_unified(
        model,
        **sources,
        recipe=recipe.unified,
        name=name,
        state_path=state_path,
        autocast_after=recipe.autocast_after,
    )
    # The router weights are those of the weights that are saved.
    connector = model.connector.half().float()
    entries = {
        "kind": "unified",
        "class": type(connector).__name__,
        "setup": "MT",
        "modality": "several",
        "task": "caption",
        "dataset": recipe.datasets["image"],
        "language": recipe.language,
        "readers": {key: asdict(reader) for key, reader in recipe.readers.items()},
        "command": f"ima zoo pretrained --only '{UNIFIED_FOLDER}/*'",
        **origin,
        "parameters": count_weights(connector),
        "configuration": config.model_dump(),
        "routers": list_router_weights(connector),
        "steps": training.steps,
    }
    return connector.state_dict(), entries, result
