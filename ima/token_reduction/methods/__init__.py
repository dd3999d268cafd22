"""Token-reduction methods, one file each.

A file defines one subclass of :class:`ima.token_reduction.plans.Method`. A method that scores
tokens derives from :class:`ima.token_reduction.plans.PruneStep`: it names its score in ``choose``,
says in ``needs`` what it reads of the model, and computes the score in ``score``. Plans can name
the score as soon as the file is in this folder; no other file changes.
"""

from __future__ import annotations

import importlib
import pkgutil

from ima.token_reduction.plans import Method, PruneStep


def list_methods() -> dict[str, type[Method]]:
    """Return the methods by the names of their files.

    Examples
    --------
    >>> list_methods()["fastv"].__name__
    'FastV'
    """
    methods: dict[str, type[Method]] = {}
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        for value in vars(module).values():
            is_method = isinstance(value, type) and issubclass(value, Method)
            if is_method and value.__module__ == module.__name__:
                methods[file.name] = value
    return methods


def list_scorers() -> dict[str, type[PruneStep]]:
    """Return the methods that score tokens, by the value of ``choose`` that names them in a plan.

    Examples
    --------
    >>> sorted(list_scorers())
    ['attention', 'change', 'first', 'random', 'strided', 'summary']
    """
    scorers = (cls for cls in list_methods().values() if issubclass(cls, PruneStep))
    return {cls.model_fields["choose"].default: cls for cls in scorers}
