"""Scores sample by sample, as caches keep them, agree with those of the whole set."""

import numpy as np

from ima.data.samples import Sample, open_samples
from ima.metrics.sample_scores import SampleScorer, list_sample_metrics
from ima.miniature.caption_metrics import score_captions


def test_the_means_of_the_columns_are_the_scores():
    samples = open_samples("mini-audio-caption", n=12)
    predictions = [sample.references[0] for sample in (*samples[4:], *samples[:4])]
    predictions[:3] = [sample.references[1] for sample in samples[:3]]
    scorer = SampleScorer(samples)
    table = np.concatenate([scorer(samples[i : i + 5], predictions[i : i + 5]) for i in (0, 5, 10)])
    columns = dict(zip(scorer.metrics, table.T, strict=True))
    scores = score_captions(samples, predictions)
    for name in ("exact_set", "exact_full", "cider"):
        assert np.isclose(columns[name].mean(), scores[name].value)
    ratio = columns["absent_named"].sum() / columns["named"].sum()
    assert np.isclose(ratio, scores["chair_i"].value)


def test_a_metric_that_does_not_apply_is_nan():
    caption = open_samples("mini-image-caption", n=1)[0]
    question = open_samples("mini-image-qa", n=1)[0]
    foreign = Sample("y", "image", "caption", "caption :", ("a dog",))
    scorer = SampleScorer([caption, question, foreign])
    table = scorer([caption, question, foreign], ["a", "b", "a dog"])
    for row, sample in zip(table, (caption, question, foreign), strict=True):
        applicable = set(list_sample_metrics(sample))
        assert applicable
        for name, value in zip(scorer.metrics, row, strict=True):
            assert np.isnan(value) == (name not in applicable)
    assert list_sample_metrics(foreign) == ("cider", "bleu4")


def test_samples_without_references_have_no_scores():
    assert SampleScorer([Sample("x", "text", "qa", "why ?", ())]).metrics == ()
