"""Parameters of a notebook: declared with a type and a comment, and checked before it runs."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ima.errors import ParameterError, UnknownNameError

_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "None": None,
}


@dataclass(frozen=True)
class NotebookParameter:
    """A line ``name: type = default  # comment`` of a notebook's parameter cell.

    Parameters
    ----------
    name : str
        Name of the variable.
    annotation : str
        The type as written, for example ``"list[str] | None"``.
    default : object
        The default value.
    comment : str
        The meaning of the parameter.
    """

    name: str
    annotation: str
    default: Any
    comment: str

    def check(self, value: Any) -> Any:
        """Return the value if it has the declared type.

        Raises
        ------
        ParameterError
            If it has another type.

        Examples
        --------
        >>> NotebookParameter("samples", "int", 200, "how many").check("many")
        Traceback (most recent call last):
        ...
        ima.errors.ParameterError: Parameter 'samples' must be int; found 'many' (str).
        """
        try:
            return self._adapter().validate_python(value, strict=True)
        except ValidationError:
            raise self._make_type_error(value) from None

    def parse(self, text: str) -> Any:
        """Parse the value from the text of a command line.

        Lists are JSON (``'["ln1", "ln2"]'``) or separated by commas (``ln1,ln2``).

        Raises
        ------
        ParameterError
            If the text is not a value of the declared type.

        Examples
        --------
        >>> NotebookParameter("hook_points", "list[str]", [], "which").parse("attn_out,mlp_post")
        ['attn_out', 'mlp_post']
        >>> NotebookParameter("samples", "int", 200, "how many").parse("48")
        48
        """
        adapter = self._adapter()
        optional = "None" in self.annotation.replace(" ", "").split("|")
        if optional and text.lower() == "none":
            return None
        # Not JSON, or of another type: pydantic's error is a ValueError too.
        with suppress(ValueError):
            return adapter.validate_strings(text)
        with suppress(ValueError):
            return adapter.validate_python(json.loads(text), strict=True)
        if self.annotation.startswith(("list", "tuple")):
            # Each item becomes what the type says: "2024" may be a number or the name of a folder.
            parts = [part.strip() for part in text.split(",") if part.strip()]
            with suppress(ValueError):
                return adapter.validate_python(parts, strict=False)
        raise self._make_type_error(text)

    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(_resolve(ast.parse(self.annotation, mode="eval").body, self.name))

    def _make_type_error(self, value: Any) -> ParameterError:
        message = (
            f"Parameter {self.name!r} must be {self.annotation}; "
            f"found {value!r} ({type(value).__name__})."
        )
        return ParameterError(message)


def parse_parameter_cell(source: str) -> tuple[NotebookParameter, ...]:
    """Parse the parameters that a cell declares.

    Parameters
    ----------
    source : str
        Code of the cell tagged ``parameters``: lines ``name: type = literal  # comment``.

    Returns
    -------
    tuple of NotebookParameter
        In the order of the cell.

    Raises
    ------
    ParameterError
        If a line has no type, or its value is not a literal of that type.

    Examples
    --------
    >>> parse_parameter_cell("samples: int = 200  # samples per data set")[0].comment
    'samples per data set'
    """
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if (
            not isinstance(node, ast.AnnAssign)
            or not isinstance(node.target, ast.Name)
            or node.value is None
        ):
            raise ParameterError(
                "A parameter cell contains lines such as 'samples: int = 200  # how many'; "
                f"found {ast.unparse(node)!r}."
            )
        annotation = ast.unparse(node.annotation)
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ParameterError(
                f"The default of parameter {node.target.id!r} must be a literal; "
                f"found {ast.unparse(node.value)!r}."
            ) from None
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        comment = next((comments[line] for line in lines if line in comments), "")
        parameter = NotebookParameter(node.target.id, annotation, default, comment)
        parameter.check(default)
        parameters.append(parameter)
    return tuple(parameters)


def check_parameter_values(
    parameters: Sequence[NotebookParameter],
    *,
    values: Mapping[str, Any],
    text: bool = False,
    hint: str = "",
) -> dict[str, Any]:
    """Check values against the parameters that a notebook declares.

    Parameters
    ----------
    parameters : sequence of Parameter
        From :func:`parse_parameter_cell`.
    values : mapping of str to object
        By name.
    text : bool
        The values are texts of a command line, to be parsed.
    hint : str
        The command that lists the parameters; the error of an unknown name shows it.

    Returns
    -------
    dict of str to object
        The values in their declared types.

    Raises
    ------
    UnknownNameError
        If a name is not declared.
    ParameterError
        If a value has another type.

    Examples
    --------
    >>> declared = parse_parameter_cell("samples: int = 200  # samples per data set")
    >>> check_parameter_values(declared, values={"samples": "48"}, text=True)
    {'samples': 48}
    """
    declared = {parameter.name: parameter for parameter in parameters}
    for name in values:
        if name not in declared:
            raise UnknownNameError.among(
                kind="parameter", asked=name, available=declared, hint=hint
            )
    return {
        name: declared[name].parse(value) if text else declared[name].check(value)
        for name, value in values.items()
    }


def _resolve(node: ast.expr, name: str) -> Any:
    """Return the type of an annotation without evaluating code of the notebook."""
    if isinstance(node, ast.Constant) and node.value in (None, ...):
        return node.value
    if isinstance(node, ast.Name) and node.id in _TYPES:
        return _TYPES[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _resolve(node.left, name) | _resolve(node.right, name)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id in {"list", "tuple", "dict"}:
            return _TYPES[node.value.id][tuple(_resolve(item, name) for item in inner)]
    raise ParameterError(
        f"Parameter {name!r} has the type {ast.unparse(node)!r}, which is not supported. "
        "Available: int, float, str, bool, None, and list, tuple, dict, | of these."
    )
