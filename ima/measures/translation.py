"""Translation to words (F1.5): how often percepts show words of their own text in the logit lens.

The percept of a sample shows the ten likeliest words of its mean distribution over perceptual
tokens. For all pairs of samples i, j of a data set whose texts each have a content word that the
other lacks::

    own   = fraction of pairs in which percept i shows a content word of text i that text j lacks
    other = fraction of pairs in which percept i shows a content word of text j that text i lacks
    F1.5  = max over data sets and layers of own − other

A percept that is translated to its text scores 1, however many words texts share. Words that the
lens shows for every sample score exactly 0, because each pair counts in both directions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from ima.errors import ParameterError
from ima.measures.similarity import check_same_layers
from ima.measures.vocabulary import LENS_HINT
from ima.stats import FloatArray, RowIndices
from ima.stats.intervals import Interval, compute_lowest_point
from ima.stats.resampling import BootstrapWeights, draw_dataset_weights, label_draws

#: Whose text has a shown word: that of the percept, or that of the other sample of the pair.
TEXT_SIDES = ("own text", "another text")


def list_content_words(
    references: Sequence[str], *, vocabulary: Sequence[str]
) -> list[frozenset[str]]:
    """List the content words of each text, by the entry of the vocabulary that shows them.

    A word that occurs in more than half of the texts is no content word: it cannot tell what one
    of them is about. This leaves out articles and phrases that all texts share, in any language and
    any world. A word that is no entry of the vocabulary is shown by the longest entry with which it
    begins, which stands for the first of its pieces.

    Parameters
    ----------
    references : sequence of str
        The texts of one data set.
    vocabulary : sequence of str
        The entries, as the tokenizer writes them. Case and surrounding space do not count.

    Returns
    -------
    list of frozenset of str
        One per text: entries in lower case, without space.

    Examples
    --------
    >>> vocabulary = [" a", " bee", " and", " oct", "opus", " Cat"]
    >>> texts = ["A bee and a cat.", "an octopus", "a cat", "a bee"]
    >>> [sorted(words) for words in list_content_words(texts, vocabulary=vocabulary)]
    [['and', 'bee', 'cat'], ['oct'], ['cat'], ['bee']]
    """
    entries = {_normalize_entry(entry) for entry in vocabulary} - {""}
    shown = []
    for text in references:
        words = re.findall(r"\w+", text.lower())
        shown.append({entry for word in words if (entry := _find_entry(word, entries))})
    counts = Counter(entry for own in shown for entry in own)
    return [frozenset(e for e in own if 2 * counts[e] <= len(shown)) for own in shown]


def _normalize_entry(entry: str) -> str:
    return str(entry).strip().lower()


def _find_entry(word: str, entries: set[str]) -> str:
    """Return the longest entry with which a word begins; empty if there is none."""
    starts = (word[:length] for length in range(len(word), 0, -1))
    return next((start for start in starts if start in entries), "")


def compute_translation_rates(
    log_probs: Mapping[str, xr.DataArray],
    *,
    references: Mapping[str, Sequence[str]],
    words: int = 10,
    resamples: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Compute how often percepts show words of their own text, and of another text.

    Parameters
    ----------
    log_probs : mapping of str to xarray.DataArray
        ``/logit_lens/log_probability`` of each data set, ``(sample, kind, layer, vocabulary)``,
        with the coord ``word`` on ``vocabulary``. The coord ``id`` on ``sample`` identifies
        contents that data sets share. One layer is read at a time.
    references : mapping of str to sequence of str
        By data set, the text of each sample, in the order of the samples. Further texts only count
        to tell which words are content words.
    words : int
        Number of likeliest words that a percept shows.
    resamples : int
        Number of bootstrap resamples of contents.
    seed : int
        Same seed, same draws.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(text, dataset, layer)`` and ``draws`` ``(draw, text, dataset, layer)``:
        fractions of pairs of samples of different contents, by :data:`TEXT_SIDES`; the coord
        ``contents`` on ``dataset``, the number of contents. Data sets without two texts that each
        have a content word of their own are left out.

    Raises
    ------
    ParameterError
        If no data set has two such texts, a sample has no perceptual tokens, or layers or
        vocabularies differ.

    Examples
    --------
    >>> lens = xr.DataArray(
    ...     np.log([[[[0.7, 0.2, 0.1]]], [[[0.2, 0.7, 0.1]]]]),
    ...     dims=("sample", "kind", "layer", "vocabulary"),
    ...     coords={"kind": ["perceptual"], "layer": [0]},
    ... ).assign_coords(word=("vocabulary", ["bee", "cat", "a"]))
    >>> given = {"references": {"caption": ["a bee", "a cat"]}, "resamples": 2}
    >>> compute_translation_rates({"caption": lens}, words=1, **given)["estimate"].values.tolist()
    [[[1.0]], [[0.0]]]
    >>> compute_translation_rates({"caption": lens}, words=2, **given)["estimate"].values.tolist()
    [[[1.0]], [[1.0]]]
    """
    layers = check_same_layers(log_probs, hint=LENS_HINT)
    weights, contents, n = draw_dataset_weights(log_probs, resamples=resamples, seed=seed)
    rates = {}
    for name, array in log_probs.items():
        texts = list_content_words(references[name], vocabulary=array["word"].to_numpy().tolist())
        entries = sorted(set().union(*texts))
        own = texts[: array.sizes["sample"]]
        has = np.array([[entry in text for entry in entries] for text in own], dtype=bool)
        compared = _find_compared_pairs(has, contents[name])
        if compared.any():
            shows = _list_shown_entries(array, entries=entries, words=words, name=name)
            rates[name] = _count_pairs(shows, has=has, compared=compared, weights=weights[name])
    if not rates:
        raise ParameterError(
            f"No two texts of {', '.join(log_probs)} each have a content word that the other lacks."
        )
    coords = {
        "text": list(TEXT_SIDES),
        "dataset": list(rates),
        "layer": layers.to_numpy(),
        "contents": ("dataset", [np.unique(contents[name]).size for name in rates]),
    }
    values = np.stack(list(rates.values()), axis=2)
    return label_draws(values, ("text", "dataset", "layer"), coords=coords, n=n)


def _find_compared_pairs(has: npt.NDArray[np.bool_], contents: RowIndices) -> npt.NDArray[np.bool_]:
    """Find the pairs of two contents whose texts each have a word that the other lacks."""
    # Counted in floats: numpy multiplies matrices of bool and int without BLAS.
    alone = has.astype(np.float32) @ (~has).T.astype(np.float32) > 0
    compared: npt.NDArray[np.bool_] = alone & alone.T & (contents[:, None] != contents)
    return compared


def _list_shown_entries(
    log_probs: xr.DataArray, *, entries: Sequence[str], words: int, name: str
) -> npt.NDArray[np.bool_]:
    """Return which entries are among the likeliest words, ``(layer, sample, entry)``."""
    number = {entry: at for at, entry in enumerate(entries)}
    # Words that are no entry are collected in one further column.
    columns = np.array(
        [number.get(_normalize_entry(word), len(entries)) for word in log_probs["word"].to_numpy()]
    )
    count = min(words, len(columns))
    sizes = log_probs.sizes
    shows = np.zeros((sizes["layer"], sizes["sample"], len(entries) + 1), dtype=bool)
    for at in range(sizes["layer"]):
        values = log_probs.isel(layer=at).sel(kind="perceptual").to_numpy()
        if np.isnan(values).any():
            raise ParameterError(f"{name} has samples without perceptual tokens.")
        likeliest = np.argpartition(-values, count - 1, axis=-1)[:, :count]
        np.put_along_axis(shows[at], columns[likeliest], values=True, axis=-1)
    return shows[..., :-1]


def _count_pairs(
    shows: npt.NDArray[np.bool_],
    *,
    has: npt.NDArray[np.bool_],
    compared: npt.NDArray[np.bool_],
    weights: BootstrapWeights,
) -> FloatArray:
    """Return the fractions of pairs with a word of either side, ``(1 + draw, side, layer)``."""
    drawn = weights[:]

    def weigh_pairs(pairs: npt.NDArray[np.bool_]) -> FloatArray:
        weighed: FloatArray = ((drawn @ pairs) * drawn).sum(axis=1)
        return weighed

    total = weigh_pairs(compared)
    if not total.all():
        # A resample without a pair to compare takes each sample once.
        drawn = np.where(total[:, None] > 0, drawn, drawn[0])
        total = weigh_pairs(compared)
    present, absent = has.astype(np.float32), (~has).astype(np.float32)
    fractions = np.empty((len(drawn), len(TEXT_SIDES), len(shows)))
    for layer, shown in enumerate(shows):
        own = (shown * present) @ absent.T > 0
        other = (shown * absent) @ present.T > 0
        for side, hits in enumerate((own, other)):
            fractions[:, side, layer] = weigh_pairs(hits & compared) / total
    return fractions


def compute_translation_rate(rates: xr.Dataset) -> Interval:
    """Measure F1.5 as tested: how often percepts show a word of their own text, beyond chance.

    Parameters
    ----------
    rates : xarray.Dataset
        From :func:`compute_translation_rates`.

    Returns
    -------
    Interval
        Maximum over data sets and layers of the fraction of pairs with a word of the own text
        minus that with a word of another text. The lower end of its interval is simultaneous over
        data sets and layers, because the maximum is chosen among them.

    Examples
    --------
    >>> rates = xr.Dataset(
    ...     {"estimate": (("text", "dataset", "layer"), [[[0.5, 0.75]], [[0.25, 0.25]]])},
    ...     coords={"text": list(TEXT_SIDES), "dataset": ["caption"], "layer": [0, 1]},
    ...     attrs={"samples": 8},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> print(compute_translation_rate(rates))
    0.500 [0.500, 0.500], n = 8
    """
    # The maximum of a curve is minus the minimum of its mirror image.
    lowest = compute_lowest_point(-subtract_other_texts(rates), n=rates.attrs["samples"])
    value, low, high = (0.0 - end for end in (lowest.value, lowest.high, lowest.low))
    return Interval(value=value, low=low, high=high, n=lowest.n)


def compute_dataset_rates(rates: xr.Dataset) -> dict[str, Interval]:
    """Compute the rate of each data set at the layer where it is largest.

    Parameters
    ----------
    rates : xarray.Dataset
        From :func:`compute_translation_rates`.

    Returns
    -------
    dict of str to Interval
        By data set, as from :func:`compute_translation_rate`; simultaneous over layers.

    Examples
    --------
    >>> rates = xr.Dataset(
    ...     {"estimate": (("text", "dataset", "layer"), [[[0.5, 0.75]], [[0.25, 0.25]]])},
    ...     coords={"text": list(TEXT_SIDES), "dataset": ["caption"], "layer": [0, 1]},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> rates = rates.assign_coords(contents=("dataset", [8]))
    >>> print(compute_dataset_rates(rates)["caption"])
    0.500 [0.500, 0.500], n = 8
    """
    return {
        str(name): compute_translation_rate(
            rates.sel(dataset=[name]).assign_attrs(samples=int(rates["contents"].sel(dataset=name)))
        )
        for name in rates["dataset"].to_numpy()
    }


def describe_dataset_rates(by_title: Mapping[str, Interval]) -> str:
    """Say in which data sets the lens reads from percepts what their own text names.

    Parameters
    ----------
    by_title : mapping of str to Interval
        By title of a data set, its rate (:func:`compute_dataset_rates`).

    Examples
    --------
    >>> rates = {"image": Interval(0.5, 0.3, 0.7, n=8), "audio": Interval(0.1, 0.0, 0.3, n=8)}
    >>> print(describe_dataset_rates(rates))
    At the best layer, it is 0.500 [0.300, 0.700], n = 8 in image; 0.100 [0.000, 0.300], n = 8 in \
audio. So the lens reads from percepts of image some of what their own text names. For audio, \
the interval reaches zero, so its words need not be those of the sample.
    """
    found = "; ".join(f"{one} in {title}" for title, one in by_title.items())
    read = [title for title, one in by_title.items() if one.low > 0]
    unread = [title for title in by_title if title not in read]
    sentences = [f"At the best layer, it is {found}."]
    if read:
        named = "some of what their own text names"
        sentences.append(f"So the lens reads from percepts of {', '.join(read)} {named}.")
    if unread:
        sentences.append(
            f"For {', '.join(unread)}, the interval reaches zero, so its words need not be those "
            "of the sample."
        )
    return " ".join(sentences)


def subtract_other_texts(rates: xr.Dataset) -> xr.Dataset:
    """Subtract the fraction of pairs with a word of another text from that of the own text.

    Parameters
    ----------
    rates : xarray.Dataset
        From :func:`compute_translation_rates`.

    Returns
    -------
    xarray.Dataset
        ``estimate`` ``(dataset, layer)`` and ``draws`` ``(draw, dataset, layer)``.

    Examples
    --------
    >>> rates = xr.Dataset({"estimate": ("text", [0.5, 0.25])}, {"text": list(TEXT_SIDES)})
    >>> float(subtract_other_texts(rates)["estimate"])
    0.25
    """
    own, other = (rates.sel(text=side, drop=True) for side in TEXT_SIDES)
    return own - other


def describe_translation_rate(rates: xr.Dataset, *, titles: Mapping[str, str]) -> str:
    """Say where percepts show words of their own text most, and how often.

    Parameters
    ----------
    rates : xarray.Dataset
        From :func:`compute_translation_rates`.
    titles : mapping of str to str
        Title of each data set.

    Examples
    --------
    >>> rates = xr.Dataset(
    ...     {"estimate": (("text", "dataset", "layer"), [[[0.5, 0.75]], [[0.25, 0.25]]])},
    ...     coords={"text": list(TEXT_SIDES), "dataset": ["caption"], "layer": [0, 1]},
    ... ).assign(draws=lambda d: d["estimate"].expand_dims("draw"))
    >>> print(describe_translation_rate(rates, titles={"caption": "image caption"}))
    Percepts show words of their own text most often in image caption, at layer 1: in a \
fraction of 0.75 of the pairs of samples, against 0.25 for words of the other text.
    """
    difference = subtract_other_texts(rates)["estimate"]
    where = difference.argmax(("dataset", "layer"))  # a mapping, since several dims are given
    largest = rates["estimate"].isel({str(dim): at for dim, at in where.items()})
    own, other = (float(largest.sel(text=side)) for side in TEXT_SIDES)
    return (
        "Percepts show words of their own text most often in "
        f"{titles[str(largest['dataset'].item())]}, at layer {int(largest['layer'])}: in a "
        f"fraction of {own:.2f} of the pairs of samples, against {other:.2f} for words of the "
        "other text."
    )
