"""Schema 1: caches with older names, which are read under the names of schema 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from ima.errors import CacheSchemaError

SCHEMA_1_VERSION = "1"

_HOOK_POINTS = {"sa": "attn_out", "fc1": "mlp_post", "fc2": "mlp_out"}
_GROUPS = {"lens": "logit_lens", "inputs": "input_norms"}
_PARAMETERS = {"taps": "hook_points", "lens": "logit_lens", "inputs": "input_norms"}
_BY_HOOK_POINT = ("means", "norms", "tokens")


def upgrade_path(path: str) -> str:
    """Return the name that a group, array or file of a schema 1 cache has in schema 2.

    Examples
    --------
    >>> upgrade_path("means/fc1/mean"), upgrade_path("inputs/fc1/sum_squares")
    ('means/mlp_post/mean', 'input_norms/fc1/sum_squares')
    """
    return _rename(path, groups=_GROUPS, hook_points=_HOOK_POINTS)


def downgrade_path(path: str) -> str:
    """Return the name that a group, array or file of schema 2 has in a schema 1 cache.

    Examples
    --------
    >>> downgrade_path("means/mlp_post/mean"), downgrade_path("logit_lens/word")
    ('means/fc1/mean', 'lens/word')
    """
    return _rename(path, groups=_invert(_GROUPS), hook_points=_invert(_HOOK_POINTS))


def _rename(path: str, *, groups: Mapping[str, str], hook_points: Mapping[str, str]) -> str:
    group, *rest = path.split("/")
    if rest and group in _BY_HOOK_POINT:
        rest[0] = hook_points.get(rest[0], rest[0])
    return "/".join([groups.get(group, group), *rest])


def _invert(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def upgrade_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the root attributes of a schema 1 cache with the names of schema 2.

    ``schema_version`` stays ``"1"``: it says how the files are named.

    Examples
    --------
    >>> parameters, layout = {"taps": ["sa"], "lens": 2}, {"widths": {"sa": 8}}
    >>> upgraded = upgrade_attributes({"parameters": parameters, "layout": layout})
    >>> upgraded["parameters"], upgraded["layout"]
    ({'hook_points': ['attn_out'], 'logit_lens': 2}, {'widths': {'attn_out': 8}})
    """
    parameters = {
        _PARAMETERS.get(name, name): value for name, value in attributes["parameters"].items()
    }
    parameters["hook_points"] = [_upgrade_hook_point(name) for name in parameters["hook_points"]]
    layout = dict(attributes["layout"])
    layout["widths"] = {_upgrade_hook_point(name): n for name, n in layout["widths"].items()}
    if "linears" in layout:
        layout["linear_in_features"] = layout.pop("linears")
    return {**attributes, "parameters": parameters, "layout": layout}


def _upgrade_hook_point(name: str) -> str:
    return _HOOK_POINTS.get(name, name)


def upgrade_tree(tree: xr.DataTree) -> xr.DataTree:
    """Return a schema 1 cache with the groups and attributes of schema 2; arrays stay lazy.

    Examples
    --------
    >>> upgrade_tree(xr.open_datatree("old.zarr", engine="zarr")).groups  # doctest: +SKIP
    ('/', '/means', '/samples', '/means/mlp_post')
    """
    groups = {
        upgrade_path(node.path.strip("/")): node.to_dataset(inherit=False) for node in tree.subtree
    }
    for path in ("", "samples"):
        groups[path].attrs = upgrade_attributes(groups[path].attrs)
    root = groups.pop("")
    return xr.DataTree.from_dict({"/": root, **groups})


def require_schema_2(attributes: Mapping[str, Any], *, address: str, command: str) -> None:
    """Refuse to write into a cache of schema 1.

    Raises
    ------
    CacheSchemaError
        If the cache has schema 1; the message has the command that makes it again.

    Examples
    --------
    >>> require_schema_2({"schema_version": "2"}, address="new.zarr", command="ima cache create")
    """
    if attributes["schema_version"] == SCHEMA_1_VERSION:
        raise CacheSchemaError(
            f"{address!r} has schema version {SCHEMA_1_VERSION!r}, which this version of ima reads "
            f"but does not write. Make it again: {command} --overwrite"
        )
