"""Sample records: the lines of ``samples.jsonl``, and what is said of lines that are none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ima.data.samples import Modality
from ima.errors import SampleError

SAMPLES_FILE = "samples.jsonl"


class SampleRecord(BaseModel):
    """One line of ``samples.jsonl``.

    Parameters
    ----------
    id : str
        Unique in the file.
    modality : {"text", "image", "video", "audio"}
        Kind of the medium.
    task : str
        ``"caption"`` or ``"qa"``.
    prompt : str
        Text before the answer; may be empty where there are references.
    references : tuple of str
        Acceptable answers.
    truth : dict
        Ground truth of the sample: values that JSON can hold.
    media : str or None
        File name relative to the folder; None for text.
    content : str or None
        What the sample shows, where several samples show the same, here or in other folders; None
        if no other sample does.
    split : {"train", "calibration", "validation", "test"}
        Split that the sample belongs to.

    Examples
    --------
    >>> SampleRecord(id="1", modality="text", task="qa", prompt="cold ?", references=["yes"]).split
    'test'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1)
    modality: Modality
    task: str = Field(min_length=1)
    prompt: str = ""
    references: list[str] = []
    truth: dict[str, JsonValue] = {}
    media: str | None = None
    content: str | None = Field(default=None, min_length=1)
    split: Literal["train", "calibration", "validation", "test"] = "test"

    @model_validator(mode="after")
    def _is_scored_as_meant(self) -> Self:
        """Refuse a task that is spelt otherwise: a caption would be scored as an answer."""
        meant = {"captions": "caption"}.get(self.task.casefold(), self.task.casefold())
        if meant in ("caption", "qa") and self.task != meant:
            raise PydanticCustomError(
                "task", "The task is {task}. Did you mean {meant}?",
                {"task": repr(self.task), "meant": repr(meant)},
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        """Whatever is read or made can be written, and read again."""
        try:
            self.as_line().encode()
        except UnicodeEncodeError as error:
            raise PydanticCustomError(
                "lone_surrogate",
                "A text holds half of a character, {half}, which no file can hold",
                {"half": f"U+{ord(error.object[error.start]):04X}"},
            ) from error
        except ValueError as error:
            raise PydanticCustomError(
                "not_finite", "truth holds a number that is NaN or infinite"
            ) from error
        return self

    def as_line(self) -> str:
        """Return the record as a line of ``samples.jsonl``, without its end."""
        record = self.model_dump()
        for name in ("media", "content"):
            if record[name] is None:
                record.pop(name)
        return json.dumps(record, ensure_ascii=False, allow_nan=False)


def make_sample_schema() -> dict[str, Any]:
    """Return the JSON schema of a line of ``samples.jsonl``.

    Examples
    --------
    >>> make_sample_schema()["required"]
    ['id', 'modality', 'task']
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **SampleRecord.model_json_schema(),
        "description": "One line of samples.jsonl. Caching a sample takes a reference, too.",
    }


def make_sample_record(values: Mapping[str, Any]) -> SampleRecord:
    """Make a record, and name the sample if its values cannot be used.

    Parameters
    ----------
    values : mapping
        The fields of :class:`SampleRecord`.

    Raises
    ------
    SampleError
        If a value is missing or of another type, or no file can hold it.

    Examples
    --------
    >>> values = {"id": "1", "modality": "text", "task": "qa", "references": ["yes"]}
    >>> make_sample_record(values).references
    ['yes']
    """
    try:
        return SampleRecord(**values)
    except ValidationError as error:
        raise SampleError(
            f"Sample {values.get('id')!r}: {describe_validation_error(error)}"
        ) from error


def parse_sample_record(text: str, *, where: str) -> SampleRecord:
    """Return the record of a line.

    Raises
    ------
    SampleError
        If the line is no record; the message begins with ``where``.

    Examples
    --------
    >>> line = '{"id": "1", "modality": "text", "task": "qa", "references": ["yes"]}'
    >>> parse_sample_record(line, where="samples.jsonl, line 1").references
    ['yes']
    """
    try:
        return SampleRecord.model_validate_json(text)
    except ValidationError as error:
        raise SampleError(f"{where}: {describe_validation_error(error)}") from error


def describe_validation_error(error: ValidationError) -> str:
    """Describe the first thing that a record lacks or has wrong: the field, why, what was found.

    Examples
    --------
    >>> try:
    ...     SampleRecord(id="1", modality="smell", task="qa")
    ... except ValidationError as error:
    ...     print(describe_validation_error(error))
    modality: Input should be 'text', 'image', 'video' or 'audio', found 'smell'.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    # A fault of the whole record does not show the whole record.
    is_whole = not field or first["type"] == "missing"
    found = "" if is_whole else f", found {first['input']!r:.200}"
    return f"{field + ': ' if field else ''}{first['msg']}{found}."


def describe_format() -> str:
    """Say what a data folder holds, with a line as an example, and what makes it.

    Examples
    --------
    >>> describe_format()[:42]
    'A data folder holds media and samples.json'
    """
    example = SampleRecord(
        id="a1", modality="image", task="caption", references=["a red ball"], media="a1.png"
    )
    said = example.model_dump(exclude_defaults=True)
    return (
        f"A data folder holds media and {SAMPLES_FILE}, one JSON object in each line: "
        f"{json.dumps(said)} (all fields: ima data schema). `ima data import` makes it of a "
        "table, of texts beside media, or of a published data set."
    )
