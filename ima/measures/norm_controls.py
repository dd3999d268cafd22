"""What the controls of F1.3 and F1.4 say, in sentences that follow the intervals."""

from __future__ import annotations

from collections.abc import Mapping

from ima.stats.intervals import Interval

#: By measure of :data:`ima.measures.norms.CHANGE_MEASURES`, the cause that it removes.
_CAUSES = {
    "norm-matched cosine": "a difference of norms",
    "mean-centred cosine": "a direction that all tokens of a kind share",
    "cosine without sinks": "a sink",
}


def describe_scaling(before: Mapping[str, Interval], after: Mapping[str, Interval]) -> str:
    """Say from where to where the control run of F1.3 moves the smallest ratio of each model.

    Parameters
    ----------
    before, after : mapping of str to Interval
        By model, the smallest log₂ ratio of norms
        (:func:`ima.measures.norms.compute_norm_ratio`) as it is and with equal norms at the input.

    Examples
    --------
    >>> ratio = {"lm": Interval(1.2, 1.1, 1.3, n=8)}
    >>> describe_scaling(ratio, {"lm": Interval(-0.5, -0.6, -0.4, n=8)})
    'Equal norms at the input move the smallest log₂ ratio of lm from 1.200 to -0.500.'
    """
    moved = [
        f"of {name} from {before[name].value:.3f} to {one.value:.3f}"
        for name, one in after.items()
        if name in before
    ]
    if not moved:
        return "No model has a control run."
    return f"Equal norms at the input move the smallest log₂ ratio {', '.join(moved)}."


def describe_change_controls(gaps: Mapping[str, Interval], *, margin: float) -> str:
    """Say whether perceptual tokens change slowly, and which control explains it.

    Parameters
    ----------
    gaps : mapping of str to Interval
        By measure of :data:`ima.measures.norms.CHANGE_MEASURES`, the cosine of perceptual tokens
        one layer on minus that of textual ones (:func:`ima.measures.norms.compute_drift_gap`), at
        the same layers. Measures that are no cosines are left out.
    margin : float
        The smallest difference of cosines that counts.

    Examples
    --------
    >>> gaps = {"cosine": Interval(0.4, 0.3, 0.5, n=8)}
    >>> gaps["norm-matched cosine"] = Interval(0.0, -0.01, 0.01, n=8)
    >>> describe_change_controls(gaps, margin=0.02)
    'Perceptual tokens turn less: their cosine is higher by 0.400 [0.300, 0.500], n = 8. A \
difference of norms explains this: without it, the difference is 0.000 [-0.010, 0.010], n = 8.'
    """
    plain, controls = gaps["cosine"], {name: gaps[name] for name in _CAUSES if name in gaps}
    if plain.low <= margin:
        found = (
            f"Perceptual tokens do not turn less by more than the margin of {margin:g}: the "
            f"difference of cosines is {plain}. So the controls have nothing to explain."
        )
        values = [f"{name} {one.value:.3f}" for name, one in controls.items()]
        return f"{found} They give: {', '.join(values)}." if values else found
    sentences = [f"Perceptual tokens turn less: their cosine is higher by {plain}."]
    for name, one in controls.items():
        explains = "may explain"
        if one.high <= margin:
            explains = "explains"
        elif one.low > margin:
            explains = "explains only a part of" if one.high < plain.low else "does not explain"
        cause = _CAUSES[name].capitalize()
        sentences.append(f"{cause} {explains} this: without it, the difference is {one}.")
    return " ".join(sentences)
