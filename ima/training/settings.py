"""Settings of a training: the recipe of the paper, and what a user may change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ima.errors import ParameterError

_LANGUAGE_MODELS = {"opt-6.7b": "facebook/opt-6.7b", "vicuna-7b": "lmsys/vicuna-7b-v1.5"}
#: AudioMAE is published outside transformers, and CLAP was not in the paper's released runs.
_ENCODERS = {
    "vit": "google/vit-large-patch16-224",
    "clip": "openai/clip-vit-large-patch14",
    "mae": "facebook/vit-mae-large",
    "timesformer": "facebook/timesformer-base-finetuned-k400",
    "xclip": "microsoft/xclip-large-patch14",
    "videomae": "MCG-NJU/videomae-large",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "clap": "laion/clap-htsat-unfused",
}
#: The paper's pairs of a language model and an encoder, by name ``language/encoder``, with their
#: Hugging Face ids: what ``ima train --pair`` fills in.
MODEL_PAIRS: Mapping[str, dict[str, str]] = {
    f"{language}/{encoder}": {"language": _LANGUAGE_MODELS[language], "encoder": _ENCODERS[encoder]}
    for language in _LANGUAGE_MODELS
    for encoder in _ENCODERS
}

#: Settings that say where and how a training runs, and change nothing of its recipe.
RUN_FIELDS = frozenset({"out", "features", "device"})
#: Settings that came after the first committed recipes. A recipe names them where they differ from
#: their default, so that earlier recipes stay what they are.
_LATER_FIELDS = ("lora_layers", "lora_rate", "text_only")


class TrainingSettings(BaseModel):
    """Settings for training a connector (paper §2): on one task, or on several.

    The fields' descriptions are also the help texts of the options of ``ima train``.

    Examples
    --------
    >>> settings = TrainingSettings(
    ...     language="facebook/opt-125m", encoder="google/vit-base-patch16-224",
    ...     data="photos", out="model", epochs=3,
    ... )
    >>> settings.epochs, settings.queries
    (3, 10)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: str = Field(
        min_length=1,
        description="frozen language model: a part (smollm2), a folder or a Hugging Face id",
    )
    encoder: str = Field(
        min_length=1,
        description="frozen encoder: a part (dinov2), a folder or a Hugging Face id",
    )
    data: str = Field(
        min_length=1,
        description=(
            "data set, or folder of samples, with splits train and validation; several, separated "
            "by commas, make a multitask model"
        ),
    )
    out: str = Field(
        min_length=1,
        description="folder that becomes the model; an interrupted training in it resumes",
    )
    epochs: int = Field(default=20, ge=1, description="passes over the training samples")
    learning_rate: float = Field(
        default=2e-4, gt=0, description="peak of the learning rate; a cosine decays from it to 0"
    )
    warmup: int = Field(default=100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(default=0.01, ge=0, description="weight decay of AdamW")
    batch_size: int = Field(
        default=16, ge=1, description="samples of a forward pass on each device"
    )
    accumulation: int = Field(
        default=1, ge=1, description="forward passes whose gradients are averaged"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description=(
            "dtype of the frozen models and, with float32 weights, of the connector's forward "
            "pass: float32, bfloat16 or float16"
        ),
    )
    autocast_after: int | None = Field(
        default=None,
        ge=0,
        description=(
            "steps after which matrices are multiplied in bfloat16, where the hardware does it "
            "fast; early gradients need float32"
        ),
    )
    connector: Literal["queries", "patches"] = Field(
        default="queries",
        description=(
            "learned queries that read all tokens of the encoder, or a perceptron that maps each "
            "patch of an image, as in LLaVA"
        ),
    )
    chat: bool = Field(
        default=False,
        description=(
            "write prompts and answers in the language model's chat template, with the medium "
            "after the template's beginning; otherwise the medium comes first"
        ),
    )
    width: int = Field(default=256, ge=1, description="hidden size of the connector")
    feed_forward: int = Field(
        default=512, ge=1, description="hidden size of the connector's feed-forward networks"
    )
    queries: int = Field(
        default=10, ge=1, description="perceptual tokens per sample, of a connector of queries"
    )
    layers: int = Field(default=5, ge=1, description="transformer layers of the connector")
    expansion: int = Field(
        default=4, ge=1, description="units of the last layer but one, in multiples of the width"
    )
    shared_output: bool = Field(
        default=True,
        description=(
            "one last layer for all queries, as in the paper; without it each query has its own"
        ),
    )
    output_norm: Literal["embeddings", "free"] = Field(
        default="embeddings",
        description=(
            "norm at which perceptual tokens start: the median of the input embeddings, or free "
            "as in the paper"
        ),
    )
    start: str | None = Field(
        default=None,
        description="trained model whose connector this one starts from; default: random weights",
    )
    start_layers: Literal["all", "queries"] = Field(
        default="all",
        description=(
            "what is taken from that model: all layers, or all but the last, which start at random"
        ),
    )
    word_steps: int = Field(
        default=0,
        ge=0,
        description=(
            "steps of a first stage without the language model, in which the queries learn to "
            "tell the words of the references"
        ),
    )
    query_rate: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description=(
            "fraction of the learning rate at which all layers but the last learn; low after a "
            "first stage, whose layers need little change"
        ),
    )
    lora_rank: int | None = Field(
        default=None,
        ge=1,
        description=(
            "rank of an adapter (LoRA) that tunes the language model together with the connector; "
            "default: it stays frozen"
        ),
    )
    lora_layers: Literal["all", "query-value"] = Field(
        default="all",
        description=(
            "layers that the adapter tunes: all linear layers of the blocks, or query-value, the "
            "query and value projections of attention only"
        ),
    )
    lora_rate: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="fraction of the learning rate at which the adapter learns",
    )
    text_only: bool = Field(
        default=False,
        description=(
            "tune the language model on the texts of the samples alone, without their media: a "
            "control for what it learns by seeing; the connector stays as it starts"
        ),
    )
    seconds: float | None = Field(
        default=None, gt=0, description="seconds of sound that a Whisper encoder reads"
    )
    frames: int | None = Field(
        default=None, ge=1, description="frames of a clip that an encoder of images reads"
    )
    pool: int = Field(
        default=1,
        ge=1,
        description=(
            "side of the squares of patches whose tokens are averaged; of Whisper, the number of "
            "consecutive positions"
        ),
    )
    block: int | None = Field(
        default=None,
        ge=1,
        description=(
            "block after which the encoder is read, counted from 1; default: after its last layer"
        ),
    )
    features: str | None = Field(
        default=None,
        description=(
            "folder that keeps the encoder's tokens, so that each sample is encoded once; "
            "trainings on the same samples share it"
        ),
    )
    samples: int | None = Field(
        default=None, ge=1, description="number of training samples, from the start; default: all"
    )
    permuted: bool = Field(
        default=False,
        description=(
            "give each text the medium of another sample: a control, in which a connector learns "
            "what texts are like and nothing of the media"
        ),
    )
    checkpoints: int = Field(
        default=5,
        ge=0,
        description=(
            "evenly spaced checkpoints, besides the weights before training and the final ones; "
            "with 0, weights before training are kept only as their seed"
        ),
    )
    save_every: int = Field(
        default=200, ge=1, description="steps between two saved states to resume from"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="validations without a lower loss after which training stops; default: never",
    )
    seed: int = Field(default=0, ge=0, description="seed of initial weights and sample order")
    device: str | None = Field(
        default=None, description="device, such as cpu; default: a GPU if any"
    )

    def make_recipe(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """Return the settings that decide what is trained, as cards keep them.

        Parameters
        ----------
        without : collection of str
            Further settings to leave out.
        """
        fields = type(self).model_fields
        unchanged = {name for name in _LATER_FIELDS if getattr(self, name) == fields[name].default}
        return self.model_dump(exclude={*RUN_FIELDS, *without, *unchanged})

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Return settings made from values whose type and range are checked.

        Raises
        ------
        ParameterError
            If a value has the wrong type or is out of range.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise ParameterError(
                f"Setting {name!r}: {first['msg']}; found {first['input']!r}."
            ) from None
