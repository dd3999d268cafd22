"""Training of a connector between two frozen models; an interrupted run resumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ima.data.samples import Sample, SampleSet, open_samples
from ima.errors import ModelError, ParameterError
from ima.files import replace_file, write_json
from ima.models import zoo
from ima.models.answer_loss import compute_answer_loss
from ima.models.connector import Connector, ConnectorConfig
from ima.models.folders import MODEL_DTYPES, LoadOptions
from ima.models.frozen import FrozenModel
from ima.models.single import SINGLE_TASK_KIND, load_single_task_parts
from ima.training.loop import TrainingRecipe, TrainingResult, run_training_loop
from ima.training.settings import TrainingSettings

_STATE_FILE = "training.pt"
_MAX_VALIDATION_SAMPLES = 64


def train_connector(settings: TrainingSettings) -> str:
    """Train a connector; see :func:`ima.training.train_connector`.

    Examples
    --------
    >>> train_connector(settings)  # doctest: +SKIP
    'model'
    """
    from accelerate import Accelerator

    out = Path(settings.out)
    _prepare_folder(out, settings)
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[settings.precision]
    accelerator = Accelerator(
        mixed_precision=mixed,
        gradient_accumulation_steps=settings.accumulation,
        cpu=settings.device == "cpu",
    )
    model = _load_untrained(settings, device=str(accelerator.device))
    language_hash = zoo.hash_state_dict(model.language.state_dict())
    run = _ConnectorRun(settings, model, accelerator)
    result = run.train(out)
    accelerator.wait_for_everyone()
    if zoo.hash_state_dict(model.language.state_dict()) != language_hash:
        message = "Training changed the language model, which must stay frozen."
        raise ModelError(message)
    if accelerator.is_main_process:
        run.save_model(out, result, language_hash=language_hash)
    accelerator.wait_for_everyone()
    return str(out)


class _ConnectorRun:
    """A training run: the connector, its optimizer, and the order of samples."""

    def __init__(self, settings: TrainingSettings, model: FrozenModel, accelerator: Any) -> None:
        self.settings, self.model, self.accelerator = settings, model, accelerator
        self.data = _open_split(settings.data, "train", settings.samples)
        self.validation = _open_split(settings.data, "validation", _MAX_VALIDATION_SAMPLES)
        assert model.perception is not None
        connector = model.perception.connector.float().train().requires_grad_()
        optimizer = torch.optim.AdamW(
            connector.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.connector, self.optimizer = accelerator.prepare(connector, optimizer)
        self.bare_connector = accelerator.unwrap_model(self.connector)
        self.samples_per_step = (
            settings.batch_size * settings.accumulation * accelerator.num_processes
        )
        self.steps_per_epoch = max(1, len(self.data) // self.samples_per_step)
        steps = settings.epochs * self.steps_per_epoch
        self.recipe = TrainingRecipe(
            steps=steps,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            warmup=min(settings.warmup, steps // 2),
            weight_decay=settings.weight_decay,
            final=0.0,
            probe_every=settings.save_every,
            save_every=settings.save_every,
        )
        parts = settings.checkpoints + 1
        self.milestones = {round(steps * part / parts) for part in range(1, parts)} - {0, steps}

    def train(self, out: Path) -> TrainingResult:
        """Train from the last state to the last step."""
        return run_training_loop(
            self.bare_connector,
            self.optimizer,
            self._take_step,
            self.recipe,
            name=str(out),
            state_path=out / _STATE_FILE,
            probe=self._validate,
            probe_at=self.milestones,
            milestones=self.milestones,
            keep=lambda step: self._save_weights(zoo.make_checkpoint_path(out, step)),
            is_main=self.accelerator.is_main_process,
        )

    def _take_step(self, step: int) -> float:
        mean_loss = 0.0
        for samples in self._draw_batches(step):
            with self.accelerator.accumulate(self.connector):
                loss = self._compute_loss(samples)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.connector.parameters(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            mean_loss += float(loss.detach()) / self.settings.accumulation
        return mean_loss

    def _draw_batches(self, step: int) -> Iterator[list[Sample]]:
        """Yield this process's batches of a step; the seed and the step decide which samples."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.data))
        start = step_of_epoch * self.samples_per_step
        chosen = order[start : start + self.samples_per_step]
        own = chosen[self.accelerator.process_index :: self.accelerator.num_processes]
        for batch in np.array_split(own, self.settings.accumulation):
            if len(batch):
                yield [self.data[int(index)] for index in batch]

    def _compute_loss(self, samples: Sequence[Sample]) -> Tensor:
        with self.accelerator.autocast():
            return compute_answer_loss(self.model, samples, connector=self.connector)

    def _validate(self) -> dict[str, float]:
        n, size = len(self.validation), self.settings.batch_size
        if n == 0:
            return {}
        batches = [self.validation[start : start + size] for start in range(0, n, size)]
        total = sum(float(self._compute_loss(list(batch))) * len(batch) for batch in batches)
        return {"validation": round(total / n, 5)}

    def _save_weights(self, path: Path) -> None:
        state = self.bare_connector.state_dict()
        weights = {name: value.float().contiguous().cpu() for name, value in state.items()}
        with replace_file(path) as partial:
            save_file(weights, partial)

    def save_model(self, out: Path, result: TrainingResult, *, language_hash: str) -> None:
        """Write the weights and the card that make the folder a model."""
        self._save_weights(out / zoo.WEIGHTS_FILE)
        assert self.model.perception is not None
        checkpoints = [
            {"step": step, "sha256": zoo.hash_file(zoo.make_checkpoint_path(out, step))}
            for step in sorted(self.milestones)
        ]
        card = {
            "kind": SINGLE_TASK_KIND,
            "setup": "ST",
            "name": out.name,
            "modality": self.model.perception.modality,
            "task": self.data[0].task,
            "dataset": self.settings.data,
            "made_of": {"language": self.settings.language, "encoder": self.settings.encoder},
            "configuration": self.bare_connector.config.model_dump(),
            "parameters": sum(p.numel() for p in self.bare_connector.parameters()),
            "recipe": self.settings.model_dump(),
            "data": {"fingerprint": self.data.fingerprint, "samples": len(self.data)},
            "curve": result.curve,
            "language_state": language_hash,
            "sha256": zoo.hash_file(out / zoo.WEIGHTS_FILE),
            "checkpoints": [{"step": 0, "seed": self.settings.seed}, *checkpoints],
        }
        write_json(out / zoo.CARD_FILE, card)
        (out / _STATE_FILE).unlink(missing_ok=True)


def _prepare_folder(out: Path, settings: TrainingSettings) -> None:
    """Make the folder, or check that it holds this training."""
    path = out / "training.json"
    record = settings.model_dump_json(indent=1, exclude={"out", "device"})
    if (out / zoo.CARD_FILE).is_file():
        message = f"{out} holds a trained model. Give another --out, or remove the folder."
        raise ParameterError(message)
    if path.is_file() and path.read_text(encoding="utf-8") != record:
        message = f"{out} holds a training with other settings ({path}). Give another --out."
        raise ParameterError(message)
    if out.is_dir() and any(out.iterdir()) and not path.is_file():
        message = f"{out} exists and holds no training. Give another --out."
        raise ParameterError(message)
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(record, encoding="utf-8")


def _load_untrained(settings: TrainingSettings, *, device: str) -> FrozenModel:
    specs = {"language": settings.language, "encoder": settings.encoder}
    loading = LoadOptions(torch.device(device), MODEL_DTYPES[settings.precision])
    parts = load_single_task_parts(specs, loading=loading)
    config = ConnectorConfig(
        encoder_width=parts.encoder_width,
        hidden=parts.hidden,
        width=settings.width,
        feed_forward=settings.feed_forward,
        queries=settings.queries,
        layers=settings.layers,
    )
    card = {"setup": "ST", "name": settings.out, "modality": parts.modality, "task": None}
    return parts.build_model(Connector(config, seed=settings.seed), name=settings.out, card=card)


def _open_split(data: str, split: str, samples: int | None) -> SampleSet:
    return open_samples(f"{data}:{split}", n=samples, at_most=True)
