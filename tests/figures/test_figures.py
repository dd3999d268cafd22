"""Figures: distinct colours and markers, legends outside the axes, one panel per entry."""

from __future__ import annotations

import contextlib
import warnings
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from scipy import stats

from ima import figures
from ima.data.samples import MODALITIES
from ima.figures.contrast import compute_contrast
from ima.figures.figure_data import format_csv
from ima.figures.phone import draw_narrow
from ima.measures import cones, control_comparison
from ima.stats import intervals
from ima.studies import model_comparison, model_summary
from ima.studies.model_families import ComparedModel

LAYER = {"layer": np.arange(5)}


@pytest.fixture(autouse=True)
def _theme():
    with mpl.rc_context():
        mpl.use("agg")
        figures.set_theme()
        yield
        assert plt.get_fignums() == [], "a figure was left open and would be shown twice"


def curves(names, dim="curve"):
    values = np.random.default_rng(0).normal(size=(20, len(names), 5))
    draws = xr.DataArray(values, dims=("draw", dim, "layer"), coords={dim: names, **LAYER})
    return xr.Dataset({"estimate": draws.mean("draw"), "draws": draws})


def legend(figure):
    """Return the names of series: in a legend, in the order of the panels, or at ends of lines."""
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    assert len([*figure.legends, *legends]) <= 1
    for each in [*figure.legends, *legends]:
        return [" ".join(text.get_text().split()) for text in each.texts]
    written = [text.get_text() for axes in figure.axes for text in axes.texts]
    written = [" ".join(text.split()) for text in written]
    named = [a.get_label() for x in figure.axes for a in x.get_legend_handles_labels()[0]]
    named = list(dict.fromkeys(named))
    assert sorted(written) == sorted(named)
    return named


def test_modalities_differ_in_colour_and_in_marker():
    assert len({figures.SERIES_COLOURS[name] for name in MODALITIES}) == 4
    assert len({figures.SERIES_MARKERS[name] for name in MODALITIES}) == 4


def test_similarity_curves_name_every_curve():
    part = curves(list(cones.CONE_CURVES))
    figure = figures.plot_curve_panels({"": part}, dim="curve", ylabel="similarity")
    assert legend(figure) == [figures.SERIES_LABELS[name] for name in cones.CONE_CURVES]
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == (
        part["estimate"].to_numpy().tolist()
    )
    assert figure.axes[0].get_xlabel().startswith("layer")


def test_modality_panels_share_a_scale():
    parts = {"between": curves(["PvsP"]), "image": curves(["PvsT", "PvsP"])}
    figure = figures.plot_curve_panels(parts, dim="curve", ylabel="similarity")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["between", "image"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert len(legend(figure)) == 2


def test_gap_curves_show_the_null():
    gap = curves(["PvsP", "TvsT"], dim="side")
    low, high = intervals.compute_simultaneous_band(gap["draws"])
    figure = figures.plot_curve_panels(
        {"": gap.assign(low=low, high=high)}, dim="side", ylabel="difference", suffix=" − PvsT",
        null=0, null_label="null: no difference",
    )  # fmt: skip
    names = legend(figure)
    (bottom, *_), *_ = figure.axes[0].collections[0].get_paths()[0].vertices[1:].T[1:]
    assert bottom == low.sel(side="PvsP")[0]
    assert names == ["PvsP − PvsT", "TvsT − PvsT", "null: no difference"]


def test_class_separation_shows_each_class_and_both_nulls():
    names = {**LAYER, "class": ["image", "text"]}
    silhouette = xr.Dataset(
        {
            "estimate": (("class", "layer"), np.full((2, 5), 0.5)),
            "draws": (("draw", "class", "layer"), np.linspace(0, 1, 30).reshape(3, 2, 5)),
        },
        coords=names,
    )
    neighbours = xr.Dataset(
        {
            "by_class": (("class", "layer"), np.full((2, 5), 0.75)),
            "low": ("layer", np.full(5, 0.7)),
            "high": ("layer", np.full(5, 0.8)),
        },
        coords=names,
        attrs={"expected": 0.4},
    )
    figure = figures.plot_class_separation(silhouette, neighbours)
    assert legend(figure) == ["image", "text", "null", "interval of all classes"]
    left, right = ([line.get_ydata()[0] for line in axes.lines] for axes in figure.axes)
    assert left == [0.5, 0.5, 0]
    assert right == [0.75, 0.75, 0.4]
    assert len(left) == len(figure.axes[0].collections) + 1  # each class has its band


@pytest.mark.parametrize("layers", [1, 3, 8])
def test_strip_has_a_panel_per_layer(layers):
    spread = np.random.default_rng(0).normal(size=(layers, 6, 2))
    embedded = xr.DataArray(
        spread, dims=("layer", "point", "axis"), coords={"layer": range(layers)}
    )
    figure = figures.plot_tsne_by_layer(embedded, classes=pd.Series(["image", "text", "audio"] * 2))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"layer {i}" for i in range(layers)]
    assert legend(figure) == ["audio", "image", "text"]


def test_norm_curves_leave_out_a_kind_without_tokens():
    norms = xr.DataArray(
        np.ones((4, 2, 5)),
        dims=("sample", "kind", "layer"),
        coords={"kind": ["perceptual", "textual"], **LAYER},
    )
    assert legend(figures.plot_norm_curves(norms)) == ["perceptual", "textual"]
    alone = norms.where(norms["kind"] == "textual")
    assert legend(figures.plot_norm_curves(alone)) == ["textual"]


def test_score_dots_show_scores_beside_floors():
    ends = {"value": 0.9, "low": 0.85, "high": 0.93}
    floor = {f"floor_{key}": value - 0.5 for key, value in ends.items()}
    row = {"name": "image-qa", "modality": "image", **ends, **floor}
    without = {**row, "name": "text", "modality": "text", "floor_value": np.nan}
    figure = figures.plot_scores_with_floors(
        pd.DataFrame([row, without]), xlabel="share of samples"
    )
    assert legend(figure) == ["image: floor", "image: score", "text: score"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["image-qa", "text"]


def test_pictures_and_spectrograms_hold_what_they_are_given():
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(5)]
    figure = figures.plot_images(images, titles=list("abcde"))
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert [int(image.max()) for image in shown] == [0, 1, 2, 3, 4]
    mels = np.zeros((2, 30, 16), np.float32)
    figure = figures.plot_spectrograms(mels, seconds=0.3, titles=["x", "y"])
    assert figure.axes[0].images[0].get_array().shape == (16, 30)
    assert figure.axes[0].get_xlabel() == "time (s)"


def test_the_same_figure_is_the_same_bytes(tmp_path):
    images = [np.zeros((4, 4, 3), np.uint8)]
    written = []
    for name in ("a.svg", "b.svg"):
        figures.plot_images(images).savefig(tmp_path / name, metadata={"Date": None})
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_titles_of_images_are_drawn_as_they_are_written(tmp_path):
    images = [np.zeros((8, 8, 3), np.uint8)] * 2
    figure = figures.plot_images(images, titles=["$a$ or $b$", "two\nlines \x12"])
    assert [axes.get_title("left") for axes in figure.axes] == [r"\$a\$ or \$b\$", "two\nlines  "]
    figure.savefig(tmp_path / "figure.svg")  # a warning of a missing letter is an error


def zoo_scores():
    row = {"value": 0.6, "low": 0.5, "high": 0.7, "floor_value": 0.2, "floor_low": 0.1}
    row |= {"floor_high": 0.3, "none_value": 0.1, "majority_value": 0.3, "words_value": 0.9}
    groups = {"image captions": "image", "video captions": "video"}
    return pd.DataFrame(
        [
            {**row, "group": group, "modality": modality, "name": name}
            for group, modality in groups.items()
            for name in ("one", "two")
        ]
    )


def test_a_ladder_has_a_panel_a_task_and_a_row_a_model():
    figure = figures.plot_zoo_scores(zoo_scores(), xlabel="share of test samples")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "image captions",
        "video captions",
    ]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_yticklabels()] == ["one", "two"]
    assert set(legend(figure)) == {
        "image: score", "image: tokens of another sample",
        "video: score", "video: tokens of another sample",
        "no perceptual tokens", "most frequent answer", "text-only ceiling",
    }  # fmt: skip


def test_training_curves_have_a_line_a_model():
    row = {"value": 0.5, "low": 0.4, "high": 0.6}
    steps = pd.DataFrame(
        [
            {
                "name": f"{m} {n}",
                "modality": m,
                "group": g,
                "step": s,
                **row,
            }
            for m, models in (("image", 2), ("audio", 8))
            for n in range(models)
            for g in ("captions", "questions")
            for s in (0, 10)
        ]
    )
    figure = figures.plot_training_curves(steps, ylabel="share")
    assert [axes.get_title("left") for axes in figure.axes] == [
        "image captions", "image questions", "audio captions (1 of 2)", "audio questions (1 of 2)",
        "audio captions (2 of 2)", "audio questions (2 of 2)",
    ]  # fmt: skip
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 4, 4, 4, 4]


def compared(count, *, stage="finished", dataset="mini-image-qa"):
    rng = np.random.default_rng(count)
    return [
        ComparedModel(f"{stage}@{at}", f"m{at}", dataset, stage, 20, *rng.random((2, 11)))
        for at in range(count)
    ]


def test_models_have_the_colour_of_their_modality_and_panels_their_correlation():
    panels = {
        "few": compared(2),
        "some": compared(5, dataset="mini-audio-qa"),
        "many": [*compared(12), *compared(6, stage="step")],
    }
    figure = figures.plot_models_by_proxy(panels, ylabel="score", named=True)
    assert legend(figure) == ["image", "audio"]
    *places, slot = figure.axes
    assert [len(axes.texts) for axes in places] == [2, 5, 0]
    assert all(axes.get_xlabel() for axes in places)
    assert not slot.has_data()
    x, y = ([getattr(m, name)[0] for m in panels["some"]] for name in ("ima_score", "score"))
    titles = [axes.get_title(loc="left") for axes in places]
    rho = stats.spearmanr(x, y).statistic
    assert titles[:2] == ["few\nn = 2", f"some\nρ = {rho:.2f}, n = 5"]
    assert titles[2].endswith("n = 18")
    assert not figures.plot_models_by_proxy(panels, ylabel="score").axes[0].texts


def test_names_of_models_cover_neither_each_other_nor_leave_the_panel():
    numbers = np.array([0.5])
    same = [
        ComparedModel(f"encoder {at}", "", "mini-image-qa", "finished", 9, numbers + x, numbers)
        for at, x in enumerate((0.0, 0.0, 1.0, 1.0))
    ]
    figure = figures.plot_models_by_proxy({"all": same}, ylabel="score", named=True)
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    panel = axes.get_window_extent()
    assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in boxes)


def compare_summaries(title, count):
    rng = np.random.default_rng(count)
    proxies = [{name: rng.random(11) for name in model_summary.PROXIES} for _ in range(count)]
    points = {
        f"m{at}": model_summary.ModelSummary("m", "d", "", 20, own, {"exact_match": rng.random(11)})
        for at, own in enumerate(proxies)
    }
    return model_comparison.ModelComparison(title, "exact_match", points)


def test_the_map_of_proxies_has_a_row_a_comparison():
    comparisons = [compare_summaries("few", 5), compare_summaries("many", 12)]
    table = model_comparison.correlate_comparisons(comparisons, resamples=10)
    heat = figures.plot_proxy_correlations(table).axes[0]
    assert [tick.get_text() for tick in heat.get_xticklabels()] == list(model_summary.PROXIES)
    assert [tick.get_text() for tick in heat.get_yticklabels()] == ["few (5)", "many (12)"]


def test_objects_have_a_panel_a_modality_and_steering_one_a_metric():
    curve = pd.DataFrame({"layer": range(4), "estimate": 0.6, "low": 0.5, "high": 0.7})
    lines = [("lm, image", "vit"), ("lm, image", "mae"), ("other, image", "vit")]
    auc = pd.concat([curve.assign(panel=panel, line=line) for panel, line in lines])
    figure = figures.plot_object_auc(auc)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["lm, image", "other, image"]
    assert legend(figure) == ["vit", "mae", "no difference"]
    vit, mae = figure.axes[0].lines[:2]
    assert figure.axes[1].lines[0].get_color() == vit.get_color() != mae.get_color()
    rows = [
        {"direction": d, "amount": a, "metric": m, "value": 0.2, "low": 0.1, "high": 0.3, "n": 9}
        for d in ("toward text", "random directions")
        for a in (-1.0, 0.0, 1.0)
        for m in ("chair_s", "poll errors: random")
    ]
    figure = figures.plot_interval_sweep(
        pd.DataFrame(rows), panel="metric", line="direction", x="amount", xlabel="x", ylabel="y"
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "chair s",
        "poll errors: random",
    ]
    assert legend(figure) == ["toward text", "random directions"]


def test_a_sweep_has_a_panel_a_task_and_a_curve_a_mask():
    rng = np.random.default_rng(0)
    rows = [
        {"task": task, "mask": mask, "sparsity": level, "whole": 0.9, "value": value}
        for task in "abcd"
        for mask in ("first", "second")
        for level, value in zip((0.2, 0.5, 0.8), sorted(rng.random(3))[::-1], strict=True)
    ]
    swept = pd.DataFrame(rows)
    swept = swept.assign(low=swept["value"] - 0.1, high=swept["value"] + 0.1)
    figure = figures.plot_score_by_sparsity(swept)
    assert legend(figure) == ["first", "second"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == list("abcd")
    for axes in figure.axes:
        first, second = axes.containers
        # Bars of two masks at one sparsity do not cover each other.
        assert (first.lines[0].get_xdata() < second.lines[0].get_xdata()).all()
    assert all(axes.get_xlabel().startswith("sparsity") for axes in figure.axes)


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_long_names_of_columns_leave_room_for_the_map(rows, tmp_path):
    masks = [f"SparseGPT on all tasks {at}" for at in range(10)]
    matrix = pd.DataFrame(np.full((rows, 10), 0.5), columns=masks)
    matrix.index = [f"llama-mini (ST), 50% → 59% {at}" for at in range(rows)]
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.set_theme()
        figure = figures.plot_heatmap(
            matrix, label="score", ylabel="model, share removed", xlabel="mask"
        )
        figure.savefig(tmp_path / "map.svg")
    height = figure.axes[0].get_window_extent().height / figure.dpi
    assert height > 0.25 * rows


def test_runs_have_different_colours_from_step_0_on():
    runs = {
        name: {
            0: intervals.Interval(0.2 + at / 10, 0.1, 0.5, 9),
            100: intervals.Interval(0.3, 0.2, 0.4, 9),
        }
        for at, name in enumerate(("big, image", "small, image", "llava-a", "llava-b"))
    }
    # A score may lack runs and steps; each score has a scale of its own.
    scored = {"big, image": {100: intervals.Interval(30.0, 20.0, 40.0, 9)}}
    figure = figures.plot_score_by_step({"IMA score": runs, "task score": scored})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["IMA score", "task score"]
    assert figure.axes[0].get_ylim()[1] < 1 < figure.axes[1].get_ylim()[0]
    axes = figure.axes[0]
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines]
    assert len(set(looks)) == 4
    assert len({colour for colour, *_ in looks}) == 4
    assert axes.get_xlim()[0] == 0
    assert legend(figure) == list(runs)


def test_hook_points_have_a_point_a_stream():
    names = ["ln1", "mlp_out"]
    draws = xr.DataArray(
        np.random.default_rng(0).normal(size=(200, 2)), dims=("draw", "hook_point"),
        coords={"hook_point": names},
    )  # fmt: skip
    gaps = xr.Dataset({"estimate": draws.mean("draw"), "draws": draws})
    streams = {"stream of the same layer": gaps, "stream that it reads": gaps + 1}
    figure = figures.plot_block_gaps({"a": streams, "b": streams})
    assert len(figure.axes) == 2
    assert legend(figure) == [figures.SERIES_LABELS[name] for name in streams]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    first, second, _ = axes.lines  # and the null
    np.testing.assert_allclose(first.get_xdata(), gaps["estimate"])
    np.testing.assert_allclose(second.get_xdata(), gaps["estimate"] + 1)
    assert (first.get_ydata() < second.get_ydata()).all()
    left = axes.collections[0].get_segments()[0][0, 0]
    assert left == pytest.approx(float(draws[:, 0].quantile(0.025)))


def test_controls_have_a_point_a_draw():
    names = [control_comparison.UNCHANGED, *control_comparison.CONTROLS]
    values = np.array([[0.5] * 3, [0.1, 0.2, 0.3], [0.3, 0.7, 0.2], [0.4] * 3])
    scores = xr.Dataset({"estimate": (("condition", "draw"), values)}, {"condition": names})
    figure = figures.plot_control_draws({"a": scores})
    model, *controls = figure.axes[0].lines
    assert set(model.get_ydata()) == {0.5}
    assert [sorted(line.get_ydata()) for line in controls] == [
        [0.1, 0.2, 0.3], [0.2, 0.3, 0.7], [0.4]
    ]  # fmt: skip
    assert len(legend(figure)) == 4


def test_agreement_is_plotted_with_chance():
    numbers = pd.RangeIndex(1, 4, name="tasks")
    agreement = pd.DataFrame({"q": [0.2, 0.3, 0.5], "up": [0.1, 0.1, 0.8]}, index=numbers).T
    chance = pd.Series([0.5, 0.4, 0.1], index=numbers)
    figure = figures.plot_vote_agreement(agreement, chance_agreement=chance)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["q", "up", "if tasks chose independently"]
    cells = [float(text.get_text()) for text in figure.axes[0].texts]
    assert cells == [0.2, 0.3, 0.5, 0.1, 0.1, 0.8, 0.5, 0.4, 0.1]


def test_sparsities_are_written_in_their_cells():
    sparsities = pd.DataFrame({"q": [0.25, 0.5], "up": [0.75, 0.125]}, index=[1, 2])
    figure = figures.plot_heatmap(sparsities.T, label="sparsity", xlabel="block")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0.25", "0.50", "0.75", "0.12"]
    assert figure.axes[0].get_xlabel() == "block"


def test_better_language_models_are_on_the_right_of_the_ladder():
    rows = [("whole", "none", 1), ("4-bit", "bits", 2), ("10-blocks", "blocks", 3)]
    rows += [("random-0", "random", 4), ("random-1", "random", 5)]
    table = pd.DataFrame(
        {"rung": rung, "damage": damage, "measure": measure, "value": at, "low": at, "high": at}
        for rung, damage, at in rows
        for measure in ("loss", "IMA score", "exact_set")
    )
    figure = figures.plot_ladder(
        table, {"IMA score": "IMA score", "exact_set": "exact captions"}, loss="loss"
    )
    assert [axes.get_title("left") for axes in figure.axes] == ["IMA score", "exact captions"]
    assert all(axes.xaxis_inverted() for axes in figure.axes)
    assert [text.get_text() for text in figure.axes[0].texts] == ["4", "10"]
    assert len(legend(figure)) == 4


def test_plans_have_a_row_each_and_a_panel_for_each_score_and_cost():
    rows = [
        {"plan": name, "metric": "exact_match", "score": kept, "low": kept - 0.1, "high": 1.0}
        | {"gflops ratio": cost, "cached ratio": 1.0}
        for name, kept, cost in (("nothing left out", 0.9, 1.0), ("half", 0.6, 0.75))
    ]
    table = pd.DataFrame(rows)
    figure = figures.plot_plans(
        {"questions": table, "captions": table.drop(columns="gflops ratio")}
    )
    panels = figure.axes
    assert [axes.get_xlabel().splitlines()[0] for axes in panels] == [
        "questions",
        "captions",
        "operations",
        "KV cache",
    ]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [
        "nothing left out",
        "half",
    ]
    assert panels[0].yaxis_inverted()
    dots = [line for line in panels[2].lines if line.get_linestyle() == "None"]
    assert dots[0].get_xdata().tolist() == [1.0, 0.75]
    assert figure.legends == []


def test_relative_scores_have_a_panel_a_model_and_a_marker_a_task():
    rows = [
        {"model": model, "plan": plan, "task": task, "value": 0.5, "low": 0.4, "high": 0.8}
        for model in ("one", "other")
        for plan in ("half", "control")
        for task in ("captions", "questions")
    ]
    figure = figures.plot_relative_scores(pd.DataFrame(rows), threshold=0.9)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["one", "other"]
    assert legend(figure) == ["captions", "questions"]
    for axes in figure.axes:
        upright = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]
        assert {1, 0.9} <= set(upright)
        places = [container[0].get_ydata()[0] for container in axes.containers]
        assert places == pytest.approx([-0.1, 0.1, 0.9, 1.1])
    assert figure.axes[0].yaxis_inverted()


def test_a_narrow_figure_has_its_panels_below_each_other_and_its_labels_broken():
    table = pd.DataFrame(
        {"value": 0.5, "low": 0.4, "high": 0.6, "task": "captions", "model": ["one", "two"]}
    )
    plan = "smollm2/dinov2/image-caption with half of its tokens"
    wide = figures.plot_relative_scores(table.assign(plan=plan), threshold=0.9)
    with draw_narrow():
        narrow = figures.plot_relative_scores(table.assign(plan=plan), threshold=0.9)
    for figure, rows, columns in ((wide, 1, 2), (narrow, 2, 1)):
        spec = figure.axes[0].get_gridspec()
        assert (spec.nrows, spec.ncols) == (rows, columns)
    assert narrow.get_figwidth() < wide.get_figwidth()
    (label,) = [text.get_text() for text in narrow.axes[0].get_yticklabels()]
    assert max(map(len, label.splitlines())) <= 20
    assert "".join(label.split()) == "".join(plan.split())
    # The numbers are the same.
    assert len(format_csv(narrow).splitlines()) == len(format_csv(wide).splitlines())


@pytest.mark.parametrize("colours", ["cividis", "viridis", "RdBu_r"])
def test_numerals_of_heat_maps_can_be_read(colours):
    matrix = pd.DataFrame(np.linspace(0, 1, 60).reshape(6, 10))
    figure = figures.plot_heatmap(matrix, label="overlap", vmin=0, vmax=1, cmap=colours)
    axes = figure.axes[0]
    (mesh,) = axes.collections
    cells = mesh.get_facecolors().reshape(6, 10, 4)
    for text in axes.texts:
        x, y = map(int, text.get_position())
        assert compute_contrast(text.get_color(), cells[y, x, :3]) >= 4.5


@pytest.mark.parametrize("narrow", [False, True])
def test_the_picture_of_the_book_shows_the_way_and_a_number_of_each_finding(narrow):
    part = curves(["P intra", "T intra", "PvsT"])
    names = [f"model {number}" for number in range(6)]
    overlap = pd.DataFrame({"value": 0.5, "low": 0.4, "high": 0.6}, index=names)
    with draw_narrow() if narrow else contextlib.nullcontext():
        figure = figures.plot_glance(
            np.zeros((8, 8, 3), np.uint8),
            parts=["encoder", "connector", "language model"],
            prompt="the picture shows",
            words="a red bee",
            cones=part,
            overlap=overlap,
            alignment={name: part["estimate"].sel(curve="PvsT") for name in names},
        )
    way, cosines, weights, depth = figure.axes[:4]
    said = " ".join(text.get_text() for text in way.texts)
    assert "a red bee" in said
    assert "connector" in said
    assert [text.get_text() for text in weights.get_yticklabels()] == names
    assert len(cosines.lines) == 3
    assert len(depth.lines) == 4
