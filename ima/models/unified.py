"""A frozen language model that reads several modalities through one connector, or through several.

:func:`load_unified_model` loads what `ima zoo train --only 'onellm/*'` trains. For each modality,
:meth:`UnifiedModel.open` returns an ordinary frozen model, so that everything that runs on one runs
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import xarray as xr
from safetensors.torch import load_file
from torch import Tensor

from ima.data.samples import Modality
from ima.errors import ModelError, UnknownNameError
from ima.models import load_model, zoo
from ima.models.frozen import FrozenModel
from ima.models.loading import load_encoder
from ima.models.perception import Perception, remember_tokens
from ima.models.universal_connector import (
    ModalityConnector,
    UniversalConnector,
    UniversalConnectorConfig,
    label_router_weights,
)

#: Folder of the zoo that holds models of several modalities.
UNIFIED_FOLDER = "onellm"
_ENCODERS = "encoders/"


@dataclass(frozen=True)
class ModalityReader:
    """How one modality is read before the connector.

    Parameters
    ----------
    medium : {"image", "video", "audio"}
        What its samples hold: a depth map is an image.
    encoder : str
        Its frozen encoder: a folder of the zoo (``encoders/vit``), or a model whose encoder it is
        (``smollm2/dinov2/image-caption``).
    frames : int or None
        Frames of a clip whose tokens are averaged; see
        :class:`ima.models.universal_connector.ModalityConnector`.

    Examples
    --------
    >>> ModalityReader("image", "encoders/vit").frames is None
    True
    """

    medium: Modality
    encoder: str
    frames: int | None = None


@dataclass(frozen=True, eq=False)
class UnifiedModel:
    """A frozen language model, a connector of several modalities, and the modalities' encoders.

    Parameters
    ----------
    base : FrozenModel
        The language model alone.
    connector : UniversalConnector
        The connector.
    readers : mapping of str to ModalityReader
        By modality, how it is read.
    perceptions : mapping of str to Perception
        By name of an encoder, the encoder as a model uses it.
    card : mapping
        Record of the training; empty before it.
    """

    base: FrozenModel
    connector: UniversalConnector
    readers: Mapping[str, ModalityReader]
    perceptions: Mapping[str, Perception] = field(repr=False)
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return self.connector.modalities

    def open(self, modality: str) -> FrozenModel:
        """Return the model as it reads one modality; weights are shared, not copied.

        Raises
        ------
        UnknownNameError
            If the model does not read this modality.

        Examples
        --------
        >>> load_unified_model("shared").open("depth").modality  # doctest: +SKIP
        'image'
        """
        if modality not in self.readers:
            raise UnknownNameError.among(kind="modality", asked=modality, available=self.readers)
        reader = self.readers[modality]
        own = ModalityConnector(self.connector, modality, frames=reader.frames).eval()
        perception = replace(
            self.perceptions[reader.encoder],
            connector=own,
            queries=self.connector.config.queries,
        )
        card = {**self.base.card, "setup": "MT", "modality": reader.medium, "task": "caption"}
        name = f"{self.base.name}/{modality}"
        return replace(self.base, name=name, card=card, perception=perception)


def open_perceptions(
    readers: Mapping[str, ModalityReader], *, device: str = "cpu"
) -> dict[str, Perception]:
    """Load the encoder of each modality once, by its name.

    Parameters
    ----------
    readers : mapping of str to ModalityReader
        By modality, how it is read.
    device : str
        A torch device.

    Returns
    -------
    dict of str to Perception
        Their connectors are placeholders.

    Raises
    ------
    ModelError
        If an encoder cannot be used.

    Examples
    --------
    >>> readers = {"image": ModalityReader("image", "encoders/vit")}
    >>> open_perceptions(readers)["encoders/vit"].modality  # doctest: +SKIP
    'image'
    """
    found: dict[str, Perception] = {}
    for reader in readers.values():
        if reader.encoder in found:
            continue
        if reader.encoder.startswith(_ENCODERS):
            encoder = load_encoder(zoo.get_zoo_root() / reader.encoder).to(device).eval()
            encoder.requires_grad_(requires_grad=False)
            found[reader.encoder] = Perception(reader.medium, encoder, encoder, queries=0)
        else:
            perception = load_model(reader.encoder, device=device).perception
            assert perception is not None
            found[reader.encoder] = perception
    return found


def make_unified_model(
    base: FrozenModel,
    config: UniversalConnectorConfig,
    *,
    readers: Mapping[str, ModalityReader],
    perceptions: Mapping[str, Perception],
    seed: int = 0,
) -> UnifiedModel:
    """Return a model of several modalities with an untrained connector.

    Parameters
    ----------
    base : FrozenModel
        A language model alone.
    config : UniversalConnectorConfig
        Sizes of the connector, and its modalities.
    readers, perceptions : mapping
        As for :class:`UnifiedModel`.
    seed : int
        Seed of the connector's initial weights.

    Examples
    --------
    >>> model = make_unified_model(
    ...     load_model("llama-mini"), config, readers=readers, perceptions=open_perceptions(readers)
    ... )  # doctest: +SKIP
    """
    connector = UniversalConnector(config, seed=seed).to(base.device).eval()
    return UnifiedModel(base, connector, dict(readers), dict(perceptions))


def load_unified_model(name: str, *, device: str = "cpu") -> UnifiedModel:
    """Load a trained model of several modalities from the zoo.

    Parameters
    ----------
    name : str
        Its folder under ``onellm``, such as ``shared`` or ``separate``.
    device : str
        A torch device.

    Raises
    ------
    ModelError
        If there is none, its weights do not match its card, or a part is not the one that it was
        trained with.

    Examples
    --------
    >>> load_unified_model("shared").modalities  # doctest: +SKIP
    ('image', 'video', 'audio', 'depth', 'drawing', 'motion')
    """
    folder = zoo.get_zoo_root() / UNIFIED_FOLDER / name
    card = zoo.read_card(folder)
    zoo.verify_weights(folder / zoo.WEIGHTS_FILE, expected=card["sha256"])
    for role, part in card["made_of"].items():
        found = zoo.read_card(zoo.get_zoo_root() / part)["sha256"]
        if found != card["parts"][role]:
            raise ModelError(
                f"{UNIFIED_FOLDER}/{name} was trained with another {part}: it had the sha256 "
                f"{card['parts'][role]}, and has {found}. Train it again: `{card['command']}`."
            )
    readers = {key: ModalityReader(**own) for key, own in card["readers"].items()}
    model = make_unified_model(
        load_model(card["language"], device=device),
        UniversalConnectorConfig(**card["configuration"]),
        readers=readers,
        perceptions=open_perceptions(readers, device=device),
    )
    state = load_file(folder / zoo.WEIGHTS_FILE)
    load_connector_state(model, state)
    return replace(model, card=card)


def share_encoders(models: Mapping[str, UnifiedModel]) -> dict[str, UnifiedModel]:
    """Return models that differ in their connectors alone, so that encoders read each sample once.

    The tokens of all samples that were read stay in memory. Samples are known by their ids.

    Parameters
    ----------
    models : mapping of str to UnifiedModel
        Models whose cards name the same parts, by any name.

    Returns
    -------
    dict of str to UnifiedModel
        By the same names.

    Raises
    ------
    ModelError
        If the models were trained with different parts.

    Examples
    --------
    >>> pair = {name: load_unified_model(name) for name in ("shared", "separate")}  # doctest: +SKIP
    >>> share_encoders(pair)["separate"].modalities  # doctest: +SKIP
    ('image', 'video', 'audio', 'depth', 'drawing', 'motion')
    """
    first, *others = models.values()
    for other in others:
        if (first.card["parts"], first.readers) != (other.card["parts"], other.readers):
            raise ModelError(
                f"The models {', '.join(models)} do not have the same encoders. Give models that "
                "were trained with the same parts."
            )
    perceptions = {name: remember_tokens(own, {}) for name, own in first.perceptions.items()}
    return {name: replace(model, perceptions=perceptions) for name, model in models.items()}


def load_connector_state(model: UnifiedModel, state: Mapping[str, Tensor]) -> None:
    """Put trained weights into the connector of a model, in place.

    Raises
    ------
    ModelError
        If a name or a shape does not fit.

    Examples
    --------
    >>> load_connector_state(model, load_file("model.safetensors"))  # doctest: +SKIP
    """
    try:
        model.connector.load_state_dict({key: value.float() for key, value in state.items()})
    except RuntimeError as error:
        raise ModelError(f"The weights do not fit the connector: {error}") from error


def read_kept_router_weights(name: str) -> xr.Dataset:
    """Return the router weights that the card of a trained model holds; needs no model.

    Parameters
    ----------
    name : str
        Its folder under ``onellm``.

    Returns
    -------
    xarray.Dataset
        ``weight`` ``(modality, query, expert)``; attributes name the model and its sha256.

    Raises
    ------
    ModelError
        If there is no such model, or it has no routers.

    Examples
    --------
    >>> read_kept_router_weights("shared")["weight"].dims  # doctest: +SKIP
    ('modality', 'query', 'expert')
    """
    card = zoo.read_card(zoo.get_zoo_root() / UNIFIED_FOLDER / name)
    if not card.get("routers"):
        raise ModelError(
            f"{UNIFIED_FOLDER}/{name} has no routers: each modality has an expert of its own. "
            "Models with shared experts have routers."
        )
    kept = label_router_weights(card["routers"])
    return kept.assign_attrs(model=f"{UNIFIED_FOLDER}/{name}", sha256=card["sha256"])
