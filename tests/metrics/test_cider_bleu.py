"""CIDEr and BLEU-4 against pycocoevalcap's own totals, and its tokenizer where Java is."""

import shutil

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider as Published

from ima.data.samples import open_samples
from ima.errors import ParameterError, UnknownNameError
from ima.metrics.cider_bleu import (
    CiderD,
    compute_bleu,
    count_bleu_ngrams,
    score_cider_bleu,
    tokenize_captions,
)

SAMPLES = open_samples("mini-image-caption", n=24)
REFERENCES = [sample.references for sample in SAMPLES]
#: Correct captions, captions of other samples, truncated captions, and an empty one.
PREDICTIONS = [
    references[i % 3] if i % 2 else REFERENCES[i - 1][0][: 5 * i]
    for i, references in enumerate(REFERENCES)
]


def published(scorer):
    references = dict(enumerate([tokenize_captions(each) for each in REFERENCES]))
    predictions = dict(enumerate([[text] for text in tokenize_captions(PREDICTIONS)]))
    return scorer(references, predictions)


def test_cider_is_pycocoevalcaps():
    mean, each = published(Published().compute_score)
    ours = CiderD(REFERENCES)(PREDICTIONS, REFERENCES)
    np.testing.assert_allclose(ours, each)
    assert score_cider_bleu(PREDICTIONS, REFERENCES)["cider"].value == pytest.approx(mean)


def test_cider_of_a_part_is_that_of_the_whole():
    scorer = CiderD(REFERENCES)
    whole = scorer(PREDICTIONS, REFERENCES)
    parts = [
        scorer(PREDICTIONS[i : i + 5], REFERENCES[i : i + 5]) for i in range(0, len(PREDICTIONS), 5)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole)


def test_bleu_is_pycocoevalcaps():
    (*_, corpus), each = published(lambda gts, res: Bleu(4).compute_score(gts, res, verbose=0))
    counts = count_bleu_ngrams(PREDICTIONS, REFERENCES)
    np.testing.assert_allclose(compute_bleu(counts), each[3])
    assert compute_bleu(counts.sum(0)) == pytest.approx(corpus)
    score = score_cider_bleu(PREDICTIONS, REFERENCES)["bleu4"]
    assert score.value == pytest.approx(corpus)
    assert score.low < corpus < score.high


@pytest.mark.skipif(shutil.which("java") is None, reason="the PTB tokenizer needs Java")
@pytest.mark.slow
def test_both_tokenizers_cut_captions_of_the_miniature_world_alike():
    texts = [text for each in REFERENCES for text in each]
    assert tokenize_captions(texts, tokenizer="ptb") == tokenize_captions(texts, tokenizer="words")


def test_without_java_there_is_no_ptb(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ParameterError, match=r"needs Java.*tokenizer='words'"):
        tokenize_captions(["a"], tokenizer="ptb")


def test_an_unknown_tokenizer_is_refused():
    with pytest.raises(UnknownNameError, match=r"Unknown tokenizer 'moses'.*ptb, words"):
        tokenize_captions(["a"], tokenizer="moses")


def test_captions_without_references_are_refused():
    with pytest.raises(ParameterError, match="at least one reference; got 2 captions"):
        CiderD([["a"], ["b"]])(["a", "b"], [["a"], []])
