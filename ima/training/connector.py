"""The training loop: a connector learns, everything else is frozen; it resumes where it stopped."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ima.data.samples import Sample, SampleSet, open_samples
from ima.errors import ModelError, ParameterError
from ima.models import zoo
from ima.models.answer_loss import compute_answer_loss
from ima.models.connector import Connector, ConnectorConfig
from ima.models.folders import MODEL_DTYPES, LoadOptions
from ima.models.frozen import FrozenModel
from ima.models.single import SINGLE_TASK_KIND, load_single_task_parts
from ima.progress import bar
from ima.training.settings import TrainingSettings

logger = logging.getLogger("ima")
_STATE_FILE = "training.pt"


def train_connector(settings: TrainingSettings) -> str:
    """Train a connector; see :func:`ima.training.train_connector`."""
    from accelerate import Accelerator

    out = Path(settings.out)
    _begin(out, settings)
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[settings.precision]
    accelerator = Accelerator(
        mixed_precision=mixed,
        gradient_accumulation_steps=settings.accumulation,
        cpu=settings.device == "cpu",
    )
    model = _model(settings, device=str(accelerator.device))
    frozen = zoo.hash_state_dict(model.language.state_dict())
    run = _Run(settings, model, accelerator)
    run.go_on(out)
    accelerator.wait_for_everyone()
    if zoo.hash_state_dict(model.language.state_dict()) != frozen:
        message = "Training changed the language model, which must stay frozen."
        raise ModelError(message)
    if accelerator.is_main_process:
        run.finish(out, language_state=frozen)
    accelerator.wait_for_everyone()
    return str(out)


class _Run:
    """A training under way: the connector, its optimizer, and the order of samples."""

    def __init__(self, settings: TrainingSettings, model: FrozenModel, accelerator: Any) -> None:
        self.settings, self.model, self.accelerator = settings, model, accelerator
        self.data = _split(settings.data, "train", settings.samples)
        self.validation = _split(settings.data, "validation", 64)
        assert model.perception is not None
        connector = model.perception.connector.float().train().requires_grad_()
        optimizer = torch.optim.AdamW(
            connector.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.connector, self.optimizer = accelerator.prepare(connector, optimizer)
        share = settings.batch_size * settings.accumulation * accelerator.num_processes
        self.steps = settings.epochs * max(1, len(self.data) // share)
        self.share, self.begun = share, 0
        self.curve: list[dict[str, Any]] = []

    @property
    def milestones(self) -> set[int]:
        """Numbers of finished steps after which weights are kept."""
        parts = self.settings.checkpoints + 1
        return {round(self.steps * part / parts) for part in range(1, parts)} - {0, self.steps}

    def go_on(self, out: Path) -> None:
        """Train from the last state to the last step."""
        self._resume(out)
        before = time.monotonic()
        losses: list[float] = []
        show = self.accelerator.is_main_process
        with bar(
            total=self.steps, what="training", unit="step", initial=self.begun, show=show
        ) as shown:
            for step in range(self.begun, self.steps):
                losses.append(self._step(step))
                shown.update(1)
                self._after(step + 1, losses, out=out, seconds=time.monotonic() - before)

    def _step(self, step: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        total: float = 0.0
        for samples in self._batches(step):
            with self.accelerator.accumulate(self.connector):
                loss = self.loss(samples)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.connector.parameters(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += float(loss.detach()) / self.settings.accumulation
        return total

    def _rate(self, step: int) -> float:
        peak, warmup = self.settings.learning_rate, min(self.settings.warmup, self.steps // 2)
        if step < warmup:
            return float(peak * (step + 1) / warmup)
        share = (step - warmup) / (self.steps - warmup)
        return float(peak * 0.5 * (1 + math.cos(math.pi * share)))

    def _batches(self, step: int) -> Iterator[list[Sample]]:
        """Yield this process's parts of a step's samples; a seed and the step decide which."""
        per_epoch = max(1, len(self.data) // self.share)
        epoch, at = divmod(step, per_epoch)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.data))
        chosen = order[at * self.share : (at + 1) * self.share]
        own = chosen[self.accelerator.process_index :: self.accelerator.num_processes]
        for part in np.array_split(own, self.settings.accumulation):
            if len(part):
                yield [self.data[int(index)] for index in part]

    def loss(self, samples: Sequence[Sample]) -> Tensor:
        """Return the next-token loss, mean over an answer's tokens and over samples, in nats."""
        with self.accelerator.autocast():
            return compute_answer_loss(self.model, samples, connector=self.connector)

    @torch.no_grad()
    def _validate(self) -> float | None:
        if not self.validation:
            return None
        self.connector.eval()
        size = self.settings.batch_size
        parts = [self.validation[at : at + size] for at in range(0, len(self.validation), size)]
        losses = [float(self.loss(list(part))) * len(part) for part in parts]
        self.connector.train()
        return sum(losses) / len(self.validation)

    def _after(self, done: int, losses: list[float], *, out: Path, seconds: float) -> None:
        main = self.accelerator.is_main_process
        if done % self.settings.save_every == 0 or done == self.steps or done in self.milestones:
            entry: dict[str, Any] = {"step": done, "loss": round(float(np.mean(losses)), 5)}
            found = self._validate()
            entry |= {} if found is None else {"validation": round(found, 5)}
            self.curve.append(entry)
            losses.clear()
            left = seconds / (done - self.begun) * (self.steps - done)
            if main:
                told = " ".join(f"{key} {value}" for key, value in entry.items() if key != "step")
                logger.info("%s %d/%d %s (%.0f s left)", out, done, self.steps, told, left)
        if main and done in self.milestones:
            _save(self._weights(), zoo.make_checkpoint_path(out, done))
        if main and done % self.settings.save_every == 0 and done < self.steps:
            state = {
                "connector": self.accelerator.unwrap_model(self.connector).state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": done,
                "curve": self.curve,
            }
            partial = out / f".{_STATE_FILE}"
            torch.save(state, partial)
            partial.replace(out / _STATE_FILE)

    def _resume(self, out: Path) -> None:
        if (out / _STATE_FILE).is_file():
            state = torch.load(out / _STATE_FILE, weights_only=True, map_location="cpu")
            self.accelerator.unwrap_model(self.connector).load_state_dict(state["connector"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.begun, self.curve = state["step"], state["curve"]
            logger.info("%s goes on at step %d of %d", out, self.begun, self.steps)

    def _weights(self) -> dict[str, Tensor]:
        state = self.accelerator.unwrap_model(self.connector).state_dict()
        return {name: value.float().contiguous().cpu() for name, value in state.items()}

    def finish(self, out: Path, *, language_state: str) -> None:
        """Write the weights and the card that make the folder a model."""
        _save(self._weights(), out / zoo.WEIGHTS_FILE)
        assert self.model.perception is not None
        first = self.data[0]
        kept = [
            {"step": step, "sha256": zoo.hash_file(zoo.make_checkpoint_path(out, step))}
            for step in sorted(self.milestones)
        ]
        config = self.accelerator.unwrap_model(self.connector).config
        card = {
            "kind": SINGLE_TASK_KIND,
            "setup": "ST",
            "name": out.name,
            "modality": self.model.perception.modality,
            "task": first.task,
            "dataset": self.settings.data,
            "made_of": {"language": self.settings.language, "encoder": self.settings.encoder},
            "configuration": config.model_dump(),
            "parameters": sum(p.numel() for p in self.connector.parameters()),
            "recipe": self.settings.model_dump(),
            "data": {"fingerprint": self.data.fingerprint, "samples": len(self.data)},
            "curve": self.curve,
            "language_state": language_state,
            "sha256": zoo.hash_file(out / zoo.WEIGHTS_FILE),
            "checkpoints": [{"step": 0, "seed": self.settings.seed}, *kept],
        }
        (out / zoo.CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        (out / _STATE_FILE).unlink(missing_ok=True)


def _begin(out: Path, settings: TrainingSettings) -> None:
    """Make the folder, or check that what is in it is this training."""
    path = out / "training.json"
    asked = settings.model_dump_json(indent=1, exclude={"out", "device"})
    if (out / zoo.CARD_FILE).is_file():
        message = f"{out} is trained. Give another --out, or remove it."
        raise ParameterError(message)
    if path.is_file() and path.read_text(encoding="utf-8") != asked:
        message = f"{out} holds a training of other settings ({path}). Give another --out."
        raise ParameterError(message)
    if out.is_dir() and any(out.iterdir()) and not path.is_file():
        message = f"{out} exists and is no training. Give another --out."
        raise ParameterError(message)
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(asked, encoding="utf-8")


def _model(settings: TrainingSettings, *, device: str) -> FrozenModel:
    made_of = {"language": settings.language, "encoder": settings.encoder}
    loading = LoadOptions(torch.device(device), MODEL_DTYPES[settings.precision])
    build = load_single_task_parts(made_of, loading=loading)
    config = ConnectorConfig(
        encoder_width=build.encoder_width,
        hidden=build.hidden,
        width=settings.width,
        feed_forward=settings.feed_forward,
        queries=settings.queries,
        layers=settings.layers,
    )
    card = {"setup": "ST", "name": settings.out, "modality": build.modality, "task": None}
    return build.put_together(Connector(config, seed=settings.seed), name=settings.out, card=card)


def _split(data: str, split: str, samples: int | None) -> SampleSet:
    return open_samples(f"{data}:{split}", n=samples, at_most=True)


def _save(state: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
