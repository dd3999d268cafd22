"""Training of a connector of several modalities (OneLLM), and of separate ones as its control.

The first steps show one modality only, as the authors align images first. Then each step shows a
modality that is drawn evenly from all, the first included: the authors' replay of what was learned
before. Encoders and language model stay frozen; the loss is that of the next token on captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.models.answer_loss import compute_answer_loss
from ima.models.perception import Perception
from ima.models.unified import UnifiedModel
from ima.models.universal_connector import UniversalConnectorConfig
from ima.progress import make_progress_bar
from ima.training.features import convert_tokens
from ima.training.frozen_language import keep_language_frozen
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model

#: Validation samples of each modality for the curve.
_N_VALIDATION = 64


@dataclass(frozen=True)
class UnifiedRecipe:
    """Hyperparameters of a training on several modalities.

    Parameters
    ----------
    training : TrainingRecipe
        Steps, learning rate, seed.
    first_ratio : float
        Fraction of the steps, from the first on, that show the first modality only.
    batch_size : int
        Samples per step, all of one modality.
    """

    training: TrainingRecipe
    first_ratio: float = 0.2
    batch_size: int = 24

    def draw_modality(self, step: int, modalities: Sequence[str]) -> str:
        """Return the modality that a step shows.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        modalities : sequence of str
            All modalities, the first one first.

        Examples
        --------
        >>> recipe = UnifiedRecipe(TrainingRecipe(steps=10, learning_rate=1e-3))
        >>> [recipe.draw_modality(step, ("image", "audio")) for step in (0, 1)]
        ['image', 'image']
        """
        if step < round(self.first_ratio * self.training.steps):
            return modalities[0]
        rng = np.random.default_rng([self.training.seed, step, 1])
        return modalities[int(rng.integers(len(modalities)))]


class SampleSource(Protocol):
    """Samples of one modality and split, and their encoder tokens."""

    samples: Sequence[Sample]

    def read_tokens(self, rows: Sequence[int]) -> Tensor:
        """Return the encoder tokens of some samples, ``(sample, position, width)``."""


class EncodedSamples:
    """Samples whose encoder tokens are computed once and held in memory, in float16.

    Parameters
    ----------
    samples : sequence of Sample
        Samples of one modality.
    perception : Perception
        Its encoder reads them.
    name : str
        Shown in the progress bar.

    Examples
    --------
    >>> source = EncodedSamples(samples, perception, name="depth")  # doctest: +SKIP
    >>> source.read_tokens([0, 1]).shape  # doctest: +SKIP
    torch.Size([2, 65, 128])
    """

    def __init__(self, samples: Sequence[Sample], perception: Perception, *, name: str) -> None:
        self.samples, parts = samples, []
        with make_progress_bar(total=len(samples), description=name, unit="sample") as progress:
            for start in range(0, len(samples), 64):
                batch = samples[start : start + 64]
                parts.append(convert_tokens(batch, perception.tokens))
                progress.update(len(batch))
        self._tokens = torch.cat(parts)

    def read_tokens(self, rows: Sequence[int]) -> Tensor:
        """Return the encoder tokens of some samples, ``(sample, position, width)``."""
        return self._tokens[list(rows)].float()


def make_separate_config(
    shared: UniversalConnectorConfig, *, width: int, heads: int
) -> UniversalConnectorConfig:
    """Return the sizes of separate connectors that have as many weights as a shared one, in all.

    Depth and number of perceptual tokens are those of the shared one. The connectors are narrower;
    their feed-forward networks take up the difference.

    Parameters
    ----------
    shared : UniversalConnectorConfig
        Sizes of the connector with shared experts.
    width, heads : int
        Hidden size and attention heads of the separate connectors.

    Raises
    ------
    ParameterError
        If so wide connectors have too many weights already.

    Examples
    --------
    >>> shared = UniversalConnectorConfig(widths={"image": 128, "audio": 128}, hidden=64)
    >>> make_separate_config(shared, width=48, heads=4).experts
    0
    """
    from ima.models.universal_connector import UniversalConnector, count_weights

    wanted = count_weights(UniversalConnector(shared))

    def make(feed_forward: int) -> tuple[UniversalConnectorConfig, int]:
        own = {"experts": 0, "width": width, "heads": heads, "feed_forward": feed_forward}
        config = UniversalConnectorConfig(**(shared.model_dump() | own))
        return config, count_weights(UniversalConnector(config))

    (config, least), (_, more) = make(1), make(2)
    units = 1 + round((wanted - least) / (more - least))
    if units < 1:
        raise ParameterError(
            f"Separate connectors of width {width} have at least {least} weights, more than the "
            f"{wanted} of the shared one. Choose a smaller width."
        )
    config, _ = make(units)
    return config


def train_unified(
    model: UnifiedModel,
    *,
    train: Mapping[str, SampleSource],
    validation: Mapping[str, SampleSource],
    recipe: UnifiedRecipe,
    name: str,
    state_path: Path,
    autocast_after: int | None = None,
) -> TrainingResult:
    """Train the connector of a model of several modalities, in place; a stopped run resumes.

    Parameters
    ----------
    model : UnifiedModel
        From :func:`ima.models.unified.make_unified_model`.
    train, validation : mapping of str to SampleSource
        Samples of each split, by modality; the first modality comes first.
    recipe : UnifiedRecipe
        Hyperparameters.
    name : str
        Name of the run, for messages.
    state_path : Path
        File of the state to resume from.
    autocast_after : int or None
        See :func:`ima.training.loop.choose_arithmetic`.

    Returns
    -------
    TrainingResult
        The curve has the loss and, by modality, the loss on validation samples, in nats per token.

    Raises
    ------
    ParameterError
        If the modalities of the samples are not those of the connector.
    ModelError
        If training changed the language model.

    Examples
    --------
    >>> result = train_unified(
    ...     model, train=train, validation=validation, recipe=recipe, name="shared",
    ...     state_path=Path("shared.pt"),
    ... )  # doctest: +SKIP
    >>> result.curve[-1]  # doctest: +SKIP
    {'step': 2000, 'loss': 0.4, 'image': 0.3, 'depth': 0.5}
    """
    for source in (train, validation):
        if set(source) != set(model.modalities):
            raise ParameterError(
                f"The connector reads {', '.join(model.modalities)}; samples are given of "
                f"{', '.join(source) or 'nothing'}."
            )
    opened = {modality: model.open(modality) for modality in train}

    def compute_loss(modality: str, source: SampleSource, rows: Sequence[int]) -> Tensor:
        own = opened[modality]
        assert own.perception is not None
        return compute_answer_loss(
            own,
            [source.samples[row] for row in rows],
            connector=own.perception.connector,
            encoder_tokens=source.read_tokens(rows).to(own.device),
        )

    def step_loss(step: int) -> Tensor:
        modality = recipe.draw_modality(step, list(train))
        rng = np.random.default_rng([recipe.training.seed, step])
        rows = rng.integers(len(train[modality].samples), size=recipe.batch_size)
        return compute_loss(modality, train[modality], rows.tolist())

    def probe() -> dict[str, float]:
        return {
            modality: float(
                compute_loss(modality, source, range(min(_N_VALIDATION, len(source.samples))))
            )
            for modality, source in validation.items()
        }

    connector: nn.Module = model.connector.requires_grad_(requires_grad=True)
    with keep_language_frozen(model.base.language, name=name):
        result = fit_model(
            connector,
            step_loss,
            recipe.training,
            name=name,
            state_path=state_path,
            probe=probe,
            autocast_after=autocast_after,
        )
    connector.eval().requires_grad_(requires_grad=False)
    return result
