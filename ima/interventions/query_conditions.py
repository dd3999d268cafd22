"""Conditions for a connector's learned queries, and two passes of any model that has queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.func import functional_call

from ima.errors import ModelError
from ima.models.batch import Batch
from ima.models.connector import Connector
from ima.models.frozen import FrozenModel

if TYPE_CHECKING:
    from ima.data.samples import Sample

#: Where the condition goes: to all queries, or to the last one, which is then the condition's own.
Injection = Literal["all", "last"]
#: Names of the parameters that hold learned queries: of our connectors, and of Q-Formers.
_QUERY_PARAMETERS = ("queries", "query_tokens")


class QueryConditionConfig(BaseModel):
    """Sizes of what conditions the queries of a connector.

    Parameters
    ----------
    hidden : int
        Hidden size of the language model.
    width : int
        Hidden size of the connector.
    queries : int
        Queries of the connector.
    pictures : int
        Largest number of pictures before a question.
    injection : {"all", "last"}
        Whether the condition is added to all queries, or to the last one only. The last one is
        then one more query, which carries nothing but the condition and what it finds.
    unit_length : bool
        Whether a normalised condition has length one, and not the square root of ``hidden``. In
        large hidden sizes the latter soon adds vectors far longer than the queries.

    Examples
    --------
    >>> QueryConditionConfig(hidden=32, width=16, queries=2, pictures=3).injection
    'all'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(ge=1)
    width: int = Field(ge=1)
    queries: int = Field(ge=1)
    pictures: int = Field(ge=1)
    injection: Injection = "all"
    unit_length: bool = False


class QueryCondition(nn.Module):
    """What is added to a connector's queries: a vector for the picture's place, and the condition.

    The condition is normalised without learned weights, because single dimensions of a language
    model's state can be far larger than all others, and mapped linearly without a bias. All weights
    start at zero: before training, the connector is as it was.

    Parameters
    ----------
    config : QueryConditionConfig
        The sizes.

    Examples
    --------
    >>> condition = QueryCondition(QueryConditionConfig(hidden=8, width=4, queries=2, pictures=3))
    >>> condition(torch.ones(2, 8), places=torch.tensor([0, 2])).shape
    torch.Size([2, 2, 4])
    """

    def __init__(self, config: QueryConditionConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.hidden, config.width, bias=False)
        nn.init.zeros_(self.project.weight)
        self.places = nn.Parameter(torch.zeros(config.pictures, config.width))

    def forward(self, conditions: Tensor, *, places: Tensor) -> Tensor:
        """Return what is added to the queries.

        Parameters
        ----------
        conditions : Tensor
            The condition of each picture's question, ``(picture, hidden)``; zeros for one pass.
        places : Tensor
            Place of each picture before its question, ``(picture,)``, from 0.

        Returns
        -------
        Tensor
            ``(picture, query, width)``.
        """
        normalised = nn.functional.layer_norm(conditions, (self.config.hidden,))
        if self.config.unit_length:
            normalised = normalised / self.config.hidden**0.5
        mapped = self.project(normalised).unsqueeze(1).expand(-1, self.config.queries, -1)
        if self.config.injection == "last":
            chosen = torch.zeros(self.config.queries, 1, device=mapped.device)
            chosen[-1] = 1.0
            mapped = mapped * chosen
        offsets: Tensor = self.places[places].unsqueeze(1) + mapped
        return offsets


def embed_with_queries(connector: Connector, tokens: Tensor, offsets: Tensor) -> Tensor:
    """Run a connector with other queries for each picture.

    Parameters
    ----------
    connector : Connector
        The connector; it stays as it is.
    tokens : Tensor
        Encoder tokens, ``(picture, position, width)``.
    offsets : Tensor
        What is added to its queries, ``(picture, query, width)``.

    Returns
    -------
    Tensor
        ``(picture, query, hidden)``.

    Examples
    --------
    >>> from ima.models.connector import ConnectorConfig
    >>> sizes = {"encoder_width": 12, "hidden": 32, "width": 16, "heads": 4, "layers": 1}
    >>> connector = Connector(ConnectorConfig(**sizes, queries=2)).eval()
    >>> tokens, nothing = torch.ones(1, 5, 12), torch.zeros(1, 2, 16)
    >>> torch.equal(embed_with_queries(connector, tokens, nothing), connector(tokens))
    True
    """
    given = {"queries": connector.queries + offsets}
    rows: Tensor = functional_call(connector, given, (tokens.to(connector.queries.dtype),))
    return rows


@torch.no_grad()
def read_last_state(model: FrozenModel, batch: Batch) -> Tensor:
    """Return the final hidden state of the last token of each prompt.

    Parameters
    ----------
    model : FrozenModel
        Any model.
    batch : Batch
        Prompts padded on the left.

    Returns
    -------
    Tensor
        ``(sample, hidden)``, after the final norm.

    Examples
    --------
    >>> batch = model.encode(samples, side="left", target=False)  # doctest: +SKIP
    >>> read_last_state(model, batch).shape  # doctest: +SKIP
    torch.Size([8, 128])
    """
    states = model.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
    last: Tensor = states[:, -1]
    return last


def find_queries(model: FrozenModel) -> tuple[nn.Module, str]:
    """Return the module that holds a model's learned queries, and the name of its parameter.

    Raises
    ------
    ModelError
        If no part of the model has such queries.

    Examples
    --------
    >>> find_queries(load_model("llava-mini-4"))[1]  # doctest: +SKIP
    'queries'
    """
    connector = getattr(model.perception, "connector", None)
    for whole in (connector, model.language):
        if isinstance(whole, nn.Module):
            for module in whole.modules():
                for name in _QUERY_PARAMETERS:
                    if isinstance(module._parameters.get(name), nn.Parameter):
                        return module, name
    raise ModelError(
        f"{model.name!r} has no learned queries that a condition could be added to: none of its "
        f"modules has a parameter {' or '.join(_QUERY_PARAMETERS)}. Models with a Q-Former "
        "(BLIP-2, InstructBLIP) and connectors with queries have. `ima models list` shows the zoo."
    )


@contextmanager
def condition_queries(model: FrozenModel, offsets: Tensor) -> Iterator[None]:
    """Add offsets to a model's queries, for each picture of a batch its own.

    Parameters
    ----------
    model : FrozenModel
        A model with learned queries, of this package or of the hub; leaving the context restores
        them.
    offsets : Tensor
        ``(picture, query or 1, width)``.

    Raises
    ------
    ModelError
        If the model has no queries.

    Examples
    --------
    >>> with condition_queries(model, offsets):  # doctest: +SKIP
    ...     model.generate(samples, batch_size=len(samples))
    """
    module, name = find_queries(model)
    queries: Tensor = module._parameters[name]  # type: ignore[assignment]
    given = queries.detach() + offsets.to(queries)
    module._parameters[name] = nn.Parameter(given, requires_grad=False)
    try:
        yield
    finally:
        module._parameters[name] = queries  # type: ignore[assignment]


@torch.no_grad()
def answer_in_two_passes(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    project: Callable[[Tensor], Tensor],
    max_new_tokens: int = 48,
    batch_size: int = 16,
) -> list[str]:
    """Answer prompts about one picture each in two passes, with any model that has queries.

    Parameters
    ----------
    model : FrozenModel
        A model with learned queries, such as BLIP-2.
    samples : sequence of Sample
        Pictures with prompts.
    project : callable
        Maps conditions ``(sample, hidden)`` to what is added to the queries, ``(sample, query or
        1, width)``.
    max_new_tokens : int
        Maximum length of an answer, in tokens.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    list of str
        One text per sample.

    Raises
    ------
    ModelError
        If the model has no queries.

    Examples
    --------
    >>> width = find_queries(model)[0].query_tokens.shape[-1]  # doctest: +SKIP
    >>> answer_in_two_passes(
    ...     model, samples, project=lambda state: state.new_zeros(len(state), 1, width)
    ... ) == model.generate(samples)  # doctest: +SKIP
    True
    """
    answers: list[str] = []
    while len(answers) < len(samples):
        start = len(answers)
        stop = model.limit_batch(samples, start, min(start + batch_size, len(samples)))
        part = samples[start:stop]
        conditions = read_last_state(model, model.encode(part, side="left", target=False))
        with condition_queries(model, project(conditions)):
            answers += model.generate(part, max_new_tokens=max_new_tokens, batch_size=len(part))
    return answers
