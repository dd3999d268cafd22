"""Claims of the paper: what each says, the statistic that tests it, and the verdicts measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ima.errors import ParameterError, UnknownNameError
from ima.measures.inference import Interval

Direction = Literal["greater", "less"]
Verdict = Literal["supported", "contradicted", "inconclusive"]
SYMBOLS: Mapping[Verdict, str] = {"supported": "✓", "contradicted": "✗", "inconclusive": "○"}


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Parameters
    ----------
    id : str
        ``F`` (finding) or ``I`` (implication) with its number in the paper's order.
    name : str
        A few words for tables.
    sentence : str
        What is claimed, in one sentence.
    statistic : str
        What is measured to test it.
    direction : {"greater", "less"}
        On which side of the null the claim puts the statistic.
    null : float
        The value of the statistic at which the claim says nothing.
    """

    id: str
    name: str
    sentence: str
    statistic: str
    direction: Direction = "greater"
    null: float = 0.0


CLAIMS: Mapping[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            "F1.1",
            "narrow cones",
            "Perceptual and textual tokens lie in different narrow cones: they are less similar to "
            "each other than perceptual tokens are among themselves and textual tokens are among "
            "themselves, at every layer.",
            "minimum over layers of min(PvsP − PvsT, TvsT − PvsT)",
        ),
        Claim(
            "F1.2",
            "separability",
            "Text, image, video and audio tokens stay separate clusters at every layer.",
            "minimum over layers of the balanced accuracy of a held-out linear probe minus chance",
        ),
        Claim(
            "F1.3",
            "norms",
            "Perceptual tokens have larger norms than textual tokens: at all layers of single-task "
            "models, at the early layers of multitask models.",
            "minimum over those layers of log₂(median norm of P / median norm of T)",
        ),
        Claim(
            "F1.4",
            "slow change",
            "Perceptual tokens change slowly from layer to layer, textual tokens change a lot in "
            "the first layers.",
            "cosine of the same token one layer on, perceptual minus textual, mean over the first "
            "quarter of the layers",
        ),
        Claim(
            "F1.5",
            "no words",
            "Perceptual tokens are not translated to words: the logit lens reads other vocabulary "
            "distributions from them than from text.",
            "minimum over layers of KL(P‖T) minus KL between two halves of T, in nats",
        ),
        Claim(
            "F2.1",
            "same weights",
            "Different modalities activate the same weights.",
            "IoU of the weights kept for perceptual and for textual tokens, minus IoU under "
            "permuted activations, 50 % kept",
        ),
        Claim(
            "F2.2",
            "transfer",
            "The weights kept for one task or modality serve the others.",
            "task score with another modality's mask minus with a random mask, 50 % kept",
        ),
        Claim(
            "F3.1",
            "alignment over depth",
            "Perceptual and textual tokens become more similar with depth.",
            "Spearman correlation of PvsT with the layer",
        ),
        Claim(
            "F3.2",
            "alignment over training",
            "Perceptual and textual tokens become more similar while the connector is trained.",
            "Spearman correlation of the IMA score with the training step",
        ),
        Claim(
            "F3.3",
            "steering blocks",
            "Inside the blocks perceptual and textual tokens are more similar than in the residual "
            "stream.",
            "minimum over taps inside the block of their PvsT minus that of the residual stream, "
            "mean over layers",
        ),
        Claim(
            "F3.4",
            "controls",
            "Alignment comes from trained weights and from real inputs.",
            "IMA score minus the largest among noise inputs, random weights and blocked attention",
        ),
        Claim(
            "I1",
            "proxy for the task score",
            "The IMA score goes with the task score.",
            "Spearman correlation of the IMA score with the task score over models",
        ),
        Claim(
            "I2",
            "hallucination",
            "The more aligned the model, the less it hallucinates.",
            "Spearman correlation of the IMA score with the hallucination rate over models",
            direction="less",
        ),
        Claim(
            "I3",
            "skipping",
            "Computation for perceptual tokens can be skipped at little loss.",
            "task score with half of the perceptual tokens bypassing the FFN, relative to the "
            "unchanged model (0.9 is our margin)",
            null=0.9,
        ),
        Claim(
            "I4",
            "α-SubNet",
            "One subnetwork serves all tasks and modalities.",
            "task score of the α-SubNet minus the best of magnitude and random masks at equal "
            "sparsity",
        ),
    )
}


def verdict(interval: Interval, *, direction: Direction, null: float) -> Verdict:
    """Judge an interval against the null.

    Parameters
    ----------
    interval : Interval
        The measured statistic.
    direction : {"greater", "less"}
        On which side of the null the claim puts it.
    null : float
        The value at which the claim says nothing.

    Returns
    -------
    {"supported", "contradicted", "inconclusive"}
        Whether the interval excludes the null in the claimed direction, in the other, or not.

    Examples
    --------
    >>> verdict(Interval(0.2, 0.1, 0.3, n=50), direction="greater", null=0.0)
    'supported'
    >>> verdict(Interval(0.2, 0.1, 0.3, n=50), direction="less", null=0.0)
    'contradicted'
    >>> verdict(Interval(0.2, -0.1, 0.3, n=50), direction="greater", null=0.0)
    'inconclusive'
    """
    if direction not in ("greater", "less"):
        raise UnknownNameError.among(
            kind="direction", asked=direction, available=("greater", "less")
        )
    above, below = interval.low > null, interval.high < null
    if direction == "less":
        above, below = below, above
    if above:
        return "supported"
    return "contradicted" if below else "inconclusive"


class Record(BaseModel):
    """A claim measured on one model; its verdict must be the one that its numbers give."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    claim: str
    model: str
    dataset: str
    statistic: str
    value: float
    low: float
    high: float
    n: int
    null: float
    direction: Direction
    verdict: Verdict
    notebook: str

    @model_validator(mode="after")
    def _is_computed(self) -> Self:
        if self.claim not in CLAIMS:
            raise UnknownNameError.among(kind="claim", asked=self.claim, available=CLAIMS)
        computed = verdict(self.interval, direction=self.direction, null=self.null)
        if self.verdict != computed:
            message = (
                f"The record of {self.claim} for {self.model} says {self.verdict!r}, but "
                f"{self.interval} against {self.null} ({self.direction}) is {computed!r}. "
                "Verdicts are computed: write records with ima.claims.record."
            )
            raise ParameterError(message)
        return self

    @property
    def interval(self) -> Interval:
        """The measured statistic as an interval."""
        return Interval(value=self.value, low=self.low, high=self.high, n=self.n)


def record(
    claim: str,
    *,
    interval: Interval,
    model: str,
    dataset: str,
    notebook: str,
    statistic: str | None = None,
) -> Record:
    """Record a measured claim with its computed verdict.

    Parameters
    ----------
    claim : str
        Id of the claim, for example ``"F1.1"``.
    interval : Interval
        The measured statistic.
    model, dataset : str
        What it was measured on.
    notebook : str
        Path of the notebook's source, relative to the repository.
    statistic : str or None
        What was measured, where it is a second statistic beside the claim's own; direction
        and null are the claim's.

    Returns
    -------
    Record
        The claim, the numbers, and the verdict.

    Raises
    ------
    UnknownNameError
        If no such claim exists.

    Examples
    --------
    >>> made = record("F1.1", interval=Interval(0.2, 0.1, 0.3, n=600), model="llama-mini (ST)",
    ...               dataset="mini-image-caption", notebook="notebooks/finding1.md")
    >>> made.verdict
    'supported'
    """
    if claim not in CLAIMS:
        raise UnknownNameError.among(kind="claim", asked=claim, available=CLAIMS)
    known = CLAIMS[claim]
    return Record(
        claim=claim,
        model=model,
        dataset=dataset,
        statistic=statistic or known.statistic,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        null=known.null,
        direction=known.direction,
        verdict=verdict(interval, direction=known.direction, null=known.null),
        notebook=notebook,
    )


def write(records: Sequence[Record], path: str | Path) -> Path:
    """Write records as a JSON list, all or nothing.

    Parameters
    ----------
    records : sequence of Record
        What was measured.
    path : str or Path
        Where to; missing folders are made.

    Returns
    -------
    Path
        The file written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([entry.model_dump() for entry in records], indent=1, ensure_ascii=False)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def read(path: str | Path) -> list[Record]:
    """Read records, checking fields and verdicts.

    Raises
    ------
    ParameterError
        If the file is not a list of records, or a verdict is not the one computed.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [Record.model_validate(entry) for entry in entries]
    except (json.JSONDecodeError, ValidationError, TypeError) as error:
        message = (
            f"{path} is not a list of claim records: {error}. "
            "Run the notebook that writes it again, for example with `make book`."
        )
        raise ParameterError(message) from error


def collect(paths: Iterable[str | Path], *, out: str | Path) -> list[Record]:
    """Gather the records of all notebooks into one file.

    Parameters
    ----------
    paths : iterable of str or Path
        The ``.claims.json`` files.
    out : str or Path
        Where the list goes, usually ``_build/claims.json``.

    Returns
    -------
    list of Record
        In the paper's order, then by model and statistic.

    Raises
    ------
    ParameterError
        If two notebooks record the same statistic of the same claim, model and dataset.
    """
    found: dict[tuple[str, str, str, str], tuple[Record, Path]] = {}
    for path in map(Path, paths):
        for entry in read(path):
            key = (entry.claim, entry.model, entry.dataset, entry.statistic)
            if key in found:
                message = (
                    f"{entry.claim} is recorded twice for {entry.model} on {entry.dataset} "
                    f"({entry.statistic}): in {found[key][1]} and in {path}. Keep one of them."
                )
                raise ParameterError(message)
            found[key] = (entry, path)
    order = list(CLAIMS)
    records = [entry for entry, _ in found.values()]
    # A claim's own statistic comes before the second ones beside it.
    records.sort(
        key=lambda r: (
            order.index(r.claim),
            r.model,
            r.dataset,
            r.statistic != CLAIMS[r.claim].statistic,
            r.statistic,
        )
    )
    write(records, out)
    return records


def table(
    records: Sequence[Record],
    *,
    models: Sequence[str] = (),
    pages: Mapping[str, str] | None = None,
) -> str:
    """Write the table claims × models as MyST markdown.

    Parameters
    ----------
    records : sequence of Record
        What was measured.
    models : sequence of str
        Columns to show even where nothing was measured; models of the records follow.
    pages : mapping of str to str or None
        From a notebook's source path to the page to link to.

    Returns
    -------
    str
        One row for each claim of the paper; a cell holds verdict, value, interval and n, or
        "not yet measured".
    """
    columns = list(dict.fromkeys([*models, *(entry.model for entry in records)]))
    head = ["Claim", *(columns or ["Any model"])]
    lines = [_row(head), _row(["---"] * len(head))]
    for claim in CLAIMS.values():
        cells = [f"**{claim.id}** {claim.name}<br><small>{claim.sentence}</small>"]
        for column in head[1:]:
            own = [r for r in records if (r.claim, r.model) == (claim.id, column)]
            cells.append(
                "<br>".join(_cell(entry, pages=pages or {}) for entry in own)
                or '<span class="verdict unmeasured">not yet measured</span>'
            )
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(entry: Record, *, pages: Mapping[str, str]) -> str:
    word = f'<span class="verdict {entry.verdict}">{SYMBOLS[entry.verdict]} {entry.verdict}</span>'
    if entry.notebook in pages:
        word += f" ([page]({pages[entry.notebook]}))"
    detail = "" if entry.statistic == CLAIMS[entry.claim].statistic else f"{entry.statistic}: "
    return f"{word}<br><small>{detail}{entry.interval}</small>"
