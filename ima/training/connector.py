"""Training of a connector between two frozen models; an interrupted run resumes.

One module because a run's batches, loss, checkpoints and card follow from the same settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ima.data.samples import SampleSet, open_samples
from ima.errors import ModelError, ParameterError
from ima.files import hash_file, read_json, replace_file, write_json
from ima.models import zoo
from ima.models.adapter import (
    ADAPTER_FOLDER,
    ADAPTER_PREFIX,
    ADAPTER_WEIGHTS,
    add_adapter,
    get_base_state,
    save_adapter,
)
from ima.models.answer_loss import compute_answer_loss
from ima.models.connector import Connector, ConnectorConfig
from ima.models.folders import MODEL_DTYPES, LoadOptions
from ima.models.frozen import FrozenModel
from ima.models.loading import load_model
from ima.models.patch_projector import PatchProjector, PatchProjectorConfig
from ima.models.towers import ReadingOptions
from ima.models.trained import TRAINED_KIND, FrozenParts, load_frozen_parts, record_places
from ima.training.features import EncoderTokenStore
from ima.training.frozen_language import measure_embedding_norm
from ima.training.loop import (
    TrainingRecipe,
    TrainingResult,
    choose_arithmetic,
    has_bfloat16,
    run_training_loop,
    save_weights,
)
from ima.training.settings import RUN_FIELDS, TrainingSettings
from ima.training.splits import list_datasets, open_training_split
from ima.training.word_stage import train_word_stage

_STATE_FILE, _SETTINGS_FILE = "training.pt", "training.json"
_WORD_CURVE_FILE = "words.json"
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
    if settings.text_only and (not settings.lora_rank or settings.word_steps):
        raise ParameterError(
            "--text-only tunes a language model without media: it needs --lora-rank, and no "
            "--word-steps, which train a connector."
        )
    _check_folder(out, settings)
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[settings.precision]
    accelerator = Accelerator(
        mixed_precision=mixed,
        gradient_accumulation_steps=settings.accumulation,
        cpu=settings.device == "cpu",
    )
    parts = _load_parts(settings, device=str(accelerator.device))
    data = open_training_split(settings, "train", settings.samples)
    model = _build_untrained(settings, parts, data)
    language_hash = zoo.hash_state_dict(model.language.state_dict())
    frozen = zoo.hash_exact_state(model.language.state_dict())
    if settings.lora_rank and accelerator.num_processes > 1:
        raise ParameterError("A language model is tuned by one process; leave out --lora-rank.")
    passes = settings.accumulation * accelerator.num_processes
    if passes > 1 and len(data) < passes:
        raise ParameterError(
            f"A step has {passes} forward passes (--accumulation times processes), and each needs "
            f"a sample; found {len(data)} samples. Lower --accumulation."
        )
    # What fails until here leaves no folder behind.
    _prepare_folder(out, settings)
    if settings.start is not None and accelerator.is_main_process:
        assert model.perception is not None
        _keep_start(model.perception.connector, settings, zoo.make_checkpoint_path(out, 0))
    run = _ConnectorRun(settings, model, data, accelerator)
    result = run.train(out)
    accelerator.wait_for_everyone()
    if zoo.hash_exact_state(get_base_state(model.language)) != frozen:
        raise ModelError("Training changed the language model, which must stay frozen.")
    if accelerator.is_main_process:
        run.save_model(out, result, parts=parts, language_hash=language_hash)
    accelerator.wait_for_everyone()
    return str(out)


class _ConnectorRun:
    """A training run: the connector, its optimizer, and the order of samples."""

    def __init__(
        self, settings: TrainingSettings, model: FrozenModel, data: SampleSet, accelerator: Any
    ) -> None:
        self.settings, self.model, self.accelerator = settings, model, accelerator
        self.data = data
        self.validation = open_training_split(settings, "validation", _MAX_VALIDATION_SAMPLES)
        assert model.perception is not None
        self.stores = _open_token_stores(settings, model, (self.data, self.validation))
        connector = model.perception.connector.float().train()
        connector.requires_grad_(not settings.text_only)
        self.adapter: dict[str, torch.nn.Parameter] = {}
        if settings.lora_rank:
            self.adapter = add_adapter(
                model.language,
                rank=settings.lora_rank,
                layers=settings.lora_layers,
                seed=settings.seed,
            )
        optimizer = torch.optim.AdamW(
            self._group_parameters(connector),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.word_curve = self._train_word_stage(connector)
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

    def _group_parameters(self, connector: Any) -> list[dict[str, Any]]:
        """Return the optimizer's groups: the adapter, the last layer, and all before it."""
        adapter = {"params": list(self.adapter.values()), "rate": self.settings.lora_rate}
        if self.settings.text_only:
            return [adapter]
        last = [value for layer in connector.last_layers for value in layer.parameters()]
        ids = {id(parameter) for parameter in last}
        earlier = [value for value in connector.parameters() if id(value) not in ids]
        groups = [
            {"params": earlier, "rate": self.settings.query_rate},
            {"params": last, "rate": 1.0},
        ]
        return [*groups, adapter] if self.adapter else groups

    def _train_word_stage(self, connector: Any) -> list[dict[str, float]]:
        """Run the first stage, unless it is done; its weights are those of step 0."""
        settings = self.settings
        if not settings.word_steps:
            return []
        out = Path(settings.out)
        path, curve_path = zoo.make_checkpoint_path(out, 0), out / _WORD_CURVE_FILE
        # One process learns the words; the others wait and read its weights.
        if self.accelerator.is_main_process and not curve_path.is_file():
            store = self.stores["train"]

            def read_tokens(indices: Sequence[int]) -> Tensor:
                if store is not None:
                    return store.read(indices).to(self.model.device)
                assert self.model.perception is not None
                samples = [self.data[index] for index in indices]
                # The connector is trained in float32, whatever the encoder's dtype.
                return self.model.perception.tokens(samples).float()

            result = train_word_stage(
                connector,
                self.data,
                read_tokens,
                steps=settings.word_steps,
                seed=settings.seed,
                name=f"{settings.out} (words)",
                state_path=out / "words.pt",
            )
            save_weights(connector.state_dict(), path)
            write_json(curve_path, {"curve": result.curve})
        self.accelerator.wait_for_everyone()
        connector.load_state_dict(load_file(path))
        connector.train()
        curve: list[dict[str, float]] = read_json(curve_path)["curve"]
        return curve

    def train(self, out: Path) -> TrainingResult:
        """Train from the last state to the last step."""
        trained = self.bare_connector
        if self.adapter:
            adapter = torch.nn.ParameterList(self.adapter.values())
            trained = torch.nn.ModuleList([trained, adapter])
        return run_training_loop(
            trained,
            self.optimizer,
            self._take_step,
            self.recipe,
            name=str(out),
            state_path=out / _STATE_FILE,
            probe=self._validate,
            probe_at=self.milestones,
            milestones=self.milestones,
            keep=lambda step: self._save_weights(zoo.make_checkpoint_path(out, step)),
            stop=self._has_converged,
            is_main=self.accelerator.is_main_process,
            scaler=self.accelerator.scaler,
        )

    def _take_step(self, step: int) -> float:
        mean_loss = 0.0
        for indices in self._draw_batches(step):
            with self.accelerator.accumulate(self.connector):
                loss = self._compute_loss(self.data, indices, step=step)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    trained = [*self.connector.parameters(), *self.adapter.values()]
                    self.accelerator.clip_grad_norm_(trained, 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            mean_loss += float(loss.detach()) / self.settings.accumulation
        if self.accelerator.num_processes > 1:
            # Each process saw its part of the batch.
            own = torch.tensor(mean_loss, device=self.accelerator.device)
            mean_loss = float(self.accelerator.reduce(own, reduction="mean"))
        return mean_loss

    def _draw_batches(self, step: int) -> Iterator[list[int]]:
        """Yield this process's batches of a step; the seed and the step decide which samples."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.data))
        start = step_of_epoch * self.samples_per_step
        chosen = order[start : start + self.samples_per_step]
        own = chosen[self.accelerator.process_index :: self.accelerator.num_processes]
        for batch in np.array_split(own, self.settings.accumulation):
            if len(batch):
                yield [int(index) for index in batch]

    def _compute_loss(self, data: SampleSet, indices: Sequence[int], *, step: int) -> Tensor:
        store = self.stores[data.split]
        later = choose_arithmetic(
            self.model.device.type, step=step, autocast_after=self.settings.autocast_after
        )
        with self.accelerator.autocast(), later:
            return compute_answer_loss(
                self.model,
                [data[index] for index in indices],
                connector=None if self.settings.text_only else self.connector,
                encoder_tokens=None if store is None else store.read(indices).to(self.model.device),
            )

    def _has_converged(self, curve: Sequence[Mapping[str, float]]) -> bool:
        """Return whether the validation loss has not fallen for ``patience`` validations."""
        losses = [entry["validation"] for entry in curve if "validation" in entry]
        patience = self.settings.patience
        stops = patience is not None and len(losses) - 1 - int(np.argmin(losses or [0])) >= patience
        if self.accelerator.num_processes > 1:
            # A process that stopped alone would leave the others waiting for its gradients.
            own = torch.tensor(float(stops), device=self.accelerator.device)
            stops = bool(self.accelerator.reduce(own, reduction="sum") > 0)
        return stops

    def _validate(self) -> dict[str, float]:
        n, size = len(self.validation), self.settings.batch_size
        if n == 0:
            return {}
        batches = [range(start, min(n, start + size)) for start in range(0, n, size)]
        losses = [self._compute_loss(self.validation, batch, step=0) for batch in batches]
        total = sum(float(loss) * len(batch) for loss, batch in zip(losses, batches, strict=True))
        return {"validation": round(total / n, 5)}

    def _save_weights(self, path: Path) -> None:
        adapter = {f"{ADAPTER_PREFIX}{name}": value for name, value in self.adapter.items()}
        save_weights({**self.bare_connector.state_dict(), **adapter}, path)

    def _save_adapter(self, out: Path) -> dict[str, str]:
        """Write the adapter, if any; return its sha256 for the card."""
        if not self.adapter:
            return {}
        assert self.settings.lora_rank is not None
        folder = save_adapter(
            {name: value.half() for name, value in self.adapter.items()},
            out / ADAPTER_FOLDER,
            rank=self.settings.lora_rank,
            base=self.settings.language,
        )
        return {"adapter": hash_file(folder / ADAPTER_WEIGHTS)}

    def save_model(
        self, out: Path, result: TrainingResult, *, parts: FrozenParts, language_hash: str
    ) -> None:
        """Write the weights and the card that make the folder a model."""
        save_weights(self.bare_connector.state_dict(), out / zoo.WEIGHTS_FILE)
        adapter = self._save_adapter(out)
        assert self.model.perception is not None
        steps = int(result.curve[-1]["step"])
        datasets = list_datasets(self.settings.data)
        has_start = bool(self.settings.start or self.settings.word_steps)
        kept = ({0} if has_start and self.settings.checkpoints else set()) | self.milestones
        checkpoints: list[dict[str, Any]] = [
            {"step": step, "sha256": hash_file(zoo.make_checkpoint_path(out, step))}
            for step in sorted(kept)
            if step < steps
        ]
        if not has_start:
            connector = type(self.bare_connector)(
                self.bare_connector.config, seed=self.settings.seed
            )
            untrained = zoo.hash_state_dict(connector.state_dict())
            first = {"step": 0, "seed": self.settings.seed, "sha256": untrained}
            checkpoints = [first, *checkpoints]
        sha256 = hash_file(out / zoo.WEIGHTS_FILE)
        if kept:
            # The last checkpoint is the model itself.
            checkpoints.append({"step": steps, "sha256": sha256})
        specs = {"language": self.settings.language, "encoder": self.settings.encoder}
        card = {
            "kind": TRAINED_KIND,
            "class": type(self.bare_connector).__name__,
            "setup": self.model.setup,
            "name": out.name,
            "modality": self.model.perception.modality,
            "task": self.model.task,
            "dataset": datasets[0],
            "datasets": datasets,
            "chat": self.settings.chat,
            "reads_cls": self.model.perception.cls,
            "made_of": specs,
            "parts": dict(parts.hashes),
            "places": record_places(specs, out),
            "reading": asdict(parts.reading),
            "configuration": self.bare_connector.config.model_dump(),
            "tuned": bool(self.adapter),
            "parameters": sum(
                p.numel() for p in [*self.bare_connector.parameters(), *self.adapter.values()]
            ),
            "recipe": self.settings.make_recipe(),
            "data": {"fingerprint": self.data.fingerprint, "samples": len(self.data)},
            "word_curve": self.word_curve,
            "curve": result.curve,
            "language_state": language_hash,
            "sha256": sha256,
            **adapter,
            "checkpoints": checkpoints,
            "scores": {},
            "floors": {},
            "trained": {
                "steps": steps,
                "seconds": round(result.seconds, 1),
                "device": result.device,
                "torch": torch.__version__,
                "bfloat16": self.settings.autocast_after is not None
                and has_bfloat16(result.device),
            },
        }
        write_json(out / zoo.CARD_FILE, card)
        for name in (_STATE_FILE, _WORD_CURVE_FILE):
            (out / name).unlink(missing_ok=True)
        if not kept:
            shutil.rmtree(zoo.make_checkpoint_path(out, 0).parent, ignore_errors=True)


def _write_settings(settings: TrainingSettings) -> str:
    return settings.model_dump_json(indent=1, exclude=set(RUN_FIELDS))


def _check_folder(out: Path, settings: TrainingSettings) -> None:
    """Check that the folder is free, or holds this training."""
    path = out / _SETTINGS_FILE
    if (out / zoo.CARD_FILE).is_file():
        raise ParameterError(
            f"{out} holds a trained model. Give another --out, or remove the folder."
        )
    begun = out.is_dir() and any(file.name != _SETTINGS_FILE for file in out.iterdir())
    is_same = path.is_file() and path.read_text(encoding="utf-8") == _write_settings(settings)
    # Settings alone are of a training that took no step.
    if path.is_file() and begun and not is_same:
        raise ParameterError(
            f"{out} holds a training with other settings ({path}). Give another --out."
        )
    if begun and not path.is_file():
        raise ParameterError(f"{out} exists and holds no training. Give another --out.")


def _prepare_folder(out: Path, settings: TrainingSettings) -> None:
    """Make the folder, and write what is trained there."""
    out.mkdir(parents=True, exist_ok=True)
    with replace_file(out / _SETTINGS_FILE) as partial:
        partial.write_text(_write_settings(settings), encoding="utf-8")


def _load_parts(settings: TrainingSettings, *, device: str) -> FrozenParts:
    return load_frozen_parts(
        {"language": settings.language, "encoder": settings.encoder},
        loading=LoadOptions(torch.device(device), MODEL_DTYPES[settings.precision]),
        reading=ReadingOptions(
            seconds=settings.seconds,
            frames=settings.frames,
            pool=settings.pool,
            block=settings.block,
        ),
    )


def _build_untrained(
    settings: TrainingSettings, parts: FrozenParts, data: SampleSet
) -> FrozenModel:
    connector, reads_cls = _build_connector(settings, parts, data)
    if settings.start is not None:
        _copy_start(connector, settings)
    datasets = list_datasets(settings.data)
    tasks = {open_samples(f"{name}:{data.split}", n=1)[0].task for name in datasets}
    card = {
        "setup": "ST" if len(datasets) == 1 else "MT",
        "name": settings.out,
        "modality": parts.modality,
        "task": "multitask" if len(tasks) > 1 else tasks.pop(),
        "chat": settings.chat,
        "reads_cls": reads_cls,
    }
    return parts.build_model(connector, name=settings.out, card=card)


def _build_connector(
    settings: TrainingSettings, parts: FrozenParts, data: SampleSet
) -> tuple[Connector | PatchProjector, bool]:
    """Return an untrained connector, and whether it reads the encoder's CLS token."""
    sizes: dict[str, Any] = {
        "encoder_width": parts.measure_encoder_width(data[0]),
        "hidden": parts.hidden,
        "width": settings.width,
    }
    if settings.output_norm == "embeddings":
        sizes["output_norm"] = measure_embedding_norm(parts.language)
    if settings.connector == "patches":
        if settings.word_steps:
            raise ParameterError("A connector of patches has no queries that could learn words.")
        patches, has_cls = parts.count_patches(data[0])
        config = PatchProjectorConfig(**sizes, patches=patches)
        return PatchProjector(config, seed=settings.seed), not has_cls
    queries = ConnectorConfig(
        **sizes,
        feed_forward=settings.feed_forward,
        queries=settings.queries,
        layers=settings.layers,
        expansion=settings.expansion,
        shared_output=settings.shared_output,
        frames=settings.frames,
    )
    return Connector(queries, seed=settings.seed), True


def _keep_start(connector: torch.nn.Module, settings: TrainingSettings, path: Path) -> None:
    """Save the weights that a training starts from, unless it began before with the same ones."""
    start = connector.state_dict()
    if not path.is_file():
        save_weights(start, path)
    # After a stage of words, step 0 holds what it learned.
    elif not settings.word_steps and zoo.hash_state_dict(load_file(path)) != zoo.hash_state_dict(
        start
    ):
        raise ParameterError(
            f"--start {settings.start} has other weights than when the training in {settings.out} "
            "began. Begin another one with another --out."
        )


def _copy_start(connector: Connector | PatchProjector, settings: TrainingSettings) -> None:
    """Start from the connector of a trained model, and keep these weights as step 0.

    A connector of single images may become one of frames: what tells frames apart is new.
    """
    assert settings.start is not None
    perception = load_model(settings.start, device="cpu", dtype="float32").perception
    source: Any = None if perception is None else perception.connector
    possible: list[Any] = [connector.config]
    if isinstance(connector, Connector):
        possible.append(connector.config.model_copy(update={"frames": None}))
    is_connector = isinstance(source, Connector | PatchProjector)
    if settings.start_layers == "queries" and isinstance(source, Connector):
        # The last layers alone depend on the language model.
        own = {"hidden": source.config.hidden, "output_norm": source.config.output_norm}
        possible = [each.model_copy(update=own) for each in possible]
    if not is_connector or source.config not in possible:
        found = source.config if is_connector else "no such connector"
        raise ParameterError(
            f"Training cannot start from {settings.start!r}: it has {found}; these settings need "
            f"{connector.config}."
        )
    taken = source.state_dict()
    if settings.start_layers == "queries":
        taken = {name: w for name, w in taken.items() if not name.startswith(("out.", "scale."))}
    connector.load_state_dict({**connector.state_dict(), **taken})


def _open_token_stores(
    settings: TrainingSettings, model: FrozenModel, splits: Sequence[SampleSet]
) -> dict[str, EncoderTokenStore | None]:
    """Return each split's store of encoder tokens; None if each batch is encoded anew."""
    if settings.features is None or settings.text_only:
        return dict.fromkeys(samples.split for samples in splits)
    tower: Any = model.perception
    key = tower.describe_reading()
    return {
        samples.split: EncoderTokenStore(Path(settings.features), samples, tower.tokens, key=key)
        if len(samples)
        else None
        for samples in splits
    }
