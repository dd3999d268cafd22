"""What a notebook could not measure, and why: models that it cannot serve are listed, not lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ima.errors import CacheError, ImaError

if TYPE_CHECKING:
    from IPython.display import Markdown
    from pandas.io.formats.style import Styler

    from ima.cache.cache_set import CacheSet

_FILE_SUFFIX = ".unserved.json"
_T = TypeVar("_T")
_Measured = TypeVar("_Measured")


@dataclass(frozen=True)
class UnmeasurableClaim:
    """A claim that a notebook cannot measure on a model.

    Parameters
    ----------
    claim, model, notebook : str
        Which.
    reason : str
        The error, in one line.
    """

    claim: str
    model: str
    notebook: str
    reason: str


@dataclass
class UnmeasurableLog:
    """Collects what one notebook cannot measure.

    Parameters
    ----------
    notebook : str
        The notebook's source.
    """

    notebook: str
    found: list[UnmeasurableClaim] = field(default_factory=list)

    @contextmanager
    def noting(self, claim: str, *, model: str) -> Iterator[None]:
        """Note an error of the package instead of stopping; any other error stops.

        Parameters
        ----------
        claim, model : str
            What is measured meanwhile.
        """
        try:
            yield
        except ImaError as error:
            self._note(claim, model, error)

    def _note(self, claim: str, model: str, error: ImaError) -> None:
        reason = " ".join(str(error).split())
        self.found.append(UnmeasurableClaim(claim, model, self.notebook, reason))

    def perceiving(self, families: Mapping[str, CacheSet], *claims: str) -> dict[str, CacheSet]:
        """Return the families that have perceptual tokens, and note the others.

        Parameters
        ----------
        families : mapping of str to Family
            From :func:`ima.cache.cache_set.open_cache_sets`.
        *claims : str
            What cannot be measured without perceptual tokens.

        Raises
        ------
        CacheError
            If none has any.
        """
        found = {}
        for name, family in families.items():
            if (family.members["perceptual"] > 0).all():
                found[name] = family
                continue
            for claim in claims:
                self._note(claim, name, _no_percepts(family))
        if not found:
            raise _no_percepts(next(iter(families.values())))
        return found

    def each(
        self, claim: str, families: Mapping[str, _T], measure: Callable[[_T], _Measured]
    ) -> dict[str, _Measured]:
        """Measure a claim on each family, and note those where it cannot be done.

        Parameters
        ----------
        claim : str
            What is measured.
        families : mapping of str to object
            By name. On the first, which a page shows in full, an error stops.
        measure : callable
            From a family to what is found.

        Returns
        -------
        dict
            By name, of the families that were measured.
        """
        found: dict[str, _Measured] = {}
        for name, family in families.items():
            if not found:
                found[name] = measure(family)
                continue
            with self.noting(claim, model=name):
                found[name] = measure(family)
        return found

    def listing(self) -> Styler | Markdown:
        """Show what was noted as a table, or say that there is nothing."""
        import pandas as pd
        from IPython.display import Markdown

        if not self.found:
            text = "None: every model that the page was given was measured."
            return Markdown(text)  # type: ignore[no-untyped-call]
        columns = ["claim", "model", "reason"]
        return pd.DataFrame([asdict(one) for one in self.found])[columns].style.hide(axis="index")

    def write(self, claims: str | Path) -> Path:
        """Write what was noted beside the file of records, also where it is nothing."""
        path = _make_log_path(claims)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(one) for one in self.found], indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def _no_percepts(family: CacheSet) -> CacheError:
    paths = ", ".join(family.members["path"])
    return CacheError(
        f"{paths}: no perceptual tokens. The model reads text alone, or attends to media across; "
        "the claim is about perceptual tokens among the others."
    )


def _make_log_path(claims: str | Path) -> Path:
    """Return the file of what is missing that stands beside a file of records."""
    path = Path(claims)
    return path.with_name(path.name.replace(".claims.json", "") + _FILE_SUFFIX)


def read_unmeasurable_claims(paths: Iterable[str | Path]) -> list[UnmeasurableClaim]:
    """Read what notebooks could not measure, from beside their files of records."""
    found = []
    for path in map(_make_log_path, paths):
        if path.is_file():
            found += [
                UnmeasurableClaim(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))
            ]
    return found
