"""What shared experts change: captions of each modality, and alignment between modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pandas as pd
import xarray as xr

from ima.data.samples import Sample
from ima.data.worlds import world_of
from ima.errors import SampleError
from ima.interventions.treated_states import capture_treated_means
from ima.measures.modality_alignment import ALL, compare_curves
from ima.measures.router_weights import RouterDifference
from ima.measures.treatments import Treatment
from ima.models.perception import PerceptualSource
from ima.models.unified import UnifiedModel
from ima.stats.scores import compute_mean_score, compute_score_gain

#: The arms that are compared, in words.
ARM_NAMES: Mapping[str, str] = {"shared": "one connector", "separate": "separate connectors"}
#: The score of a caption: it names exactly what the sample shows, with all visible attributes.
EXACT = "exact_full"
_SOURCES: Mapping[PerceptualSource, str] = {
    "own": "own tokens", "shuffled": "tokens of another sample",
}  # fmt: skip
_ALPHA = 0.05


def score_modalities(
    model: UnifiedModel,
    samples: Mapping[str, Sequence[Sample]],
    *,
    metric: str = EXACT,
    max_new_tokens: int = 48,
    batch_size: int = 32,
    seed: int = 0,
) -> xr.DataArray:
    """Caption samples of each modality, with their own perceptual tokens and with others.

    Parameters
    ----------
    model : UnifiedModel
        The model.
    samples : mapping of str to sequence of Sample
        Caption samples of each modality, equally many.
    metric : str
        A score of single captions that the samples' world has.
    max_new_tokens, batch_size : int
        Longest caption, and samples that run at once.
    seed : int
        Seed of the derangement that gives each sample the tokens of another.

    Returns
    -------
    xarray.DataArray
        ``(source, modality, sample)``: 1 where a caption is exact, else 0. The sources are
        ``own`` and ``shuffled``.

    Raises
    ------
    SampleError
        If no world knows what a sample shows.

    Examples
    --------
    >>> score_modalities(model, samples).mean("sample").sel(source="own")  # doctest: +SKIP
    """
    values = [
        [
            _score_each(
                own,
                model.open(name).generate(
                    own,
                    max_new_tokens=max_new_tokens,
                    perceptual=source,
                    seed=seed,
                    batch_size=batch_size,
                ),
                metric=metric,
            )
            for name, own in samples.items()
        ]
        for source in _SOURCES
    ]
    return xr.DataArray(
        values,
        {"source": list(_SOURCES), "modality": list(samples)},
        ("source", "modality", "sample"),
        attrs={"long_name": "exact captions", "units": "1"},
    )


def _score_each(samples: Sequence[Sample], captions: Sequence[str], *, metric: str) -> list[float]:
    scores = []
    for sample, caption in zip(samples, captions, strict=True):
        world = world_of(sample)
        if world is None:
            raise SampleError(
                f"Sample {sample.id!r} carries the truth of no world, so that its caption cannot "
                "be scored. Use samples of a world's data set."
            )
        # A language model that was not trained to stop goes on in another line.
        first_line = caption.partition("\n")[0]
        scores.append(world.score_caption(sample, first_line)[metric])
    return scores


def tabulate_scores(scores: Mapping[str, xr.DataArray]) -> pd.DataFrame:
    """Tabulate the scores of each arm and modality with their intervals and floors.

    Parameters
    ----------
    scores : mapping of str to xarray.DataArray
        By arm, from :func:`score_modalities`.

    Returns
    -------
    pandas.DataFrame
        ``model`` (the arm in words), ``modality``, ``tokens`` (whose perceptual tokens were read),
        ``value``, ``low``, ``high`` and ``n``.

    Examples
    --------
    >>> scores = xr.DataArray(
    ...     [[[1.0, 0.0]], [[0.0, 0.0]]],
    ...     {"source": ["own", "shuffled"], "modality": ["depth"]},
    ...     ("source", "modality", "sample"),
    ... )
    >>> tabulate_scores({"shared": scores})[["tokens", "value", "n"]].values.tolist()
    [['own tokens', 0.5, 2], ['tokens of another sample', 0.0, 2]]
    """
    rows = []
    for source, words in _SOURCES.items():
        for arm, own in scores.items():
            for modality in own["modality"].to_numpy().tolist():
                values = own.sel(source=source, modality=modality).to_numpy()
                row = {"model": ARM_NAMES.get(arm, arm), "modality": modality, "tokens": words}
                rows.append(row | asdict(compute_mean_score(values)))
    return pd.DataFrame(rows)


def compare_arms(
    first: xr.DataArray, second: xr.DataArray, *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare the scores of two arms on the same samples, by modality and over all.

    Parameters
    ----------
    first, second : xarray.DataArray
        From :func:`score_modalities`, of the same samples.
    resamples : int
        Bootstrap resamples of samples. Over all modalities, the i-th samples of all form one unit.
    seed : int
        Same seed, same intervals.

    Returns
    -------
    pandas.DataFrame
        ``modality`` and ``difference``, an :class:`~ima.stats.intervals.Interval`: first less
        second.

    Examples
    --------
    >>> scores = xr.DataArray(
    ...     [[[1.0, 0.0]]],
    ...     {"source": ["own"], "modality": ["depth"]},
    ...     ("source", "modality", "sample"),
    ... )
    >>> compare_arms(scores, 0 * scores)["modality"].tolist()
    ['all', 'depth']
    """
    own = [scores.sel(source="own") for scores in (first, second)]
    pairs = {ALL: [scores.mean("modality") for scores in own]} | {
        name: [scores.sel(modality=name) for scores in own]
        for name in first["modality"].to_numpy().tolist()
    }
    return pd.DataFrame(
        {
            "modality": name,
            "difference": compute_score_gain(
                left.to_numpy(), right.to_numpy(), resamples=resamples, seed=seed
            ),
        }
        for name, (left, right) in pairs.items()
    )


def list_read_modalities(scores: xr.DataArray, *, seed: int = 0) -> list[str]:
    """List the modalities that a model captions better with own tokens than with another sample's.

    A modality counts if the whole interval of the gain is above zero. Where separate connectors
    read nothing, one connector has nothing to lose against them.

    Parameters
    ----------
    scores : xarray.DataArray
        From :func:`score_modalities`.
    seed : int
        Seed of the resamples.

    Examples
    --------
    >>> scores = xr.DataArray(
    ...     [[[1.0] * 9, [0.0] * 9], [[0.0] * 9, [0.0] * 9]],
    ...     {"source": ["own", "shuffled"], "modality": ["depth", "drawing"]},
    ...     ("source", "modality", "sample"),
    ... )
    >>> list_read_modalities(scores)
    ['depth']
    """
    found = []
    for name in scores["modality"].to_numpy().tolist():
        own, other = (scores.sel(source=source, modality=name).to_numpy() for source in _SOURCES)
        if compute_score_gain(own, other, seed=seed).low > 0:
            found.append(name)
    return found


def capture_modalities(
    model: UnifiedModel, samples: Mapping[str, Sequence[Sample]], *, batch_size: int = 32
) -> dict[Treatment, dict[str, xr.DataArray]]:
    """Capture the mean states of perceptual and textual tokens of each modality.

    Texts are kept from attending to perceptual tokens, so that their states carry no trace of them.
    Perceptual tokens stand first and never attend to text.

    Parameters
    ----------
    model : UnifiedModel
        The model.
    samples : mapping of str to sequence of Sample
        Samples of each modality, read with their captions.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    dict of str to dict
        By treatment and modality, ``(sample, kind, layer, hidden)`` of the residual stream. The
        coord ``id`` names the scene, which modalities may share.

    Examples
    --------
    >>> capture_modalities(model, samples)["raw"]["depth"].dims  # doctest: +SKIP
    ('sample', 'kind', 'layer', 'hidden')
    """
    found: dict[Treatment, dict[str, xr.DataArray]] = {}
    for name, own in samples.items():
        opened = model.open(name)
        batches = opened.encode_batches(own, batch_size=batch_size)
        treated = capture_treated_means(opened, batches, separated=True)
        scenes = [sample.content_key for sample in own]
        for treatment, means in treated.items():
            found.setdefault(treatment, {})[name] = means.assign_coords(id=("sample", scenes))
    return found


def judge_statements(
    scores: Mapping[str, xr.DataArray],
    *,
    similarity: Mapping[str, xr.Dataset],
    matched: Mapping[str, xr.Dataset],
    routers: RouterDifference,
    seed: int = 0,
) -> pd.DataFrame:
    """Say which of the method's statements hold, with shared experts against separate connectors.

    Parameters
    ----------
    scores : mapping of str to xarray.DataArray
        For ``shared`` and ``separate``, from :func:`score_modalities`.
    similarity, matched : mapping of str to xarray.Dataset
        For both, from :func:`ima.measures.modality_alignment.compare_modalities` and
        :func:`ima.measures.modality_alignment.align_modalities`.
    routers : RouterDifference
        From :func:`ima.measures.router_weights.compare_routers`.
    seed : int
        Seed of the resamples of scores.

    Returns
    -------
    pandas.DataFrame
        ``statement``, ``measured`` and ``holds``: whether the interval is above zero, or p is below
        0.05.

    Examples
    --------
    >>> judge_statements(
    ...     scores, similarity=similarity, matched=matched, routers=routers
    ... )["holds"].tolist()  # doctest: +SKIP
    [True, True, True, False, True]
    """
    own = scores["shared"]
    above = [
        compute_score_gain(*(each.sel(source=source).to_numpy() for source in _SOURCES), seed=seed)
        for each in own.transpose("modality", ...)
    ]
    gains = compare_arms(own, scores["separate"], seed=seed)["difference"]
    intervals = {
        "own tokens beat those of another sample in each modality (the least gain)": min(
            above, key=lambda gain: gain.low
        ),
        "one connector captions better than separate ones of equal size": gains.iloc[0],
    }
    apart = {
        "modalities are more similar with one connector": similarity,
        "one scene is more alike in two modalities with one connector": matched,
    }
    for statement, curves in apart.items():
        difference = compare_curves(curves["shared"], curves["separate"])["difference"]
        intervals[statement] = difference.iloc[0]
    rows = [
        {"statement": statement, "measured": str(interval), "holds": interval.low > 0}
        for statement, interval in intervals.items()
    ]
    different = {
        "statement": "routers differ between modalities",
        "measured": str(routers),
        "holds": routers.p < _ALPHA,
    }
    return pd.DataFrame([*rows, different])


def list_differences(table: pd.DataFrame) -> pd.DataFrame:
    """List compared intervals as texts, with the names of the arms as columns.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`ima.measures.modality_alignment.compare_curves` or
        :func:`ima.measures.modality_alignment.compare_text_alignment`.

    Examples
    --------
    >>> from ima.stats.intervals import Interval
    >>> own = Interval(0.1, 0.0, 0.2, 9)
    >>> table = pd.DataFrame([{"pair": "all", "first": own, "second": own, "difference": own}])
    >>> list_differences(table).columns.tolist()
    ['pair', 'one connector', 'separate connectors', 'difference']
    """
    return table.rename(columns=dict(zip(("first", "second"), ARM_NAMES.values(), strict=True)))


def join_arms(curves: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Join the curves of arms along a dim ``arm``, with the names of the arms.

    Parameters
    ----------
    curves : mapping of str to xarray.Dataset
        By arm, ``estimate`` ``(..., layer)`` and ``draws`` ``(draw, ..., layer)``.

    Examples
    --------
    >>> values = xr.DataArray([0.25, 0.75], dims="layer")
    >>> curve = xr.Dataset({"estimate": values, "draws": values.expand_dims("draw")})
    >>> join_arms({"shared": curve, "separate": curve})["arm"].values.tolist()
    ['one connector', 'separate connectors']
    """
    names = [ARM_NAMES.get(arm, arm) for arm in curves]
    joined = xr.concat(list(curves.values()), pd.Index(names, name="arm"))
    return joined.transpose("draw", "arm", ...)
