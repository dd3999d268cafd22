"""Short runs of connectors: many models that differ in one thing each, to correlate over (I1, I2).

Nine encoders are few points. Connectors between one language model and three encoders of pictures
are trained for a few hundred steps with different seeds, amounts of data and widths. Their weights
are not kept: what a cache of each says (:class:`ima.measures.candidates.Candidate`) is.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from ima.errors import ModelError
from ima.measures.candidates import Candidate, read_candidate
from ima.miniature import connectors
from ima.miniature.cards import card_of
from ima.miniature.examination import zoo_at
from ima.miniature.materials import WATCHED, load_language
from ima.miniature.pools import Pool, build_pool
from ima.miniature.storage import read_json, replace_file, save_weights, write_json
from ima.miniature.training import Recipe
from ima.miniature.workshop import PUBLISHED, Plan
from ima.models import zoo
from ima.models.connector import Connector
from ima.models.loading import load_encoder

logger = logging.getLogger("ima")

FOLDER = "sweep"
LANGUAGE, MODALITY, TASK = "opt-mini", "image", "caption"
DATASET = f"mini-{MODALITY}-{TASK}"
_RECIPE = Recipe(steps=400, learning_rate=1.5e-3, warmup=60, probe_every=400, save_every=400)
#: What the runs differ in.
ENCODERS, SEEDS, POOLS, WIDTHS = ("vit", "clip", "mae"), (51, 52), (1000, 8000), (32, 96)


@dataclass(frozen=True)
class ShortRun:
    """A connector that is trained for a few hundred steps.

    Parameters
    ----------
    encoder : str
        What it connects to the language model.
    seed : int
        Of its initial weights and of the order of samples.
    pool : int
        Training samples.
    width : int
        Of the connector; its feed-forward layers are twice as wide.
    """

    encoder: str
    seed: int
    pool: int
    width: int

    @property
    def name(self) -> str:
        """Name of the run, of its file too."""
        return f"{self.encoder}-{self.pool}-{self.width}-{self.seed}"


RUNS = tuple(ShortRun(*chosen) for chosen in product(ENCODERS, SEEDS, POOLS, WIDTHS))


def train_runs(
    *,
    root: Path | None = None,
    runs: Sequence[ShortRun] = RUNS,
    plan: Plan = PUBLISHED,
    samples: int = 200,
    resamples: int = 200,
) -> Path:
    """Train each run and write down what a cache of it says; finished runs are left as they are.

    Parameters
    ----------
    root : Path or None
        A finished zoo; None takes ``$IMA_ZOO`` or ``data/zoo`` of the checkout. The summaries go
        into its folder ``sweep``.
    runs : sequence of ShortRun
        Which.
    plan : Plan
        How much work goes into each, and where.
    samples : int
        Test samples that each reads.
    resamples : int
        Bootstrap resamples of samples that are kept of each number.

    Returns
    -------
    Path
        The folder of the summaries.
    """
    root = zoo.root() if root is None else root
    folder = root / FOLDER
    shop = _Shop(root, plan)
    for run in runs:
        path = folder / f"{run.name}.json"
        recipe = shop.recipe(run)
        settings = {"samples": samples, "resamples": resamples}
        if path.exists() and read_json(path)["recipe"] == {**recipe, **settings}:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            result = shop.train(run, Path(scratch))
            cached = _cache(Path(scratch), samples=samples)
            found = read_candidate(cached, resamples=resamples).record()
        summary = {"run": asdict(run), "recipe": {**recipe, **settings}, **result, **found}
        with replace_file(path) as partial:
            # Thousands of draws: no line each.
            partial.write_text(json.dumps(summary) + "\n", encoding="utf-8")
        logger.info("%s: %s", run.name, {k: round(v[0], 3) for k, v in found["scores"].items()})
    return folder


def read_runs(root: Path | None = None) -> dict[str, Candidate]:
    """Read the summaries of the short runs, by name.

    Parameters
    ----------
    root : Path or None
        The zoo; None takes ``$IMA_ZOO`` or ``data/zoo`` of the checkout.

    Raises
    ------
    ModelError
        If a summary is of other weights of language model or encoder than the zoo holds.
    """
    root = zoo.root() if root is None else root
    found = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        record = read_json(path)
        parts = parts_of(root, record["run"]["encoder"])
        if record["recipe"]["parts"] != parts:
            message = (
                f"{path} was made with another language model or encoder than {root} holds. Make "
                "it again: ima zoo sweep"
            )
            raise ModelError(message)
        found[path.stem] = Candidate.of_record(record, path=str(path))
    return found


def parts_of(root: Path, encoder: str) -> dict[str, str]:
    """Return the sha256 of the weights that a run with this encoder needs, by role."""
    named = {"language": f"language/{LANGUAGE}", "encoder": f"encoders/{encoder}"}
    return {role: zoo.sha256(root / name / zoo.WEIGHTS) for role, name in named.items()}


class _Shop:
    """What the runs share: rendered pictures, the language model, the last encoder's tokens."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root, self.plan = root, plan
        self._pools: dict[str, Pool] = {}
        self._texts: dict[str, connectors.Texts] = {}
        self._tokens: tuple[str, dict[str, torch.Tensor]] = ("", {})
        self._language: tuple[Any, Any] | None = None

    def recipe(self, run: ShortRun) -> dict[str, Any]:
        recipe = self.plan.recipe(replace(_RECIPE, seed=run.seed))
        return {**asdict(recipe), "pool": self._pool_size(run), "width": run.width,
                "parts": parts_of(self.root, run.encoder)}  # fmt: skip

    def train(self, run: ShortRun, scratch: Path) -> dict[str, Any]:
        """Train one connector into a zoo of its own, with the parts of the real one."""
        if self._language is None:
            self._language = load_language(self.root / "language" / LANGUAGE)
        language, tokenizer = self._language
        tokens = self._tokens_of(run.encoder)
        size = self._pool_size(run)
        texts = {split: self._texts_of(split, tokenizer) for split in ("train", "validation")}
        recipe = self.plan.recipe(replace(_RECIPE, seed=run.seed))
        sizes = connectors.config_for(
            tokens["train"].shape[-1], hidden=language.config.hidden_size
        ).model_copy(update={"width": run.width, "feed_forward": 2 * run.width})
        connector = Connector(sizes, seed=run.seed)
        result = connectors.train(
            connector,
            language=language,
            features=tokens["train"][:size],
            texts=texts["train"].first(size),
            recipe=recipe,
            name=run.name,
            checkpoint=scratch / "checkpoint.pt",
            batch=connectors.BATCH[MODALITY],
            validation=(tokens["validation"], texts["validation"]),
            device=self.plan.device,
        )
        name = f"{LANGUAGE}/{run.encoder}/{MODALITY}-{TASK}"
        folder = scratch / "connectors" / name
        save_weights(connector.state_dict(), folder / zoo.WEIGHTS)
        record = self.recipe(run)
        card = card_of(name, "connector", connector, folder, recipe=record, result=result)
        card |= {"modality": MODALITY, "task": TASK, "dataset": DATASET, "parts": record["parts"]}
        write_json(folder / zoo.CARD, card)
        for part in ("language", "encoders"):
            (scratch / part).symlink_to((self.root / part).resolve(), target_is_directory=True)
        return {"trained": card["trained"], "curve": card["curve"]}

    def _texts_of(self, split: str, tokenizer: Any) -> connectors.Texts:
        """Tell what is in all pictures of a split, once: that takes as long as a run does."""
        if split not in self._texts:
            situations = self._pool(split).situations
            self._texts[split] = connectors.prepare_texts(situations, TASK, tokenizer)
        return self._texts[split]

    def _pool_size(self, run: ShortRun) -> int:
        return max(64, round(run.pool * self.plan.share))

    def _pool(self, split: str) -> Pool:
        if split not in self._pools:
            most = max(64, round(max(POOLS) * self.plan.share))
            n = most if split == "train" else min(WATCHED, most)
            self._pools[split] = build_pool(MODALITY, split, n=n)
        return self._pools[split]

    def _tokens_of(self, encoder: str) -> dict[str, torch.Tensor]:
        if self._tokens[0] != encoder:
            model = load_encoder(self.root / "encoders" / encoder)
            self._tokens = (
                encoder,
                {
                    split: connectors.encode_pool(model, self._pool(split), device=self.plan.device)
                    for split in ("train", "validation")
                },
            )
        return self._tokens[1]


def _cache(scratch: Path, *, samples: int) -> Path:
    from ima.cache.writer import create

    (folder,) = (scratch / "connectors").glob("*/*/*")
    name = str(folder.relative_to(scratch / "connectors"))
    with zoo_at(scratch):
        create(
            name,
            dataset=DATASET,
            path=scratch / "cache.zarr",
            samples=samples,
            taps=["resid_post"],
            predict=True,
            progress=False,
        )
    return scratch / "cache.zarr"
