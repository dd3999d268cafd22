"""Short training runs of connectors: many models for the correlations of I1 and I2.

Nine encoders give too few points for a correlation. Here, connectors between one language model and
three image encoders are trained for a few hundred steps with different seeds, amounts of data and
widths. Their weights are not kept; :mod:`ima.studies.short_runs` keeps a summary of each cache.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch

from ima.capture.writer import create_cache
from ima.files import hash_file, write_json
from ima.miniature import connectors
from ima.miniature.cards import make_card
from ima.miniature.examination import use_zoo_root
from ima.miniature.materials import N_PROBE_SAMPLES, load_zoo_language_model
from ima.miniature.pools import SamplePool, build_pool
from ima.miniature.workshop import ZooPlan
from ima.models import zoo
from ima.models.connector import Connector
from ima.models.loading import load_encoder
from ima.training.loop import TrainingRecipe, save_weights

_SWEEP_LANGUAGE, _SWEEP_MODALITY, _SWEEP_TASK = "opt-mini", "image", "caption"
_SWEEP_DATASET = f"mini-{_SWEEP_MODALITY}-{_SWEEP_TASK}"
_RECIPE = TrainingRecipe(
    steps=400, learning_rate=1.5e-3, warmup=60, probe_every=400, save_every=400
)
#: The factors of the runs.
_SWEEP_ENCODERS, _SWEEP_SEEDS = ("vit", "clip", "mae"), (51, 52)
_SWEEP_POOL_SIZES, _SWEEP_WIDTHS = (1000, 8000), (32, 96)


@dataclass(frozen=True)
class ShortRun:
    """A connector that is trained for a few hundred steps.

    Parameters
    ----------
    encoder : str
        Encoder that the connector reads.
    seed : int
        Seed of the initial weights and of the order of samples.
    pool : int
        Number of training samples.
    width : int
        Width of the connector; its feed-forward layers are twice as wide.
    """

    encoder: str
    seed: int
    pool: int
    width: int

    @property
    def name(self) -> str:
        """Name of the run and of its file."""
        return f"{self.encoder}-{self.pool}-{self.width}-{self.seed}"


SHORT_RUNS = tuple(
    ShortRun(*chosen)
    for chosen in product(_SWEEP_ENCODERS, _SWEEP_SEEDS, _SWEEP_POOL_SIZES, _SWEEP_WIDTHS)
)


def hash_run_parts(root: Path, encoder: str) -> dict[str, str]:
    """Return the sha256 of the weights that a run with this encoder needs, by role.

    Examples
    --------
    >>> sorted(hash_run_parts(zoo.get_zoo_root(), "vit"))  # doctest: +SKIP
    ['encoder', 'language']
    """
    parts = {"language": f"language/{_SWEEP_LANGUAGE}", "encoder": f"encoders/{encoder}"}
    return {role: hash_file(root / name / zoo.WEIGHTS_FILE) for role, name in parts.items()}


class ShortRunTrainer:
    """Trains short runs; caches the images, the language model and one encoder's tokens."""

    def __init__(self, root: Path, plan: ZooPlan) -> None:
        self.root, self.plan = root, plan
        self._tokens: tuple[str, dict[str, torch.Tensor]] = ("", {})

    def recipe(self, run: ShortRun) -> dict[str, Any]:
        """Return everything that determines the result of a run."""
        recipe = self.plan.scale_recipe(replace(_RECIPE, seed=run.seed))
        return {**asdict(recipe), "pool": self._pool_size(run.pool), "width": run.width,
                "parts": hash_run_parts(self.root, run.encoder)}  # fmt: skip

    def train(self, run: ShortRun, scratch: Path) -> dict[str, Any]:
        """Train one connector into a scratch zoo that links to the parts of the real one."""
        (language, _), texts = self._language, self._texts
        tokens, size = self._tokens_of(run.encoder), self._pool_size(run.pool)
        recipe = self.plan.scale_recipe(replace(_RECIPE, seed=run.seed))
        width, hidden = tokens["train"].shape[-1], language.config.hidden_size
        sizes = connectors.make_connector_config(width, hidden=hidden)
        sizes = sizes.model_copy(update={"width": run.width, "feed_forward": 2 * run.width})
        connector = Connector(sizes, seed=run.seed)
        result = connectors.train_connector_on_features(
            connector,
            language=language,
            features=tokens["train"][:size],
            texts=texts["train"].select_first(size),
            recipe=recipe,
            name=run.name,
            state_path=scratch / "checkpoint.pt",
            batch=connectors.CONNECTOR_BATCH_SIZES[_SWEEP_MODALITY],
            validation=(tokens["validation"], texts["validation"]),
            device=self.plan.device,
        )
        name = f"{_SWEEP_LANGUAGE}/{run.encoder}/{_SWEEP_MODALITY}-{_SWEEP_TASK}"
        folder = scratch / "connectors" / name
        save_weights(connector.state_dict(), folder / zoo.WEIGHTS_FILE)
        record = self.recipe(run)
        card = make_card(name, "connector", connector, folder, recipe=record, result=result)
        card |= {"modality": _SWEEP_MODALITY, "task": _SWEEP_TASK, "dataset": _SWEEP_DATASET}
        card["parts"] = record["parts"]
        write_json(folder / zoo.CARD_FILE, card)
        for part in ("language", "encoders"):
            (scratch / part).symlink_to((self.root / part).resolve(), target_is_directory=True)
        return {"trained": card["trained"], "curve": card["curve"]}

    def _pool_size(self, published: int) -> int:
        return max(64, round(published * self.plan.ratio))

    @cached_property
    def _language(self) -> tuple[Any, Any]:
        return load_zoo_language_model(self.root / "language" / _SWEEP_LANGUAGE)

    @cached_property
    def _pools(self) -> dict[str, SamplePool]:
        most = self._pool_size(max(_SWEEP_POOL_SIZES))
        sizes = {"train": most, "validation": min(N_PROBE_SAMPLES, most)}
        return {split: build_pool(_SWEEP_MODALITY, split, n=n) for split, n in sizes.items()}

    @cached_property
    def _texts(self) -> dict[str, connectors.TokenizedTurns]:
        """The tokenised texts of each split; making them takes as long as a run."""
        return {
            split: connectors.tokenize_turns(pool.situations, _SWEEP_TASK, self._language[1])
            for split, pool in self._pools.items()
        }

    def _tokens_of(self, encoder: str) -> dict[str, torch.Tensor]:
        if self._tokens[0] != encoder:
            model, device = load_encoder(self.root / "encoders" / encoder), self.plan.device
            pools = self._pools.items()
            tokens = {split: connectors.encode_pool(model, p, device=device) for split, p in pools}
            self._tokens = (encoder, tokens)
        return self._tokens[1]


def cache_short_run(scratch: Path, *, samples: int) -> Path:
    """Cache the states and predictions of the one model of a scratch zoo on its test samples.

    Examples
    --------
    >>> cache_short_run(scratch, samples=300).name  # doctest: +SKIP
    'cache.zarr'
    """
    (folder,) = (scratch / "connectors").glob("*/*/*")
    name = str(folder.relative_to(scratch / "connectors"))
    with use_zoo_root(scratch):
        create_cache(
            name,
            dataset=_SWEEP_DATASET,
            path=scratch / "cache.zarr",
            samples=samples,
            hook_points=["resid_post"],
            predict=True,
            progress=False,
        )
    return scratch / "cache.zarr"
