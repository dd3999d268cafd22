"""The systems on the map: what each changes, what its authors promise, and the page that measures.

A promise has one statistic and one null, fixed before a page runs. The outcome follows from the
interval of the statistic, so that nobody types it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ima.stats.intervals import Interval

#: What a system changes in a frozen language model that reads perceptual tokens.
SystemChange = Literal["inputs", "tokens", "weights", "decoding"]
SystemOutcome = Literal["works", "does not work", "undecided", "not measured"]

SYSTEM_CHANGES: tuple[SystemChange, ...] = get_args(SystemChange)
#: Fewer independent units than this decide nothing.
FEWEST_UNITS = 5
#: The fraction of captions that highlighting was expected to switch, before any run.
LEAST_SWITCHES = 0.8
#: The least fraction of a score that counts as kept, as in claim I3.
LEAST_KEPT = 0.9
#: The largest loss of a score that counts as none: one answer in twenty.
LARGEST_LOSS = 0.05


#: What a system is compared with, unless it says otherwise.
WITHOUT_IT = "the same model without it"


@dataclass(frozen=True)
class Promise:
    """What the authors of a system promise, and the statistic that tells.

    Parameters
    ----------
    sentence : str
        The promise in one sentence.
    statistic : str
        The statistic in words: a score, a difference of two or a ratio; greater is better.
    null : float
        The promise is kept if the whole interval lies above it.
    """

    sentence: str
    statistic: str
    null: float = 0.0

    def decide_outcome(self, interval: Interval | None) -> SystemOutcome:
        """Compare the interval of the statistic with the null.

        Parameters
        ----------
        interval : Interval or None
            The measured statistic; None if it was not measured.

        Returns
        -------
        str
            *works* if the interval lies above the null, *does not work* if no part of it does, and
            *undecided* otherwise or with fewer than :data:`FEWEST_UNITS` units.

        Examples
        --------
        >>> promise = Promise("The score rises.", "score with it minus score without it")
        >>> promise.decide_outcome(Interval(0.2, 0.1, 0.3, n=50))
        'works'
        >>> promise.decide_outcome(Interval(0.0, 0.0, 0.0, n=50))
        'does not work'
        >>> promise.decide_outcome(Interval(0.2, 0.1, 0.3, n=4))
        'undecided'
        """
        if interval is None:
            return "not measured"
        if interval.n < FEWEST_UNITS:
            return "undecided"
        if interval.low > self.null:
            return "works"
        return "does not work" if interval.high <= self.null else "undecided"


@dataclass(frozen=True)
class RelatedSystem:
    """A system that stands beside the paper, and what the book says about it.

    Parameters
    ----------
    name : str
        How the book calls it.
    arxiv : str
        Its number on arXiv.
    year : int
        Year of the first version.
    change : {"inputs", "tokens", "weights", "decoding"}
        What it changes.
    how : str
        How it changes that, in one sentence.
    trained : bool
        Whether it trains something.
    promise : Promise
        What its authors promise.
    page : str
        Name of the notebook that measures it, without folder and suffix.
    against : str
        What its cost, score and alignment are compared with.
    """

    name: str
    arxiv: str
    year: int
    change: SystemChange
    how: str
    trained: bool
    promise: Promise
    page: str
    against: str = WITHOUT_IT

    @property
    def link(self) -> str:
        """The name with a link to the paper, in MyST markdown."""
        return f"{self.name} ([arXiv:{self.arxiv}](https://arxiv.org/abs/{self.arxiv}))"


_SCORE_STAYS = "score with it as a fraction of the score without it, on the same samples"

#: By key: the paper's own method first, then the systems that it is listed with.
SYSTEMS: Mapping[str, RelatedSystem] = {
    "skipping": RelatedSystem(
        name="Skipping (the paper's own)",
        arxiv="2405.16700",
        year=2024,
        change="tokens",
        how="Half of the perceptual tokens skip the FFN from an early layer on.",
        trained=False,
        promise=Promise(
            "Perceptual tokens change slowly, so the FFN can be skipped for half of them, and the "
            "score stays.",
            _SCORE_STAYS,
            null=LEAST_KEPT,
        ),
        page="token-reduction",
    ),
    "vtw": RelatedSystem(
        name="VTW",
        arxiv="2405.05803",
        year=2024,
        change="tokens",
        how="All perceptual tokens leave after the layer that a search finds.",
        trained=False,
        promise=Promise(
            "Perceptual tokens are needed in early layers only. The score stays when they leave.",
            _SCORE_STAYS,
            null=LEAST_KEPT,
        ),
        page="token-reduction",
    ),
    "image-text": RelatedSystem(
        name="Image-text interaction pruning",
        arxiv="2409.01162",
        year=2024,
        change="tokens",
        how="Tokens leave that are unlike the picture's summary, then those that the prompt "
        "attends to least.",
        trained=False,
        promise=Promise(
            "Each picture keeps as many tokens as it needs, without training, and the score stays.",
            _SCORE_STAYS,
            null=LEAST_KEPT,
        ),
        page="token-reduction",
        against="random tokens in place of those that stay (cost and score: the same model without "
        "it)",
    ),
    "aim": RelatedSystem(
        name="AIM",
        arxiv="2406.07588",
        year=2024,
        change="inputs",
        how="A demonstration in the prompt becomes the hidden states of its text, which have "
        "attended to its picture.",
        trained=True,
        promise=Promise(
            "The states carry what the pictures show: they beat the text of the demonstrations.",
            "exact answers with states minus those with text alone, on the same episodes",
        ),
        page="demonstrations",
        against="pictures and text in the prompt (the score: text states of unrelated pictures)",
    ),
    "highlighter": RelatedSystem(
        name="Prompt Highlighter",
        arxiv="2312.04302",
        year=2023,
        change="decoding",
        how="Attention to marked tokens is raised, and the logits are guided away from a run that "
        "hardly sees them.",
        trained=False,
        promise=Promise(
            "The answer goes by what a user marks.",
            "captions that name the marked object first, of those that name the other one plainly",
            null=LEAST_SWITCHES,
        ),
        page="highlight",
    ),
    "browse": RelatedSystem(
        name="Browse-and-Concentrate",
        arxiv="2402.12195",
        year=2024,
        change="inputs",
        how="The model reads its pictures twice; what the first pass yields is added to the "
        "connector's queries.",
        trained=True,
        promise=Promise(
            "A second reading that knows the question and the other pictures answers better.",
            "exact answers in two passes minus those in one pass that was trained as long",
        ),
        page="browse",
        against="one pass (the score: that of a connector trained as long for it; alignment: two "
        "passes that were told of other pictures)",
    ),
    "onellm": RelatedSystem(
        name="OneLLM",
        arxiv="2312.03700",
        year=2023,
        change="inputs",
        how="One connector with shared experts and a router for each modality serves all "
        "modalities.",
        trained=True,
        promise=Promise(
            "One connector serves every modality as well as connectors of their own.",
            "mean score with one connector minus that with separate ones of equal size, over the "
            "modalities that the latter read",
            null=-LARGEST_LOSS,
        ),
        page="onellm",
        against="separate connectors of equal size",
    ),
    "teal": RelatedSystem(
        name="TEAL",
        arxiv="2311.04589",
        year=2023,
        change="inputs",
        how="Pictures become codes, which are further words of the frozen vocabulary.",
        trained=True,
        promise=Promise(
            "Codes serve as well as dense tokens, and the model can write them too.",
            "score with the largest codebook minus score with the same connector without codes, on "
            "the same samples",
            null=-LARGEST_LOSS,
        ),
        page="teal",
        against="the same connector trained without codes",
    ),
    "sight": RelatedSystem(
        name="Sight Beyond Text",
        arxiv="2309.07120",
        year=2023,
        change="weights",
        how="The language model is tuned on pictures with text, and then reads text alone.",
        trained=True,
        promise=Promise(
            "Learning to see makes a language model more truthful on text alone.",
            "best answers chosen (mc1) by the tuned model minus those by the frozen one, on "
            "questions of commonsense",
        ),
        page="sight",
    ),
}
