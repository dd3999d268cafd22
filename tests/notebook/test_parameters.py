"""Parameters of notebooks: declarations, and values from a command line."""

from __future__ import annotations

import pytest

from ima.errors import ParameterError
from ima.notebook.parameters import NotebookParameter, parse_parameter_cell


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("int", "-1", -1),
        ("float", "1e-3", 0.001),
        ("bool", "false", False),
        ("str", "12", "12"),
        ("str", "none", "none"),
        ("str | None", "none", None),
        ("int | None", "4", 4),
        ("list[str]", "attn_out,mlp_post", ["attn_out", "mlp_post"]),
        ("list[str]", '["attn_out"]', ["attn_out"]),
        ("list[int]", "1, 2", [1, 2]),
        ("tuple[int, ...]", "1,2", (1, 2)),
        ("dict[str, int]", '{"a": 1}', {"a": 1}),
    ],
)
def test_values_from_a_command_line(annotation, text, value):
    parsed = NotebookParameter("p", annotation, None, "").parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [("int", "1.5"), ("int", ""), ("list[int]", "a,b"), ("bool", "perhaps"), ("float", "x")],
)
def test_text_of_another_type(annotation, text):
    with pytest.raises(ParameterError, match="must be"):
        NotebookParameter("p", annotation, None, "").parse(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("samples = 200", "contains lines such as"),
        ("samples: int", "contains lines such as"),
        ("samples: int = len('x')", "must be a literal"),
        ("samples: int = 'x'", "must be int"),
        ("samples: Array = 1", "'Array', which is not supported"),
    ],
)
def test_declarations_that_are_refused(line, message):
    with pytest.raises(ParameterError, match=message):
        parse_parameter_cell(line)


def test_a_declaration_over_several_lines_keeps_its_comment():
    (parameter,) = parse_parameter_cell('caches: list[str] = [  # one each\n    "a",\n    "b",\n]')
    assert parameter.default == ["a", "b"]
    assert parameter.comment == "one each"
