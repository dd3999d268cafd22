"""What codes change (TEAL): what a model reads in pictures, what it draws, and where codes arise.

Reading and drawing have one score: the *overlap* of the objects that a caption names with those
that are there, a fraction. A drawn picture is read by another model, whose connector had no part in
the codes.

One module because tables and statements compare the same arms of reading and drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr

from ima.capture.hooks import capture_activations
from ima.capture.logit_lens import apply_logit_lens
from ima.data.samples import Sample
from ima.interventions.treated_states import capture_treated_means
from ima.measures.alignment import compute_alignment_curves, stack_alignment_curves
from ima.measures.treatments import Treatment
from ima.measures.vocabulary import compute_mass_from
from ima.models.batch import Batch
from ima.models.code_model import CodeModel, assemble_drawings, find_places
from ima.models.frozen import FrozenModel
from ima.models.perception import draw_derangement
from ima.stats import FloatArray
from ima.stats.scores import compute_mean_score, compute_score_gain, is_shown

_RgbPixels = npt.NDArray[np.uint8]
#: Returns the text that a sample's picture is drawn from.
Describe = Callable[[Sample], Sample]
#: Scores a caption of a sample.
ScoreCaption = Callable[[Sample, str], float]

OWN, ANOTHER = "own picture", "another picture"
REAL = "the real picture"
TRUE_CODES = "its codes, decoded"
DRAWN = "drawn from its description"
DRAWN_FROM_ANOTHER = "drawn from another description"
OTHER_CODES = "codes of another picture, decoded"
OWN_DESCRIPTION, ANOTHER_DESCRIPTION = "its description", "another description"
#: Arms whose score is a mean over all other samples, and the arm whose captions these are.
_OF_OTHERS = {OTHER_CODES: TRUE_CODES, DRAWN_FROM_ANOTHER: DRAWN}
#: Which pictures are read back, in the order of tables: ceilings first, floors last.
DRAWING_ARMS = (REAL, TRUE_CODES, DRAWN, DRAWN_FROM_ANOTHER, OTHER_CODES)
#: Positions through which the logit lens looks, in the order of a sequence that reads, then draws.
LENS_POSITIONS = (
    "codes, read", "words of a caption", "words of a description", "places", "codes, drawn",
)  # fmt: skip
#: What is said of a statement.
HOLDS, NOT_SHOWN, NOT_JUDGED = "holds", "not shown", "cannot be judged"
#: Longest caption, in tokens.
_MAX_NEW_TOKENS = 48


def read_pictures(
    models: Mapping[str, CodeModel],
    samples: Sequence[Sample],
    *,
    score: ScoreCaption,
    seed: int = 0,
) -> dict[str, dict[str, FloatArray]]:
    """Let models describe pictures, each sample its own and another one's.

    Parameters
    ----------
    models : mapping of str to CodeModel
        By name.
    samples : sequence of Sample
        At least two samples of a caption data set.
    score : callable
        ``score(sample, caption)`` returns the overlap of named and true objects.
    seed : int
        Seed of the derangement that exchanges pictures.

    Returns
    -------
    dict of str to dict
        By model and picture (:data:`OWN`, :data:`ANOTHER`), overlaps ``(sample,)``.

    Examples
    --------
    >>> scores = read_pictures(models, samples, score=score)  # doctest: +SKIP
    >>> scores["teal-512"]["own picture"].mean()  # doctest: +SKIP
    0.61
    """
    found: dict[str, dict[str, FloatArray]] = {}
    for name, own in models.items():
        generate = partial(own.model.generate, samples, max_new_tokens=_MAX_NEW_TOKENS)
        texts = {OWN: generate(), ANOTHER: generate(perceptual="shuffled", seed=seed)}
        found[name] = {arm: _score_all(samples, each, score) for arm, each in texts.items()}
    return found


def draw_pictures(
    own: CodeModel,
    samples: Sequence[Sample],
    *,
    describe: Describe,
    seed: int = 0,
    greedy: bool = False,
) -> dict[str, list[_RgbPixels]]:
    """Draw the pictures of samples, with ceilings and floors.

    Parameters
    ----------
    own : CodeModel
        A model with codes.
    samples : sequence of Sample
        At least two samples with pictures.
    describe : callable
        ``describe(sample)`` returns the text that its picture is drawn from.
    seed : int
        Seed of the derangement, and of the codes that are drawn.
    greedy : bool
        As in :meth:`ima.models.code_model.CodeModel.draw`.

    Returns
    -------
    dict of str to list of ndarray
        By arm (:data:`DRAWING_ARMS`), a picture ``(height, width, channel)`` uint8 per sample.

    Examples
    --------
    >>> list(draw_pictures(own, samples, describe=describe))[0]  # doctest: +SKIP
    'the real picture'
    """
    true = own.read_codes(samples)
    descriptions = [describe(sample) for sample in samples]
    words = [description.prompt for description in descriptions]
    order = draw_derangement(len(samples), seed=seed, contents=words)
    draw = partial(own.draw, seed=seed, greedy=greedy)
    codes = {
        TRUE_CODES: true,
        DRAWN: draw(descriptions),
        DRAWN_FROM_ANOTHER: draw([descriptions[other] for other in order]),
        OTHER_CODES: true[order],
    }
    real = [np.asarray(sample.load(), np.uint8) for sample in samples]
    return {REAL: real} | {arm: list(own.decode(each)) for arm, each in codes.items()}


def read_back(
    reader: FrozenModel,
    samples: Sequence[Sample],
    pictures: Mapping[str, Sequence[_RgbPixels]],
    *,
    score: ScoreCaption,
) -> dict[str, FloatArray]:
    """Let another model describe pictures, and compare with what was to be drawn.

    Parameters
    ----------
    reader : FrozenModel
        A model that describes pictures.
    samples : sequence of Sample
        What was to be drawn.
    pictures : mapping of str to sequence of ndarray
        By arm, a picture per sample, from :func:`draw_pictures`.
    score : callable
        As in :func:`read_pictures`.

    Returns
    -------
    dict of str to ndarray
        By arm, overlaps ``(sample,)``. Those of another picture or description are means over all
        other samples, and not of the one that was drawn for each.

    Examples
    --------
    >>> pictures = draw_pictures(own, samples, describe=describe)  # doctest: +SKIP
    >>> read_back(reader, samples, pictures, score=score)["the real picture"]  # doctest: +SKIP
    array([0.5, 1. , 0. ])
    """
    texts: dict[str, list[str]] = {}
    for arm, each in pictures.items():
        if _OF_OTHERS.get(arm) in pictures:
            continue
        shown = [
            replace(sample, media=partial(_return_pixels, pixels))
            for sample, pixels in zip(samples, each, strict=True)
        ]
        texts[arm] = reader.generate(shown, max_new_tokens=_MAX_NEW_TOKENS)
    return {
        arm: _score_all(samples, texts[arm], score)
        if arm in texts
        else _score_others(samples, texts[_OF_OTHERS[arm]], score)
        for arm in pictures
    }


def _score_others(
    samples: Sequence[Sample], captions: Sequence[str], score: ScoreCaption
) -> FloatArray:
    """Score each sample with the captions of all samples of other contents, ``(sample,)``.

    One other sample drawn for each would add its luck, which no interval over samples sees.
    """
    contents = np.array([sample.content_key for sample in samples], dtype=object)
    names, places = np.unique(np.array(captions, dtype=object), return_inverse=True)
    means = []
    for sample, content in zip(samples, contents, strict=True):
        others = places[contents != content]
        values = {int(own): score(sample, str(names[own])) for own in np.unique(others)}
        means.append(np.mean([values[int(own)] for own in others]))
    return np.array(means)


def _return_pixels(pixels: _RgbPixels) -> _RgbPixels:
    return pixels


def _score_all(
    samples: Sequence[Sample], captions: Sequence[str], score: ScoreCaption
) -> FloatArray:
    return np.array([score(*pair) for pair in zip(samples, captions, strict=True)])


@torch.no_grad()
def measure_code_losses(
    own: CodeModel,
    samples: Sequence[Sample],
    *,
    describe: Describe,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, FloatArray]:
    """Measure how well a model predicts the codes of pictures from descriptions.

    No decoder and no second model stands between: the loss is what the model was trained on.

    Parameters
    ----------
    own : CodeModel
        A model with codes.
    samples : sequence of Sample
        At least two samples with pictures.
    describe : callable
        ``describe(sample)`` returns the text that its picture is drawn from.
    seed : int
        Seed of the derangement that exchanges descriptions.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    dict of str to ndarray
        After its own description and after another one, ``(sample,)``: mean over a picture's tiles,
        in nats per code, over words and codes.

    Examples
    --------
    >>> losses = measure_code_losses(own, samples, describe=describe)  # doctest: +SKIP
    >>> losses["its description"].mean() < losses["another description"].mean()  # doctest: +SKIP
    True
    """
    texts = [describe(sample) for sample in samples]
    order = draw_derangement(len(samples), seed=seed, contents=[text.prompt for text in texts])
    given = {OWN_DESCRIPTION: texts, ANOTHER_DESCRIPTION: [texts[other] for other in order]}
    codes, hook_points = own.read_codes(samples), own.model.hook_points
    found = {}
    for arm, descriptions in given.items():
        parts: list[FloatArray] = []
        for start in range(0, len(samples), batch_size):
            rows = slice(start, start + batch_size)
            batch = assemble_drawings(own.model, descriptions[rows], codes=codes[rows])
            states: Any = hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
            logits = hook_points.unembed(states[find_places(batch)]).double()
            targets = codes[rows].flatten() + own.n_words
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            parts.append(loss.reshape(codes[rows].shape).mean(dim=1).cpu().numpy())
        found[arm] = np.concatenate(parts)
    return found


def tabulate_overlaps(scores: Mapping[str, Mapping[str, FloatArray]]) -> pd.DataFrame:
    """Tabulate mean overlaps, or losses, with their intervals over samples.

    Parameters
    ----------
    scores : mapping of str to mapping of str to ndarray
        By model and arm, ``(sample,)``.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``arm``, ``value``, ``low``, ``high`` and ``n``.

    Examples
    --------
    >>> tabulate_overlaps({"dense": {"own picture": np.ones(8)}})["value"].tolist()
    [1.0]
    """
    rows = []
    for model, arms in scores.items():
        for arm, values in arms.items():
            rows.append({"model": model, "arm": arm, **asdict(compute_mean_score(values))})
    return pd.DataFrame(rows)


def reads_own_picture(scores: Mapping[str, FloatArray], *, seed: int = 0) -> bool:
    """Return whether a model names more of its own picture than of another one.

    Where the control does not, codes have nothing to lose, and no comparison with it tells.

    Parameters
    ----------
    scores : mapping of str to ndarray
        Of one model, from :func:`read_pictures`.
    seed : int
        Seed of the resamples.

    Examples
    --------
    >>> reads_own_picture({OWN: np.ones(9), ANOTHER: np.zeros(9)})
    True
    >>> reads_own_picture({OWN: np.zeros(9), ANOTHER: np.zeros(9)})
    False
    """
    return bool(compute_score_gain(scores[OWN], scores[ANOTHER], seed=seed).low > 0)


def judge_codes(
    reading: Mapping[str, Mapping[str, FloatArray]],
    drawing: Mapping[str, Mapping[str, FloatArray]],
    losses: Mapping[str, Mapping[str, FloatArray]],
    *,
    dense: str,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare arms as the method's promises say, paired over samples.

    Parameters
    ----------
    reading : mapping of str to mapping of str to ndarray
        From :func:`read_pictures`: models with codes from the smallest codebook to the largest, and
        the control.
    drawing : mapping of str to mapping of str to ndarray
        By model with codes, from :func:`read_back`; the largest codebook is judged.
    losses : mapping of str to mapping of str to ndarray
        By model with codes, from :func:`measure_code_losses`.
    dense : str
        Name of the control without codes.
    seed : int
        Seed of the resamples.

    Returns
    -------
    pandas.DataFrame
        ``statement``, ``unit``, ``difference`` (an :class:`~ima.stats.intervals.Interval`) and
        ``outcome``: where the first arm is to score higher, :data:`HOLDS` if the interval is above
        zero; where it is not to exceed the second, if it is below
        :data:`ima.stats.scores.LARGEST_GAIN`; else :data:`NOT_SHOWN`. Statements about drawings are
        :data:`NOT_JUDGED` where the true codes of a picture, decoded, do not show more than those
        of another picture: then no drawing could.

    Examples
    --------
    >>> read = {name: {OWN: np.ones(100), ANOTHER: np.zeros(100)} for name in ("teal-8", "dense")}
    >>> drawn = {"teal-8": {arm: np.zeros(100) for arm in DRAWING_ARMS}}
    >>> lost = {"teal-8": {OWN_DESCRIPTION: np.zeros(100), ANOTHER_DESCRIPTION: np.ones(100)}}
    >>> judge_codes(read, drawn, lost, dense="dense")["outcome"].tolist()[:5]
    ['holds', 'holds', 'holds', 'holds', 'not shown']
    """
    names = [name for name in reading if name != dense]
    largest = names[-1]
    compared: list[tuple[str, FloatArray, FloatArray, bool]] = [
        (f"{more} reads more than {fewer}", reading[more][OWN], reading[fewer][OWN], True)
        for fewer, more in pairwise(names)
    ]
    own, drawn, lost = reading[largest], drawing[largest], losses[largest]
    predicts = f"{largest} predicts the codes of a picture better from its own description"
    compared += [
        (f"{dense} reads its own picture", reading[dense][OWN], reading[dense][ANOTHER], True),
        (f"{largest} does not read more than {dense}", own[OWN], reading[dense][OWN], False),
        (f"{largest} reads its own picture", own[OWN], own[ANOTHER], True),
        (predicts, lost[ANOTHER_DESCRIPTION], lost[OWN_DESCRIPTION], True),
        (f"{largest}: the codes of a picture, decoded, say more than those of another picture",
         drawn[TRUE_CODES], drawn[OTHER_CODES], True),
    ]  # fmt: skip
    about_drawings: list[tuple[str, FloatArray, FloatArray, bool]] = [
        (f"{largest} draws its own description", drawn[DRAWN], drawn[DRAWN_FROM_ANOTHER], True),
        (f"{largest}: a drawing says more than the codes of another picture", drawn[DRAWN],
         drawn[OTHER_CODES], True),
        (f"{largest}: a drawing does not say more than the codes of its picture", drawn[DRAWN],
         drawn[TRUE_CODES], False),
    ]  # fmt: skip
    decodes = compute_score_gain(drawn[TRUE_CODES], drawn[OTHER_CODES], seed=seed)
    can_judge = is_shown(decodes, better=True)
    rows: list[dict[str, Any]] = []
    for statement, first, second, better in compared + about_drawings:
        difference = compute_score_gain(first, second, seed=seed)
        outcome = HOLDS if is_shown(difference, better=better) else NOT_SHOWN
        if not can_judge and len(rows) >= len(compared):
            outcome = NOT_JUDGED
        unit = "nats per code" if statement == predicts else "overlap"
        rows.append(
            {"statement": statement, "unit": unit, "difference": difference, "outcome": outcome}
        )
    return pd.DataFrame(rows)


def measure_code_mass(
    own: CodeModel, samples: Sequence[Sample], *, describe: Describe, batch_size: int = 32
) -> xr.DataArray:
    """Measure through the logit lens which share of the probability lies on codes.

    The rest lies on words. Sequences that read hold a picture's codes and its caption; sequences
    that draw hold its description, and places and codes in turn.

    Parameters
    ----------
    own : CodeModel
        A model with codes.
    samples : sequence of Sample
        Samples of a caption data set.
    describe : callable
        ``describe(sample)`` returns the text that its picture is drawn from.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    xarray.DataArray
        ``(text, position, layer)``: mean over a sample's tokens of each of :data:`LENS_POSITIONS`,
        a fraction. The attribute ``chance`` is the share of codes in the vocabulary.

    Examples
    --------
    >>> mass = measure_code_mass(own, samples, describe=describe)  # doctest: +SKIP
    >>> mass.sel(position="places")[:, -1].mean()  # doctest: +SKIP
    0.99
    """
    parts: list[FloatArray] = []
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        read = own.model.encode(part)
        descriptions = [describe(sample) for sample in part]
        drawn = assemble_drawings(own.model, descriptions, codes=own.read_codes(part))
        places, textual = find_places(drawn), drawn.modality == 0
        kinds = torch.stack([textual, places, (drawn.modality > 0) & ~places], dim=1)
        both = [_measure_mass(own, batch, each) for batch, each in (
            (read, read.kinds), (drawn, kinds),
        )]  # fmt: skip
        parts.append(np.concatenate(both, axis=1))
    vocabulary = own.model.hook_points.vocab_size
    return xr.DataArray(
        np.concatenate(parts),
        {"position": list(LENS_POSITIONS), "layer": range(own.model.layers + 1)},
        ("text", "position", "layer"),
        attrs={"units": "fraction of the probability", "chance": 1 - own.n_words / vocabulary},
    )


def _measure_mass(own: CodeModel, batch: Batch, kinds: Any) -> FloatArray:
    """Return the mass on codes, ``(sample, kind, layer)``."""
    states = capture_activations(own.model, batch, hook_points=["resid_post"])["resid_post"]
    curves = []
    for state in states.values():
        logs, _ = apply_logit_lens(own.model.hook_points, state, kinds=kinds)
        array = xr.DataArray(logs.cpu().numpy(), dims=("sample", "kind", "vocabulary"))
        curves.append(compute_mass_from(array, first=own.n_words).to_numpy())
    return np.stack(curves, axis=-1)


def capture_code_means(
    models: Mapping[str, CodeModel],
    samples: Sequence[Sample],
    *,
    separated: bool = False,
    batch_size: int = 32,
) -> dict[str, dict[Treatment, xr.DataArray]]:
    """Capture the mean states of perceptual and textual tokens in each model.

    Parameters
    ----------
    models : mapping of str to CodeModel
        By name.
    samples : sequence of Sample
        Read with their captions.
    separated : bool
        Whether textual tokens are kept from attending to perceptual ones, in all blocks.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    dict of str to dict
        By model and treatment, ``(sample, kind, layer, hidden)`` of the residual stream.

    Examples
    --------
    >>> capture_code_means(models, samples)["dense"]["standardised"].dims  # doctest: +SKIP
    ('sample', 'kind', 'layer', 'hidden')
    """
    return {
        name: capture_treated_means(
            own.model,
            own.model.encode_batches(samples, batch_size=batch_size),
            separated=separated,
        )
        for name, own in models.items()
    }


def compute_code_alignment(
    means: Mapping[str, Mapping[Treatment, xr.DataArray]],
    *,
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, xr.Dataset]:
    """Compute alignment by layer, matched minus all pairs, for each model.

    If percepts said nothing of their own sample's text, the difference would be zero.

    Parameters
    ----------
    means : mapping of str to mapping of str to xarray.DataArray
        From :func:`capture_code_means`.
    resamples : int
        Bootstrap resamples of samples, the same for all models.
    seed : int
        Same seed, same draws.

    Returns
    -------
    dict of str to xarray.Dataset
        By model, ``estimate`` ``(treatment, layer)`` and ``draws`` ``(draw, treatment, layer)``,
        differences of cosines.

    Examples
    --------
    >>> compute_code_alignment(means)["dense"]["treatment"].values[0]  # doctest: +SKIP
    'raw'
    """
    found = {}
    for name, own in means.items():
        curves: dict[str, xr.Dataset] = {
            treatment: compute_alignment_curves(
                {"pictures": treated}, resamples=resamples, seed=seed
            )["matched minus all"]
            for treatment, treated in own.items()
        }
        found[name] = stack_alignment_curves(curves, dim="treatment")
    return found
