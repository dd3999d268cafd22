"""Scores of single samples, which caches store beside the predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample
from ima.data.worlds import world_of
from ima.metrics.answers import score_each_answer, score_exact_match
from ima.metrics.cider_bleu import CiderD, compute_bleu, count_bleu_ngrams
from ima.metrics.hallucination import says_yes

#: The metrics of each task, with their definitions.
SAMPLE_METRICS: dict[str, dict[str, str]] = {
    "caption": {
        "exact_set": "1 if the caption names exactly the entities that are there, else 0",
        "exact_full": "as exact_set, with every attribute that captions tell",
        "cider": "CIDEr-D in 0 … 10, rarity counted over the references of the store's samples",
        "bleu4": "BLEU-4 of the one caption",
        "absent_named": "how often the caption names an object that is not there",
        "named": "how often the caption names an object",
    },
    "qa": {
        "pope": "1 if POPE's rule reads the answer as the label, else 0",
        "majority_match": "1 if the answer is the one that most people gave, else 0",
        "exact_match": "1 if the answer is exactly a reference, else 0",
        "vqa_accuracy": "accuracy as VQAv2 defines it",
    },
}
#: The main score of a task is the first of these metrics that its samples have.
MAIN_SCORES: tuple[str, ...] = ("exact_set", "pope", "majority_match", "exact_match", "cider")
#: Metrics that belong to a published data set: the entry of ``truth`` that its importer writes.
_NEED_ENTRY = {"pope": "pope", "majority_match": "majority"}
#: Metrics that need to know exactly what a sample shows.
_NEED_TRUTH = frozenset(("exact_set", "exact_full", "absent_named", "named"))


class SampleScorer:
    """Score samples one by one, with the n-gram statistics of all samples.

    Parameters
    ----------
    samples : sequence of Sample
        All samples that will be scored; CIDEr-D weighs n-grams by their rarity among them.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> samples = open_samples("mini-image-qa", n=2)
    >>> scorer = SampleScorer(samples)
    >>> scorer.metrics, scorer(samples, [samples[0].references[0], "unheard of"]).tolist()
    (('exact_match', 'vqa_accuracy'), [[1.0, 1.0], [0.0, 0.0]])
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        captioned = [sample for sample in samples if sample.task == "caption"]
        applicable = {name for sample in samples for name in list_sample_metrics(sample)}
        self.metrics = tuple(
            name for names in SAMPLE_METRICS.values() for name in names if name in applicable
        )
        self._cider = CiderD([sample.references for sample in captioned]) if captioned else None

    def __call__(
        self, samples: Sequence[Sample], predictions: Sequence[str]
    ) -> npt.NDArray[np.float32]:
        """Return the scores ``(sample, metric)``; NaN where a metric does not apply."""
        table = np.full((len(samples), len(self.metrics)), np.nan, np.float32)
        for row, (sample, prediction) in enumerate(zip(samples, predictions, strict=True)):
            scores = self._score_sample(sample, prediction)
            for name in list_sample_metrics(sample):
                table[row, self.metrics.index(name)] = scores[name]
        return table

    def _score_sample(self, sample: Sample, prediction: str) -> dict[str, float]:
        if self._cider is None or sample.task != "caption":
            arrays = score_each_answer([sample], [prediction])
        else:
            references = [sample.references]
            arrays = {"cider": self._cider([prediction], references)}
            arrays["bleu4"] = compute_bleu(count_bleu_ngrams([prediction], references))
        scores = {name: float(array[0]) for name, array in arrays.items()}
        if "pope" in sample.truth:
            scores["pope"] = float(says_yes(prediction) == says_yes(sample.references[0]))
        if "majority" in sample.truth:
            scores["majority_match"] = score_exact_match(
                prediction, [str(sample.truth["majority"])]
            )
        world = world_of(sample)
        if world is not None and sample.task == "caption":
            scores |= world.score_caption(sample, prediction)
        return scores


def list_sample_metrics(sample: Sample) -> tuple[str, ...]:
    """List the metrics that apply to a sample; none applies without a reference.

    Examples
    --------
    >>> list_sample_metrics(Sample("0", "image", "caption", "caption :", ("a dog",)))
    ('cider', 'bleu4')
    """
    if not sample.references:
        return ()
    metrics = SAMPLE_METRICS.get(sample.task, SAMPLE_METRICS["qa"])
    has_truth = world_of(sample) is not None
    return tuple(
        name
        for name in metrics
        if (has_truth or name not in _NEED_TRUTH)
        and _NEED_ENTRY.get(name, "") in {"", *sample.truth}
    )
