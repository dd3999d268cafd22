"""The numbers of a figure, read back from what it shows."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from ima import figures
from ima.figures.figure_data import format_csv, tabulate_figure
from ima.figures.style import get_series_style, open_figure, plot_interval_points
from ima.figures.verdicts import plot_verdicts


@pytest.fixture(autouse=True)
def _theme():
    with plt.rc_context():
        figures.set_theme()
        yield
        assert plt.get_fignums() == []


def test_a_line_has_its_band_and_its_label():
    with open_figure(columns=2) as (figure, grid):
        for axes, title in zip(grid.flat, ("left", "right\nside"), strict=True):
            axes.set(title=title, xlabel="layer", ylabel="cosine")
            style = get_series_style("perceptual")
            # A legend names a series once, in the first panel.
            label = "percepts" if title == "left" else None
            axes.plot([0, 1, 2], [0.1, np.nan, 0.3], label=label, **style)
            axes.fill_between(
                [0, 1, 2], [0.05, 0.1, 0.2], [0.2, 0.3, 0.4], color=style["color"], alpha=0.2
            )
            axes.axhline(0.25, color="grey", label="null")
    table = tabulate_figure(figure)
    assert table["panel"].unique().tolist() == ["left", "right side"]
    lines = table[table["series"] == "percepts"]
    assert (
        lines[["x", "y", "low", "high"]].to_numpy().tolist()
        == [
            [0, 0.1, 0.05, 0.2],
            [2, 0.3, 0.2, 0.4],
        ]
        * 2
    )
    assert table.loc[table["series"] == "null", "y"].tolist() == [0.25, 0.25]
    assert set(table["x_label"]) == {"layer"}


def test_points_have_their_intervals_and_the_words_of_their_places():
    with open_figure() as (figure, grid):
        axes = grid[0, 0]
        rows = {"value": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.9]}
        plot_interval_points(axes, [-0.1, 0.9], pd.DataFrame(rows), fmt="o", label="score")
        axes.errorbar([0.5], [2], xerr=[[0.1], [0.2]], fmt="s", label="other")
        axes.set_xticks([0, 1], ["captions", "questions"])
    table = tabulate_figure(figure).set_index("series")
    assert table.loc["score", ["x", "y", "low", "high"]].to_numpy().tolist() == [
        ["captions", 0.5, 0.4, 0.6],
        ["questions", 0.7, 0.6, 0.9],
    ]
    assert table.loc["other", ["y", "x_low", "x_high"]].tolist() == [2, 0.4, 0.7]


def test_cells_have_the_words_of_rows_and_columns():
    matrix = pd.DataFrame([[0.25, np.nan], [0.5, 1.0]], index=["text", "image"], columns=["q", "k"])
    table = tabulate_figure(figures.plot_heatmap(matrix, label="overlap"))
    assert table[["x", "y", "value"]].to_numpy().tolist() == [
        ["q", "text", 0.25],
        ["q", "image", 0.5],
        ["k", "image", 1],
    ]


def test_rows_that_are_numbers_keep_them():
    matrix = pd.DataFrame([[0.25, 0.5]], index=[7], columns=np.array([3, 4]))
    table = tabulate_figure(figures.plot_heatmap(matrix, label="sparsity"))
    assert table[["x", "y"]].astype(int).to_numpy().tolist() == [[3, 7], [4, 7]]


def test_points_of_a_cloud_bars_and_lone_intervals_are_read():
    with open_figure() as (figure, grid):
        grid[0, 0].scatter([1, 2], [3, 4], label="cloud")
        grid[0, 0].bar([5], [6], label="bar")
        grid[0, 0].barh([2], [7], label="lying")
        grid[0, 0].hlines([8], [1], [3], label="span")
    found = tabulate_figure(figure).set_index("series")[["mark", "x", "y"]]
    assert found.loc["cloud"].to_numpy().tolist() == [["point", 1, 3], ["point", 2, 4]]
    assert found.loc["bar"].tolist() == ["bar", 5, 6]
    assert found.loc["lying"].tolist() == ["bar", 7, 2]
    assert found.loc["span"].tolist() == ["interval", 2, 8]


def test_a_picture_has_no_numbers():
    assert format_csv(figures.plot_images([np.zeros((4, 4, 3), np.uint8)])) is None


def test_csv_is_read_back_and_the_same_for_the_same_figure():
    table = pd.DataFrame(
        {"value": [0.2, -0.3], "low": [0.1, -0.4], "high": [0.3, -0.2]}, index=["a, (ST)", "b"]
    )
    table["verdict"] = ["supported", "contradicted"]
    # Ticks show between which values the seeds of a model lie; the other was trained once.
    table["lowest"], table["highest"] = [0.15, None], [0.25, None]
    figure = plot_verdicts(table, null=0, margin=0.02, direction="greater", title="F3.1")
    text = format_csv(figure)
    assert text == format_csv(plot_verdicts(table, null=0, margin=0.02, direction="greater",
                                            title="F3.1"))  # fmt: skip
    read = pd.read_csv(io.StringIO(text))
    points = read[read["mark"] == "point"]
    assert points["y"].tolist() == ["a, (ST)", "a, (ST)", "a, (ST)", "b"]
    assert points["x"].tolist() == [0.2, 0.15, 0.25, -0.3]
