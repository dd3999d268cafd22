"""Make the zoo: train every model, score it on the test split, and put it where it belongs.

The new zoo grows in ``data/zoo/.training``, part by part, and replaces the old one when it is
complete.
A run that was killed goes on from there: finished parts stay, and a part in the making resumes
from its last checkpoint. A part whose recipe has changed, or whose parts have, is made again.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ima.errors import ParameterError
from ima.evaluation.scores import as_record, mean_score
from ima.miniature import connectors, corpus, encoders, examination, language_model
from ima.miniature.pools import SIZES, Pool, build_pool
from ima.miniature.storage import read_json, save_weights, write_json
from ima.miniature.training import Recipe, Result
from ima.miniature.world import VERSION
from ima.models import zoo
from ima.models.zoo import CARD, WEIGHTS, sha256
from ima.samples import open_samples

logger = logging.getLogger("ima")

LANGUAGE = "llama-mini"
TOKENIZER_SEED = 1
WORKSHOP = ".training"
#: Setup of a model that is loaded by its card: a language model alone, or single task (paper §2).
SETUPS = {"language": "LM", "connector": "ST"}


@dataclass(frozen=True)
class Plan:
    """How much work goes into a zoo.

    Parameters
    ----------
    share : float
        Share of every recipe's steps and of every pool; 1 makes the published zoo.
    scored : int
        Test samples per score.
    device : str
        Where to train: ``"cpu"`` or ``"cuda"``.
    """

    share: float = 1.0
    scored: int = 300
    device: str = "cpu"

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return a recipe cut to the plan's share."""
        steps = max(4, round(recipe.steps * self.share))
        restart = recipe.restart and max(1, round(recipe.restart * self.share))
        every = min(recipe.probe_every, steps)
        return replace(recipe, steps=steps, probe_every=every, restart=restart)

    def pool(self, modality: str) -> int:
        """Return how many training samples are rendered."""
        return max(64, round(SIZES[modality] * self.share))


#: The published zoo, and one that exercises every line within a minute or two.
PUBLISHED = Plan()
REDUCED = Plan(share=0.002, scored=12)


class Workshop:
    """A zoo in the making: where its parts are, and which of them are done.

    Parameters
    ----------
    root : Path
        The zoo's folder.
    plan : Plan
        How much work goes into it.
    """

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root, self.plan = root, plan
        self.place = root / WORKSHOP

    def folder(self, part: str) -> Path:
        """Return the folder of a part, for example ``encoders/vit``."""
        return self.place / part

    def checkpoint(self, part: str) -> Path:
        """Return where a training keeps its checkpoint."""
        return self.place / "checkpoints" / f"{part.replace('/', '--')}.pt"

    def done(self, part: str, recipe: Mapping[str, Any]) -> bool:
        """Return whether a part is finished under this recipe; drop what another recipe left."""
        card = self.folder(part) / CARD
        if card.exists() and read_json(card).get("recipe") == recipe:
            return True
        shutil.rmtree(self.folder(part), ignore_errors=True)
        note = self.checkpoint(part).with_suffix(".json")
        if note.exists() and read_json(note) != recipe:
            self.checkpoint(part).unlink(missing_ok=True)
        write_json(note, recipe)
        return False

    def finish(self, part: str, card: Mapping[str, Any]) -> None:
        """Write the card, which makes the part a finished one, and drop its checkpoint."""
        write_json(self.folder(part) / CARD, card)
        self.checkpoint(part).unlink(missing_ok=True)

    def deliver(self) -> None:
        """Put the finished zoo in the place of the old one."""
        shutil.rmtree(self.place / "checkpoints", ignore_errors=True)
        for made in sorted(self.place.iterdir()):
            shutil.rmtree(self.root / made.name, ignore_errors=True)
            made.rename(self.root / made.name)
        self.place.rmdir()


def train_zoo(
    *, root: Path | None = None, reduced: bool = False, device: str | None = None
) -> Path:
    """Train every model of the zoo from nothing, or go on where a killed run stopped.

    Parameters
    ----------
    root : Path or None
        The zoo's folder; None takes ``$IMA_ZOO`` or ``data/zoo`` of the checkout. It is replaced
        when every model is trained and scored, and not before.
    reduced : bool
        Train each model for a few steps only, which tests the way but makes no useful model.
    device : str or None
        Where to train; None takes a GPU when there is one.

    Returns
    -------
    Path
        The zoo's folder.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in {"cpu", "cuda"} and not device.startswith("cuda:"):
        message = f"device must be 'cpu' or 'cuda'; got {device!r}."
        raise ParameterError(message)
    plan = replace(REDUCED if reduced else PUBLISHED, device=device)
    workshop = Workshop(zoo.root() if root is None else root, plan)
    begun = time.monotonic()
    tokenizer, language = _make_language(workshop)
    for spec in encoders.SPECS.values():
        _make_perception(workshop, spec, tokenizer=tokenizer, language=language)
    examination.score_zoo(workshop.place, n=plan.scored)
    workshop.deliver()
    logger.info("made the zoo %s in %.0f s", workshop.root, time.monotonic() - begun)
    return workshop.root


def _make_language(workshop: Workshop) -> tuple[Any, Any]:
    part = f"language/{LANGUAGE}"
    recipe = workshop.plan.recipe(language_model.RECIPE)
    record = {**asdict(recipe), "tokenizer_seed": TOKENIZER_SEED, "rows": language_model.ROWS}
    folder = workshop.folder(part)
    if not workshop.done(part, record):
        tokenizer = _make_tokenizer(folder)
        model, result = language_model.train(
            tokenizer,
            recipe=recipe,
            checkpoint=workshop.checkpoint(part),
            device=workshop.plan.device,
        )
        _save_model(model, folder)
        card = _card(LANGUAGE, "language", model, folder, recipe=record, result=result)
        card["data"] |= {
            "fingerprint": _corpus_fingerprint(recipe),
            "rows": recipe.steps * language_model.ROWS,
        }
        workshop.finish(part, card)
    return _load_language(folder)


def _make_tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = corpus.train_tokenizer(seed=TOKENIZER_SEED)
    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=corpus.PAD,
        bos_token=corpus.START,
        eos_token=corpus.END,
        padding_side="left",
    ).save_pretrained(folder)
    return tokenizer


def _load_language(folder: Path) -> tuple[Any, Any]:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.requires_grad_(requires_grad=False)
    return tokenizer, model


def _corpus_fingerprint(recipe: Recipe) -> str:
    stream = corpus.documents(recipe.seed * 1_000_003)
    texts = "\n".join(next(stream).text for _ in range(200))
    return hashlib.sha256(texts.encode()).hexdigest()


def _make_perception(
    workshop: Workshop, spec: encoders.EncoderSpec, *, tokenizer: Any, language: Any
) -> None:
    """Train one encoder and its connectors; the pool is rendered once, if anything needs it."""
    pools: dict[str, Pool] = {}

    def pool(split: str) -> Pool:
        if split not in pools:
            n = workshop.plan.pool(spec.modality) if split == "train" else 256
            pools[split] = build_pool(spec.modality, split, n=n)
        return pools[split]

    _make_encoder(workshop, spec, pool)
    encoder = _load_encoder(workshop, spec)
    encoded: dict[str, torch.Tensor] = {}

    def features(split: str) -> torch.Tensor:
        if split not in encoded:
            encoded[split] = connectors.encode_pool(
                encoder, pool(split), device=workshop.plan.device
            )
        return encoded[split]

    def data(split: str, task: str) -> tuple[torch.Tensor, connectors.Texts]:
        texts = connectors.prepare_texts(pool(split).situations, task, tokenizer)
        return features(split), texts

    for task in connectors.RECIPES[spec.modality]:
        _make_connector(workshop, spec, task, language=language, data=data)


def _make_encoder(
    workshop: Workshop, spec: encoders.EncoderSpec, pool: Callable[[str], Pool]
) -> None:
    part = f"encoders/{spec.name}"
    recipe = workshop.plan.recipe(spec.recipe)
    record = {**asdict(recipe), "pool": workshop.plan.pool(spec.modality)}
    if workshop.done(part, record):
        return
    labeller, result = encoders.train(
        spec,
        pool("train"),
        recipe=recipe,
        checkpoint=workshop.checkpoint(part),
        probe_pool=pool("validation"),
        device=workshop.plan.device,
    )
    _save_model(labeller.encoder, workshop.folder(part))
    folder = workshop.folder(part)
    card = _card(spec.name, "encoder", labeller.encoder, folder, recipe=record, result=result)
    card |= {"modality": spec.modality, "scores": _encoder_scores(labeller, spec, workshop.plan)}
    card["data"] |= _data_record(f"mini-{spec.modality}-caption", spec.modality, workshop.plan)
    workshop.finish(part, card)


def _encoder_scores(
    labeller: encoders.Labeller, spec: encoders.EncoderSpec, plan: Plan
) -> dict[str, Any]:
    test = build_pool(spec.modality, "test", n=plan.scored)
    with torch.no_grad():
        shares = encoders.accuracy_per_sample(labeller, test, "cpu")
    return {f"patch_{name}": as_record(mean_score(share)) for name, share in shares.items()}


def _load_encoder(workshop: Workshop, spec: encoders.EncoderSpec) -> Any:
    import transformers

    arguments = {"add_pooling_layer": False} if spec.model == "ViTModel" else {}
    model = getattr(transformers, spec.model).from_pretrained(
        workshop.folder(f"encoders/{spec.name}"), dtype=torch.float32, **arguments
    )
    return model.eval().requires_grad_(requires_grad=False)


Data = Callable[[str, str], tuple[torch.Tensor, connectors.Texts]]


def _make_connector(
    workshop: Workshop, spec: encoders.EncoderSpec, task: str, *, language: Any, data: Data
) -> None:
    name = f"{LANGUAGE}/{spec.name}/{spec.modality}-{task}"
    part = f"connectors/{name}"
    recipe = workshop.plan.recipe(connectors.RECIPES[spec.modality][task])
    parts = {
        "language": sha256(workshop.folder(f"language/{LANGUAGE}") / WEIGHTS),
        "encoder": sha256(workshop.folder(f"encoders/{spec.name}") / WEIGHTS),
    }
    captioning = workshop.folder(part.removesuffix("qa") + "caption") / WEIGHTS
    if task == "qa":
        parts["start"] = sha256(captioning)
    record = {**asdict(recipe), "parts": parts, "pool": workshop.plan.pool(spec.modality)}
    record["batch"] = connectors.BATCH[spec.modality]
    if workshop.done(part, record):
        return
    features, texts = data("train", task)
    before = {k: v.clone() for k, v in language.state_dict().items()}
    connector, result = connectors.train(
        language=language,
        features=features,
        texts=texts,
        recipe=recipe,
        name=name,
        checkpoint=workshop.checkpoint(part),
        batch=connectors.BATCH[spec.modality],
        start=load_file(captioning) if task == "qa" else None,
        validation=data("validation", task),
        device=workshop.plan.device,
    )
    after = language.cpu().state_dict()
    if not all(torch.equal(before[k], after[k]) for k in before):
        message = f"Training {name} changed the language model, which must stay frozen."
        raise RuntimeError(message)
    folder = workshop.folder(part)
    save_weights(connector.state_dict(), folder / WEIGHTS)
    card = _card(name, "connector", connector, folder, recipe=record, result=result)
    dataset = f"mini-{spec.modality}-{task}"
    card |= {"modality": spec.modality, "task": task, "dataset": dataset, "parts": parts}
    card["data"] |= _data_record(dataset, spec.modality, workshop.plan)
    workshop.finish(part, card)


def _data_record(dataset: str, modality: str, plan: Plan) -> dict[str, Any]:
    n = plan.pool(modality)
    return {"fingerprint": open_samples(f"{dataset}:train", n=n).fingerprint, "samples": n}


def _save_model(model: Any, folder: Path) -> None:
    """Save a model of transformers with its weights in float16, which is what everyone loads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    model.float()


def _card(
    name: str, kind: str, model: Any, folder: Path, *, recipe: Mapping[str, Any], result: Result
) -> dict[str, Any]:
    """Return what all cards hold; the caller fills in what only some have."""
    if kind == "connector":
        configuration = model.config.model_dump()
    else:
        configuration = model.config.to_diff_dict()
    return {
        "name": name,
        "kind": kind,
        "class": type(model).__name__,
        "setup": SETUPS.get(kind),
        "modality": None,
        "task": None,
        "dataset": None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "configuration": configuration,
        "seed": recipe["seed"],
        "recipe": dict(recipe),
        "data": {"generator": "ima.miniature", "version": VERSION},
        "curve": result.curve,
        "scores": {},
        "floors": {},
        "sha256": sha256(folder / WEIGHTS),
        "trained": {
            "steps": recipe["steps"],
            "seconds": round(result.seconds, 1),
            "device": result.device,
            "torch": torch.__version__,
        },
    }
