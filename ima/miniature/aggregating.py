"""Train the map of AIM: from states of a demonstration's words to rows of a prompt (I3)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ima.files import read_json
from ima.miniature import corpus, episodes, multitask, speech
from ima.miniature.answers import (
    compute_answer_accuracy,
    compute_answer_logits,
    compute_weighted_token_loss,
    pad_token_rows,
)
from ima.miniature.cards import load_trained_weights, make_card, make_data_record
from ima.miniature.materials import TrainingMaterials
from ima.miniature.workshop import ZooPart
from ima.models import llava
from ima.models.hook_point_search import find_hook_points
from ima.models.hook_points import stop_after
from ima.models.zoo import CARD_FILE, WEIGHTS_FILE, hash_state_dict
from ima.training.frozen_language import keep_language_frozen
from ima.training.loop import TrainingRecipe, fit_model, save_weights

_MODEL_NAME = "llava-mini-3"
_PART_NAME = f"aggregation/{_MODEL_NAME}"
_N_SHOTS, _BATCH_SIZE = 3, 24
#: Layer whose states are read: the middle one. The authors use a layer of their own model.
_READ_LAYER = 6
#: Questions per training row: about demonstrations, and about the image after them.
_TURNS_PER_ROW = (5, 2)
_RECIPE = TrainingRecipe(steps=1500, learning_rate=2e-3, seed=51, warmup=60, probe_every=100)


@dataclass(frozen=True, eq=False)
class _Images:
    """Images of a split as the frozen models read them.

    Parameters
    ----------
    features : Tensor
        Tokens of the encoder, ``(image, patch, width)``.
    entities : list
        The objects in each image.
    single_object_images : list of int
        Indices of images of one object.
    states : Tensor
        States of the text of images of one object, ``(image, token, hidden)``.
    """

    features: torch.Tensor
    entities: list[Any]
    single_object_images: list[int]
    states: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Rows:
    """Training rows: states of demonstrations, the image after them, and turns."""

    states: torch.Tensor
    features: torch.Tensor
    ids: torch.Tensor
    weights: torch.Tensor


def make_aggregation_part(materials: TrainingMaterials) -> ZooPart:
    """Return the part of the zoo that this module trains: AIM's projection.

    Examples
    --------
    >>> make_aggregation_part(materials).name  # doctest: +SKIP
    'aggregation/llava-mini-3'
    """
    plan = materials.workshop.plan
    recipe = plan.scale_recipe(_RECIPE)
    record = {
        **asdict(recipe),
        "pool": plan.get_pool_size(multitask.MULTITASK_MODALITY),
        "batch": _BATCH_SIZE,
        "shots": _N_SHOTS,
        "depth": _READ_LAYER,
        "turns": list(_TURNS_PER_ROW),
    }
    needs = multitask.FROZEN_PARTS | {"base": f"multitask/{_MODEL_NAME}"}
    return ZooPart(_PART_NAME, record, partial(_make, materials, recipe), needs=needs)


def _make(
    materials: TrainingMaterials, recipe: TrainingRecipe, record: Mapping[str, Any]
) -> dict[str, Any]:
    workshop = materials.workshop
    language, tokenizer = materials.get_language_model(multitask.MULTITASK_LANGUAGE)
    trainer = _Trainer(materials, language, tokenizer, recipe)
    projection = trainer.projection
    with keep_language_frozen(language, name="aggregation"):
        result = fit_model(
            projection,
            trainer.loss,
            recipe,
            name="aggregation",
            state_path=workshop.get_checkpoint_path(_PART_NAME),
            probe=trainer.probe,
        )
    language.cpu()
    projection.cpu().eval()
    folder = workshop.get_part_folder(_PART_NAME)
    save_weights(projection.state_dict(), folder / WEIGHTS_FILE)
    card = make_card(_MODEL_NAME, "aggregation", projection, folder, recipe=record, result=result)
    dataset = f"mini-{multitask.MULTITASK_MODALITY}-caption"
    card["data"] |= make_data_record(dataset, n=record["pool"])
    return card | {
        "setup": "MT",
        "modality": multitask.MULTITASK_MODALITY,
        "task": "qa",
        "dataset": dataset,
        "model": _MODEL_NAME,
        "depth": _READ_LAYER,
        "parts": dict(record["parts"]),
        "made_of": multitask.FROZEN_PARTS,
        "language_state": hash_state_dict(language.state_dict()),
    }


class _Trainer:
    """The frozen models, their images, and the projection that is trained."""

    def __init__(
        self, materials: TrainingMaterials, language: Any, tokenizer: Any, recipe: TrainingRecipe
    ) -> None:
        self.device, self.recipe = materials.workshop.plan.device, recipe
        self.language = language.to(self.device).eval().requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self.hook_points = find_hook_points(language)
        folder = materials.workshop.get_part_folder(f"multitask/{_MODEL_NAME}")
        config = llava.ProjectorConfig(**read_json(folder / CARD_FILE)["projector"])
        encoder = materials.load_encoder(multitask.MULTITASK_ENCODER)
        self.projector = llava.build_projector(config, encoder=encoder, language=language)
        self.projector.load_state_dict(load_trained_weights(folder))
        self.projector.to(self.device).eval().requires_grad_(requires_grad=False)
        hidden = language.config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.projection = nn.Linear(hidden, hidden).to(self.device)
        self.train, self.watched = (
            self._read_images(materials, split) for split in ("train", "validation")
        )
        # Every probe measures the same rows.
        self.fixed = self._rows(self.watched, np.random.default_rng(recipe.seed), 96, own=0)

    def loss(self, step: int) -> torch.Tensor:
        """Return the loss of the answers in the rows of one step."""
        rng = np.random.default_rng([self.recipe.seed, step])
        rows = self._rows(self.train, rng, _BATCH_SIZE, own=_TURNS_PER_ROW[1])
        return compute_weighted_token_loss(self._logits(rows), rows.ids, rows.weights)

    def probe(self) -> dict[str, float]:
        """Return the fraction of answers about demonstrations that are entirely right."""
        batches = [
            _Rows(*(value[start : start + _BATCH_SIZE] for value in vars(self.fixed).values()))
            for start in range(0, len(self.fixed.ids), _BATCH_SIZE)
        ]
        return {
            "validation": compute_answer_accuracy(
                (self._logits(rows), rows.ids, rows.weights.cpu().numpy()) for rows in batches
            )
        }

    def _logits(self, rows: _Rows) -> torch.Tensor:
        demonstrations = self.projection(rows.states).flatten(1, 2)
        prefix = torch.cat([demonstrations, self.projector(rows.features)], dim=1)
        return compute_answer_logits(self.language, prefix, rows.ids)

    def _rows(self, images: _Images, rng: np.random.Generator, count: int, *, own: int) -> _Rows:
        """Draw episodes with ``own`` questions each about the image after the demonstrations."""
        place = {at: row for row, at in enumerate(images.single_object_images)}
        queries, shown, encoded = [], [], []
        for _ in range(count):
            entities, alone = images.entities, images.single_object_images
            query, chosen = episodes.draw_episode(entities, alone, shots=_N_SHOTS, rng=rng)
            by_image = [episodes.make_attribute_questions(entities[at], rng) for at in chosen]
            questions = list(itertools.chain(*by_image))
            turns = [questions[at] for at in rng.permutation(len(questions))[: _TURNS_PER_ROW[0]]]
            turns += speech.make_questions(multitask.MULTITASK_MODALITY, entities[query], rng)[:own]
            asked = [(turns[at].prompt, turns[at].answer) for at in rng.permutation(len(turns))]
            encoded.append(corpus.encode_turns(asked, self.tokenizer))
            queries.append(query)
            shown.append([place[at] for at in chosen])
        ids, weights = pad_token_rows(encoded)
        return _Rows(
            images.states[torch.tensor(shown)].to(self.device),
            images.features[queries].float().to(self.device),
            torch.from_numpy(ids).to(self.device),
            torch.from_numpy(weights).to(self.device),
        )

    def _read_images(self, materials: TrainingMaterials, split: str) -> _Images:
        pool = materials.get_pool(multitask.MULTITASK_MODALITY, split)
        features = multitask.read_image_tokens(materials, split)
        entities = [one.get_entities() for one in pool.situations]
        alone = [at for at, shown in enumerate(entities) if len(shown) == 1]
        states = self._states(features[alone], [entities[at][0].noun for at in alone])
        return _Images(features, entities, alone, states)

    @torch.no_grad()
    def _states(self, features: torch.Tensor, nouns: list[str]) -> torch.Tensor:
        texts = [episodes.write_demonstration(noun) for noun in nouns]
        encoded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = torch.tensor([one.ids for one in encoded])
        states = []
        for start in range(0, len(ids), 64):
            part = slice(start, start + 64)
            words = self.language.get_input_embeddings()(ids[part].to(self.device))
            seen = self.projector(features[part].float().to(self.device))
            embeds = torch.cat([seen, words], dim=1)
            with stop_after(self.hook_points.blocks[_READ_LAYER - 1]) as reached:
                self.hook_points.trunk(inputs_embeds=embeds, use_cache=False)
            states.append(reached[0][:, seen.shape[1] :].cpu())
        return torch.cat(states)
