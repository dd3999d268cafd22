"""Claims that a page cannot measure on a model: listed with the reason instead of stopping."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ima.claims.registry import CLAIMS
from ima.errors import CacheError, ImaError
from ima.files import write_json

if TYPE_CHECKING:
    from IPython.display import Markdown
    from pandas.io.formats.style import Styler

    from ima.cache.cache_set import CacheSet

_FILE_SUFFIX = ".not_measurable.json"
_T = TypeVar("_T")
_Measured = TypeVar("_Measured")


@dataclass(frozen=True)
class UnmeasurableClaim:
    """A claim that a notebook cannot measure on a model.

    Parameters
    ----------
    claim, model, notebook : str
        Id of the claim, name of the model, and path of the notebook.
    reason : str
        The error message, in one line.
    """

    claim: str
    model: str
    notebook: str
    reason: str


@dataclass
class UnmeasurableLog:
    """List of the claims that one page cannot measure.

    Parameters
    ----------
    claims : list of UnmeasurableClaim
        The list.

    Examples
    --------
    >>> log = UnmeasurableLog()
    >>> with log.record_errors("F1.5", model="opt-mini (ST)"):
    ...     raise CacheError("no logit lens in the cache")
    >>> [(each.claim, each.reason) for each in log.claims]
    [('F1.5', 'no logit lens in the cache')]
    """

    claims: list[UnmeasurableClaim] = field(default_factory=list)

    @contextmanager
    def record_errors(self, claim: str, *, model: str) -> Iterator[None]:
        """Catch an error of this package and list it; other errors are raised.

        Parameters
        ----------
        claim, model : str
            What the block measures.
        """
        try:
            yield
        except ImaError as error:
            self._append(claim, model, error)

    def _append(self, claim: str, model: str, error: ImaError) -> None:
        reason = " ".join(str(error).split())
        self.claims.append(UnmeasurableClaim(claim, model, CLAIMS[claim].notebook, reason))

    def select_with_perceptual_tokens(
        self, cache_sets: Mapping[str, CacheSet], *claims: str
    ) -> dict[str, CacheSet]:
        """Select the cache sets with perceptual tokens, and list the others.

        Parameters
        ----------
        cache_sets : mapping of str to CacheSet
            From :func:`ima.cache.cache_set.open_cache_sets`.
        *claims : str
            Ids of the claims that need perceptual tokens.

        Raises
        ------
        CacheError
            If no cache set has perceptual tokens.
        """
        selected = {}
        for name, cache_set in cache_sets.items():
            if (cache_set.members["perceptual"] > 0).all():
                selected[name] = cache_set
                continue
            for claim in claims:
                self._append(claim, name, _no_perceptual_tokens(cache_set))
        if not selected:
            raise _no_perceptual_tokens(next(iter(cache_sets.values())))
        return selected

    def measure_each(
        self, claim: str, cache_sets: Mapping[str, _T], measure: Callable[[_T], _Measured]
    ) -> dict[str, _Measured]:
        """Measure a claim on each model, and list the models that raise an error.

        Parameters
        ----------
        claim : str
            Id of the claim.
        cache_sets : mapping of str to object
            The models, by name. An error of the first is raised, because a page shows it in full.
        measure : callable
            Takes an entry of ``cache_sets`` and returns the result.

        Returns
        -------
        dict
            The results of the measured models, by name.
        """
        results: dict[str, _Measured] = {}
        for name, cache_set in cache_sets.items():
            if not results:
                results[name] = measure(cache_set)
                continue
            with self.record_errors(claim, model=name):
                results[name] = measure(cache_set)
        return results

    def show_table(self) -> Styler | Markdown:
        """Show the list as a table, or a sentence if it is empty."""
        import pandas as pd
        from IPython.display import Markdown

        if not self.claims:
            text = "None: this page measured every model that it was given."
            return Markdown(text)  # type: ignore[no-untyped-call]
        columns = ["claim", "model", "reason"]
        return pd.DataFrame(map(asdict, self.claims))[columns].style.hide(axis="index")

    def write(self, path: str | Path) -> Path:
        """Write the list, even if it is empty, next to the file of claim records ``path``."""
        own = _make_log_path(path)
        write_json(own, [asdict(each) for each in self.claims])
        return own


def _no_perceptual_tokens(cache_set: CacheSet) -> CacheError:
    paths = ", ".join(cache_set.members["path"])
    return CacheError(
        f"{paths}: no perceptual tokens. The model reads text only, or its language model attends "
        "to media by cross-attention; the claim compares perceptual tokens with textual ones."
    )


def _make_log_path(records: str | Path) -> Path:
    path = Path(records)
    return path.with_name(path.name.replace(".claims.json", "") + _FILE_SUFFIX)


def read_unmeasurable_claims(paths: Iterable[str | Path]) -> list[UnmeasurableClaim]:
    """Read the claims that pages could not measure.

    Parameters
    ----------
    paths : iterable of str or Path
        The files of claim records; the lists are read from the files next to them, if they exist.

    Examples
    --------
    >>> read_unmeasurable_claims(["book/runs/finding1.claims.json"])  # doctest: +SKIP
    """
    claims = []
    for path in map(_make_log_path, paths):
        if path.is_file():
            claims += [UnmeasurableClaim(**each) for each in json.loads(path.read_text("utf-8"))]
    return claims
