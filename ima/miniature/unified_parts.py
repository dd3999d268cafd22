"""Train one connector for six modalities, and separate ones of equal size, for the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from ima.data.samples import SampleSet
from ima.miniature.cards import make_card
from ima.miniature.examination import use_zoo_root
from ima.miniature.materials import TrainingMaterials
from ima.miniature.views import MODALITY_NAMES, open_scene_samples
from ima.miniature.workshop import ZooPart
from ima.models import load_model
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
from ima.models.zoo import WEIGHTS_FILE, combine_hashes, hash_state_dict
from ima.training.frozen_language import measure_embedding_norm
from ima.training.loop import TrainingRecipe, save_weights
from ima.training.unified import (
    EncodedSamples,
    UnifiedRecipe,
    make_separate_config,
    train_unified,
)

UNIFIED_LANGUAGE = "llama-mini"
_PICTURES = ModalityReader("image", "encoders/vit")
#: By modality, how it is read; views are read by the encoder of images. Images come first.
READERS: Mapping[str, ModalityReader] = MappingProxyType(
    dict.fromkeys(MODALITY_NAMES, _PICTURES)
    | {
        "video": ModalityReader("video", "encoders/timesformer", frames=8),
        "audio": ModalityReader("audio", "encoders/ast"),
    }
)
_NEEDS = {"language": f"language/{UNIFIED_LANGUAGE}"} | {
    reader.encoder.removeprefix("encoders/"): reader.encoder for reader in READERS.values()
}
#: Training samples of each modality at full size and at least, and validation samples.
_POOL_SIZE, _LEAST_POOL_SIZE, _N_VALIDATION = 3000, 48, 64
#: Where a modality's scenes begin, in pools: no scene is shown in two modalities in training.
_PLACES: Mapping[str, int] = MappingProxyType({"depth": 1, "drawing": 2, "motion": 1})
#: Hidden size and attention heads of the separate connectors.
_SEPARATE_SIZES = MappingProxyType({"width": 48, "heads": 4})
_RECIPE = UnifiedRecipe(
    TrainingRecipe(steps=2000, learning_rate=1.5e-3, seed=71, warmup=60, probe_every=400),
    batch_size=16,
)


@dataclass(frozen=True)
class UnifiedArm:
    """One of the trainings that are compared.

    Parameters
    ----------
    name : str
        Folder of the zoo under ``onellm``.
    shares_experts : bool
        Whether modalities share experts, or each has a connector of its own.
    """

    name: str
    shares_experts: bool


#: Both have equally many weights and see the same samples in the same order.
UNIFIED_ARMS = (UnifiedArm("shared", True), UnifiedArm("separate", False))


def make_arm_config(
    arm: UnifiedArm, *, widths: Mapping[str, int], hidden: int, output_norm: float
) -> UniversalConnectorConfig:
    """Return the sizes of an arm's connector.

    Parameters
    ----------
    arm : UnifiedArm
        The arm.
    widths : mapping of str to int
        By modality, the hidden size of its encoder.
    hidden : int
        Hidden size of the language model.
    output_norm : float
        L2 norm at which perceptual tokens start.

    Examples
    --------
    >>> sizes = {"widths": {"image": 128, "audio": 128}, "hidden": 64, "output_norm": 1.0}
    >>> [make_arm_config(arm, **sizes).experts for arm in UNIFIED_ARMS]
    [3, 0]
    """
    shared = UniversalConnectorConfig(widths=dict(widths), hidden=hidden, output_norm=output_norm)
    return shared if arm.shares_experts else make_separate_config(shared, **_SEPARATE_SIZES)


def make_unified_parts(materials: TrainingMaterials) -> list[ZooPart]:
    """Return the parts of the zoo that this module trains: shared experts, and the control.

    Examples
    --------
    >>> [part.name for part in make_unified_parts(materials)]  # doctest: +SKIP
    ['onellm/shared', 'onellm/separate']
    """
    plan, parts = materials.workshop.plan, []
    pool = max(_LEAST_POOL_SIZE, round(_POOL_SIZE * plan.ratio))

    @cache
    def open_sources(split: str) -> dict[str, EncodedSamples]:
        n = pool if split == "train" else _N_VALIDATION
        with use_zoo_root(materials.workshop.place):
            perceptions = open_perceptions(READERS, device=plan.device)
        return {
            name: EncodedSamples(
                open_scene_samples(name, split, n=n, start=_PLACES.get(name, 0) * n),
                perceptions[reader.encoder],
                name=f"{name} {split}",
            )
            for name, reader in READERS.items()
        }

    recipe = UnifiedRecipe(
        plan.scale_recipe(_RECIPE.training),
        first_ratio=_RECIPE.first_ratio,
        batch_size=_RECIPE.batch_size,
    )
    for arm in UNIFIED_ARMS:
        settings = asdict(recipe)
        record = {
            **settings.pop("training"),
            **settings,
            "pool": pool,
            "shared": arm.shares_experts,
            "readers": {name: asdict(reader) for name, reader in READERS.items()},
        }
        make = partial(_make, materials, arm, recipe, open_sources)
        parts.append(ZooPart(f"{UNIFIED_FOLDER}/{arm.name}", record, make, needs=_NEEDS))
    return parts


def _make(
    materials: TrainingMaterials,
    arm: UnifiedArm,
    recipe: UnifiedRecipe,
    open_sources: Callable[[str], dict[str, EncodedSamples]],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"{UNIFIED_FOLDER}/{arm.name}"
    with use_zoo_root(workshop.place):
        base = load_model(UNIFIED_LANGUAGE, device=workshop.plan.device)
        perceptions = open_perceptions(READERS, device=workshop.plan.device)
    train, validation = open_sources("train"), open_sources("validation")
    config = make_arm_config(
        arm,
        widths={name: own.read_tokens([0]).shape[-1] for name, own in validation.items()},
        hidden=base.hidden,
        output_norm=measure_embedding_norm(base.language),
    )
    model = make_unified_model(
        base, config, readers=READERS, perceptions=perceptions, seed=recipe.training.seed
    )
    result = train_unified(
        model,
        train=train,
        validation=validation,
        recipe=recipe,
        name=part,
        state_path=workshop.get_checkpoint_path(part),
    )
    folder = workshop.get_part_folder(part)
    save_weights(model.connector.state_dict(), folder / WEIGHTS_FILE)
    # The digest and the router weights are those of the weights that were saved.
    connector = model.connector.half().float()
    language, _ = materials.get_language_model(UNIFIED_LANGUAGE)
    card = make_card(arm.name, "connector", connector, folder, recipe=record, result=result)
    fingerprints = {
        name: SampleSet(f"mini-{name}-caption", "train", tuple(source.samples)).fingerprint
        for name, source in train.items()
    }
    samples = record["pool"] * len(train)
    card["data"] |= {"fingerprint": combine_hashes(fingerprints), "samples": samples}
    return card | {
        "kind": "unified",
        "setup": "MT",
        "modality": "several",
        "task": "caption",
        "dataset": "mini-image-caption",
        "language": UNIFIED_LANGUAGE,
        "readers": record["readers"],
        "command": f"ima zoo train --keep --only '{UNIFIED_FOLDER}/*'",
        "parameters": count_weights(connector),
        "parts": record["parts"],
        "made_of": _NEEDS,
        "language_state": hash_state_dict(language.state_dict()),
        "routers": list_router_weights(connector),
    }
