"""Every figure holds to the book's rules, with more and longer names than the book has."""

from __future__ import annotations

import contextlib

import figure_rules
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from figure_rules import find_faults
from matplotlib import pyplot as plt

from ima import figures
from ima.claims import error_rates
from ima.data.samples import MODALITIES
from ima.figures import verdicts
from ima.figures.contrast import compute_contrast
from ima.figures.figure_data import tabulate_figure
from ima.figures.phone import draw_narrow
from ima.measures import cones, control_comparison
from ima.stats.intervals import Interval
from ima.studies import model_comparison, model_summary
from ima.studies.model_families import ComparedModel

MODELS = [
    "smollm2 (ST)", "llama-mini (ST)", "llava-mini-3 (MT)", "llava-mini-1 (MT)", "tiny-llava (MT)",
    "tiny-qwen2-5-vl (MT)", "tiny-qwen2-audio (MT)",
]  # fmt: skip
HOOK_POINTS = ["ln1", "attn_out", "resid_mid", "ln2", "mlp_post", "mlp_out", "resid_post"]
LINEARS = [f"self_attn.{name}_proj" for name in "qkvo"] + [
    f"mlp.{name}_proj" for name in ("gate", "up", "down")
]
ENCODERS = [f"{name}-random-{at}" for at in range(3) for name in ("clip", "vit", "dinov2")]
PERCEIVED = ["image", "video", "audio"]
STEPS = (0, 125, 250, 500, 1000, 1500, 2000, 2500, 3000)


@pytest.fixture(autouse=True)
def _theme():
    with mpl.rc_context():
        mpl.use("agg")
        figures.set_theme()
        yield
        plt.close("all")


def curves(names, *, dim="curve", layers=31, **dims):
    shape = (20, len(names), *map(len, dims.values()), layers)
    walk = np.random.default_rng(len(names)).normal(size=shape).cumsum(-1) / 20
    coords = {dim: list(names), **dims, "layer": np.arange(layers)}
    draws = xr.DataArray(walk, coords, ("draw", dim, *dims, "layer"))
    return xr.Dataset({"estimate": draws.mean("draw"), "draws": draws})


def interval(at, high=0.1):
    return {"value": at, "low": at - 0.05, "high": at + high}


#: A percentile bootstrap of the least of several numbers may give such an interval.
OUTSIDE = {"value": 0.5, "low": 0.51, "high": 0.6}


def make_compared(count, *, modality="image", stage="finished"):
    rng = np.random.default_rng(count)
    return [
        ComparedModel(
            f"{stage}@{at}", ENCODERS[at % 9], f"mini-{modality}-qa", stage, 20, *rng.random((2, 9))
        )
        for at in range(count)
    ]


def make_class_separation():
    names = {"class": list(MODALITIES), "layer": np.arange(13)}
    own = curves(MODALITIES, dim="class", layers=13)
    by_class = own["estimate"].rename("by_class")
    band = {"low": ("layer", np.full(13, 0.7)), "high": ("layer", np.full(13, 0.8))}
    near = xr.Dataset({"by_class": by_class, **band}, names, {"expected": 0.3})
    return figures.plot_class_separation(own, near)


def make_proxy_map():
    comparisons = []
    for count, title in ((5, "llama-mini/vit/image-caption in training, chair_s"), (12, "few")):
        rng = np.random.default_rng(count)
        points = {
            f"m{at}": model_summary.ModelSummary(
                "m", "d", "", 20, {name: rng.random(9) for name in model_summary.PROXIES},
                {"exact_match": rng.random(9)},
            )
            for at in range(count)
        }  # fmt: skip
        comparisons.append(model_comparison.ModelComparison(title, "exact_match", points))
    table = model_comparison.correlate_comparisons(comparisons, resamples=10)
    return figures.plot_proxy_correlations(table)


def make_ladder():
    rungs = [("whole", "none"), ("8-bit", "bits"), ("4-bit", "bits"), ("3-bit", "bits")]
    rungs += [("20-blocks", "blocks"), ("10-blocks", "blocks"), ("random-0", "random")]
    titles = ["IMA score", "IMA score (input)", "matched minus all", "retrieval@1"]
    titles += ["linear CKA", "exact captions", "loss"]
    table = pd.DataFrame(
        {"rung": rung, "damage": damage, "measure": title, **interval(at % 3 / 10 + 0.01 * at)}
        for at, (rung, damage) in enumerate(rungs)
        for title in titles
    )
    return figures.plot_ladder(table, dict.fromkeys(titles[:-1], "") | {t: t for t in titles[:-1]},
                               loss="loss")  # fmt: skip


def make_glance():
    own = curves(["P intra", "T intra", "PvsT"])
    overlap = pd.DataFrame([interval(0.5)] * 7, MODELS)
    return figures.plot_glance(
        np.zeros((8, 8, 3), np.uint8),
        parts=["encoder\nDINOv2", "connector", "language model\nSmolLM2"],
        prompt="The picture shows", words="a watermelon, a taco and a pineapple in the sky",
        cones=own, overlap=overlap,
        alignment={name: own["estimate"].sel(curve="PvsT") for name in MODELS},
    )  # fmt: skip


def make_plans():
    names = [f"image-text interaction, random: knee, then after layer {at}" for at in range(18)]
    costs = {"gflops ratio": 0.7, "cached ratio": 1.0, "whole ratio": 0.8}
    row = {"score": 0.5, "low": 0.4, "high": 0.7, "metric": "exact_match", **costs}
    table = pd.DataFrame([{"plan": name, **row} for name in names])
    return figures.plot_plans({"mini-image-qa": table, "mini-image-caption": table})


def make_zoo_scores():
    row = interval(0.6) | {f"floor_{k}": v for k, v in interval(0.2).items()}
    row |= {"none_value": 0.1, "majority_value": 0.3, "words_value": 0.95}
    rows = [
        {**row, "group": f"Single task: {modality} captions", "modality": modality, "name": name}
        for modality in PERCEIVED
        for name in ("supervised: timesformer + llama-mini", "self-supervised: videomae + opt-mini")
    ]
    return figures.plot_zoo_scores(pd.DataFrame(rows), xlabel="fraction of test samples")


def make_sparsity():
    rows = [
        {"task": task, "mask": mask, "sparsity": level, "whole": 0.9, **interval(0.9 - level / 3)}
        for task in ("image caption", "image qa", "audio qa")
        for mask in (f"SparseGPT on all tasks {at}" for at in range(8))
        for level in (0.2, 0.5, 0.8)
    ]
    return figures.plot_score_by_sparsity(pd.DataFrame(rows))


def make_statistics():
    own = curves(HOOK_POINTS, dim="hook_point", kind=["perceptual", "textual"])
    norms = np.exp(own)
    return figures.plot_hook_point_statistics(
        {"median L2 norm": norms, "cosine with the next block": own}, log_statistic="median L2 norm"
    )


def make_gaps():
    draws = xr.DataArray(
        np.random.default_rng(0).normal(size=(50, 5)), {"hook_point": HOOK_POINTS[:5]},
        ("draw", "hook_point"),
    )  # fmt: skip
    own = xr.Dataset({"estimate": draws.mean("draw"), "draws": draws})
    streams = {"stream of the same layer": own, "stream that it reads": own + 1}
    return figures.plot_block_gaps(dict.fromkeys(MODELS, streams))


def make_draws():
    names = [control_comparison.UNCHANGED, *control_comparison.CONTROLS]
    values = np.random.default_rng(0).random((len(names), 4))
    scores = xr.Dataset({"estimate": (("condition", "draw"), values)}, {"condition": names})
    return figures.plot_control_draws(dict.fromkeys(MODELS, scores))


def make_tsne():
    points = np.random.default_rng(0).normal(size=(8, 40, 2))
    embedded = xr.DataArray(points, {"layer": range(8)}, ("layer", "point", "axis"))
    return figures.plot_tsne_by_layer(embedded, classes=pd.Series([*MODALITIES] * 10))


def make_similarity():
    coords = {"perceptual": np.arange(31), "textual": np.arange(31)}
    matrix = xr.DataArray(np.random.default_rng(0).random((31, 31)), coords)
    return figures.plot_layer_similarity(dict.fromkeys(PERCEIVED, matrix))


def make_baselines():
    names = ["retrieval@1", "mutual k-NN", "linear CKA", "Fréchet distance"]
    own = curves(names, dim="baseline")["estimate"]
    part = xr.Dataset({"estimate": own, "low": own - 0.1, "high": own + 0.1, "null": own * 0 + 0.1})
    return figures.plot_alignment_baselines(dict.fromkeys(PERCEIVED, part))


def make_overlaps():
    own = curves(LINEARS, dim="linear", layers=30)["estimate"]
    nulls = {"permuted activations": own, "size alone": own + 1}
    return figures.plot_overlap_by_linear(own, chance=1 / 3, nulls=nulls)


def make_modalities():
    own = curves(LINEARS, dim="linear", layers=30)["estimate"]
    nulls = {"permuted activations": own, "size alone": own + 1}
    by_modality = {name: own.mean("linear") for name in PERCEIVED}
    shown = dict.fromkeys((0.3, 0.5, 0.7), by_modality)
    return figures.plot_overlap_by_modality(shown, nulls=dict.fromkeys(shown, nulls))


def make_relative_scores():
    rows = [
        {"model": model, "plan": plan, "task": task, **(interval(0.9) if at else OUTSIDE)}
        for at, model in enumerate(MODELS[:5])
        for plan in ("one perceptual token, the first", "half of all prompt rows")
        for task in ("captions", "questions")
    ]
    return figures.plot_relative_scores(pd.DataFrame(rows), threshold=0.9)


def make_training():
    rows = [
        {"group": group, "modality": modality, "name": f"{name} + llama-mini", "step": step}
        | interval(step / 4000)
        for group in ("captions", "questions")
        for modality in PERCEIVED
        for name in (f"timesformer-{modality}-{at}" for at in range(7))
        for step in (0, 1500, 3000)
    ]
    return figures.plot_training_curves(pd.DataFrame(rows), ylabel="fraction of test samples")


def make_sweep():
    rows = [
        {"direction": d, "amount": a, "metric": m, **interval(0.2)}
        for d in ("toward text", "random directions")
        for a in (-1.0, 0.0, 1.0)
        for m in ("chair_s", "chair_i", "poll errors: poll-adversarial")
    ]
    return figures.plot_interval_sweep(
        pd.DataFrame(rows), panel="metric", line="direction", x="amount",
        xlabel="shift (distances between the means)", ylabel="fraction",
    )  # fmt: skip


def make_objects():
    curve = pd.DataFrame({"layer": range(13), "estimate": 0.6, "low": 0.5, "high": 0.7})
    parts = [
        (curve + at / 50).assign(layer=range(13), panel=f"opt-mini (ST), {name}", line=encoder)
        for name in PERCEIVED
        for at, encoder in enumerate(ENCODERS)
    ]
    return figures.plot_object_auc(pd.concat(parts))


def make_tokens():
    before = ["nothing", "text", "text states (AIM)", "text states, exchanged pictures"]
    before += ["text states, pictures of other episodes", "pictures and text"]
    rows = [
        {"before": name, "rows": 90 + 200 * (at == 5), "score": 0.1 + at / 8}
        | (interval(at / 8) if at else OUTSIDE)
        for at, name in enumerate(before)
    ]
    return figures.plot_score_by_tokens(pd.DataFrame(rows))


def make_error_rates():
    names = [*(f"F{a}.{b}" for a in (1, 2, 3) for b in range(1, 6)), "any"]
    columns = [
        name + suffix for name, _ in error_rates.RATES.values() for suffix in ("", ", adjusted")
    ]
    table = pd.DataFrame(0.05, names, columns)
    return figures.plot_error_rates(table, highest=0.083, families=400)


def make_heatmap():
    masks = [f"SparseGPT on all tasks {at}" for at in range(10)]
    matrix = pd.DataFrame(np.full((12, 10), 0.5), columns=masks)
    return figures.plot_heatmap(matrix, label="task score", xlabel="task", ylabel="mask")


def make_votes():
    agreement = pd.DataFrame(0.2, LINEARS, pd.RangeIndex(1, 7, name="tasks"))
    return figures.plot_vote_agreement(agreement, chance_agreement=agreement.iloc[0])


def make_skip_grid():
    rows = [
        {"choose": rule, "start": start, "ratio": ratio, "kept": 0.9}
        for rule in ("strided", "first", "random")
        for start in (0, 2, 4, 8)
        for ratio in (0.1, 0.3, 0.5, 0.7, 1)
    ]
    return figures.plot_skip_grid(pd.DataFrame(rows))


def make_scores_by_step():
    runs = {
        f"{name}, {modality}": {s: Interval(at / 9, at / 9 - 0.1, at / 9 + 0.1, 9) for s in STEPS}
        for at, name in enumerate(("llama-mini", "opt-mini", "smollm2"))
        for modality in PERCEIVED
    }
    return figures.plot_score_by_step(dict.fromkeys(("IMA score", "retrieval@1", "score"), runs))


def make_scores_with_floors():
    row = interval(0.6) | {f"floor_{k}": v for k, v in interval(0.2).items()}
    rows = [{"name": f"{m} questions (novel)", "modality": m, **row} for m in MODALITIES]
    rows[0] |= OUTSIDE
    return figures.plot_scores_with_floors(pd.DataFrame(rows), xlabel="fraction of samples")


def make_pairwise_cost():
    rows = [
        {"way": way, "samples": n, "seconds": n**power / 1e4}
        for way, power in (("product of means", 1), ("pair by pair", 2))
        for n in (50, 100, 200)
    ]
    return figures.plot_pairwise_cost(pd.DataFrame(rows))


def make_bench_ratios():
    rows = [
        {"name": f"a benchmark of token states at many hook points, to disk, {at}", "ratio": ratio,
         "limit": limit, "met": limit is None or ratio <= limit,
         "floor": 0.9 + at / 100 if at else None}
        for at, limit in enumerate((1.05, 1.1, 1.25, 2.0, 2.0, 1.0, None, 1.05))
        for ratio in (0.9, 1.04, 1.3, 190.0)
    ]  # fmt: skip
    return figures.plot_bench_ratios(pd.DataFrame(rows))


def make_paper_compat():
    own = curves(["a"])["estimate"].isel(curve=0)
    titles = [
        "divergence of P and T (bits): JS at this layer, or KL(P‖T) with P of layer 0",
        *(f"quantity {at} (cosine): same token, or others" for at in range(3)),
    ]
    pair = {"fixed": own, "released": own + 1}
    return figures.plot_paper_compat_curves(dict.fromkeys(titles, pair))


def make_verdicts():
    names = ["supported", "contradicted", "no effect within the margin", "inconclusive"]
    table = pd.DataFrame([{**interval(0.2), "verdict": name} for name in names], MODELS[:4])
    table["lowest"], table["highest"] = [0.05, 0.19, None, None], [0.22, 0.3, None, None]
    return verdicts.plot_verdicts(
        table, null=0, margin=0.02, direction="greater", title="as tested"
    )


def make_rows():
    rows = [
        {
            "measure": measure,
            "model": f"llama-mini/timesformer/{at}",
            "absent": kind,
            **(interval(0.9) if at else OUTSIDE),
        }
        for measure in ("accuracy", "precision", "recall", "F1", "yes ratio")
        for at in range(16)
        for kind in ("random", "popular", "adversarial")
    ]
    return figures.plot_values_by_row(
        pd.DataFrame(rows), panel="measure", row="model", series="absent", xlabel="fraction"
    )


def make_system_map():
    places = [("llava-mini-3", "mini-image-caption"), ("llava-smollm2-3", "drawings-image-qa")]
    names = ["Skipping (the paper's own)", "Image-text interaction pruning", "AIM", "TEAL"]
    names += ["Browse-and-Concentrate", "Sight Beyond Text", "Prompt Highlighter", "OneLLM"]
    changes = ("tokens", "inputs", "weights", "decoding")
    panels = {"cost": "operations (fraction)", "score": "change (fraction)"}
    panels["alignment"] = "change (cosine)"
    missing = dict.fromkeys(("value", "low", "high"), np.nan)
    rows = [
        {"system": name, "where": f"{model}, {data}", "change": changes[at % 4], "panel": panel}
        | {"unit": unit}
        | (missing if at == 3 else interval(at / 10 - 0.3) if at else OUTSIDE)
        for at, name in enumerate(names)
        for model, data in places
        for panel, unit in panels.items()
    ]
    return figures.plot_system_map(pd.DataFrame(rows))


def make_norms():
    values = np.random.default_rng(0).random((9, 2, 31)) + 1
    coords = {"kind": ["perceptual", "textual"], "layer": np.arange(31)}
    return figures.plot_norm_curves(xr.DataArray(values, coords, ("sample", "kind", "layer")))


EXAMPLES = {
    "plot_alignment_baselines": make_baselines,
    "plot_block_gaps": make_gaps,
    "plot_class_separation": make_class_separation,
    "plot_control_draws": make_draws,
    "plot_curve_panels": lambda: figures.plot_curve_panels(
        dict.fromkeys(MODELS, curves(list(cones.CONE_CURVES))), dim="curve", ylabel="mean cosine"
    ),
    "plot_divergence_by_layer": lambda: figures.plot_divergence_by_layer(
        {layer: 10.0 ** (1 - layer) for layer in range(5)}, threshold=0.01
    ),
    "plot_error_rates": make_error_rates,
    "plot_glance": make_glance,
    "plot_heatmap": make_heatmap,
    "plot_hook_point_statistics": make_statistics,
    "plot_images": lambda: figures.plot_images(
        [np.zeros((8, 8, 3), np.uint8)] * 8, titles=["a small red circle"] * 8
    ),
    "plot_interval_sweep": make_sweep,
    "plot_ladder": make_ladder,
    "plot_layer_curves_by_step": lambda: figures.plot_layer_curves_by_step(
        {m: {s: curves(["a"])["estimate"].isel(curve=0) + s for s in STEPS} for m in MODELS}
    ),
    "plot_layer_similarity": make_similarity,
    "plot_models_by_proxy": lambda: figures.plot_models_by_proxy(
        {
            "smollm2 (ST), image captions": make_compared(9),
            "opt-mini (ST), audio captions": make_compared(5, modality="audio", stage="short run"),
            "all": [*make_compared(12), *make_compared(6, stage="step")],
        },
        ylabel="task score",
        named=True,
    ),
    "plot_norm_curves": make_norms,
    "plot_system_map": make_system_map,
    "plot_object_auc": make_objects,
    "plot_overlap_by_linear": make_overlaps,
    "plot_overlap_by_modality": make_modalities,
    "plot_cache_layout": lambda: figures.plot_cache_layout(
        (500, 2, 33, 4096), chunks=(8, 2, 1, 4096), shards=(8, 2, 33, 4096)
    ),
    "plot_pairwise_cost": make_pairwise_cost,
    "plot_bench_ratios": make_bench_ratios,
    "plot_paper_compat_curves": make_paper_compat,
    "plot_plans": make_plans,
    "plot_proxy_correlations": make_proxy_map,
    "plot_relative_scores": make_relative_scores,
    "plot_score_by_sparsity": make_sparsity,
    "plot_score_by_step": make_scores_by_step,
    "plot_score_by_tokens": make_tokens,
    "plot_scores_with_floors": make_scores_with_floors,
    "plot_skip_grid": make_skip_grid,
    "plot_spectrograms": lambda: figures.plot_spectrograms(
        [np.zeros((30, 16))] * 3, seconds=0.3, titles=["a loud low bell"] * 3
    ),
    "plot_training_curves": make_training,
    "plot_tsne_by_layer": make_tsne,
    "plot_values_by_row": make_rows,
    "plot_vote_agreement": make_votes,
    "plot_zoo_scores": make_zoo_scores,
}


def test_every_figure_has_an_example():
    assert sorted(EXAMPLES) == [name for name in dir(figures) if name.startswith("plot_")]


def is_drawn_twice(name):
    return hasattr(getattr(figures, name), "__wrapped__")


@pytest.mark.parametrize("name", list(filter(is_drawn_twice, EXAMPLES)))
def test_a_figure_holds_to_the_rules_on_a_wide_screen(name):
    assert find_faults(EXAMPLES[name](), width=figure_rules.WIDE) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_figure_holds_to_the_rules_on_a_phone(name):
    """A figure that is drawn once is less wide there, so that what holds here holds anywhere."""
    with draw_narrow() if is_drawn_twice(name) else contextlib.nullcontext():
        figure = EXAMPLES[name]()
    width = figure_rules.NARROW if is_drawn_twice(name) else figure_rules.SCROLLED
    assert find_faults(figure, width=width) == []


def test_the_small_figures_of_verdicts_hold_to_the_rules():
    assert find_faults(make_verdicts(), width=figure_rules.NARROW) == []


def test_no_curve_is_lost_where_a_panel_is_split():
    names = list(figures.SERIES_COLOURS)[:13]
    figure = figures.plot_curve_panels({"a": curves(names)}, dim="curve", ylabel="mean cosine")
    table = tabulate_figure(figure)
    labels = [figures.SERIES_LABELS.get(name, name) for name in names]
    assert sorted(table["series"].unique()) == sorted(labels)
    assert table.groupby("panel")["series"].nunique().tolist() == [5, 5, 3]


def test_colours_differ_and_have_one_meaning():
    colours = list(figures.COLOUR_MEANINGS)
    assert set(figures.SERIES_COLOURS.values()) <= set(colours)
    labs = np.array([_to_lab(colour) for colour in colours])
    distances = np.linalg.norm(labs[:, None] - labs[None], axis=-1)
    assert distances[np.triu_indices(len(colours), 1)].min() > 15  # seen at a glance: about 10
    assert min(compute_contrast(colour, "white") for colour in colours) > 2  # of lines and markers


def _to_lab(colour):
    """Return CIE L*a*b* of a colour (D65)."""
    srgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089])
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda axes: [axes.plot([0, 1], [at, 1]) for at in range(7)], "9 curves"),
        (lambda axes: axes.plot([0, 1], [1, 1], color="#0072B2", label="a"), "for {'image', 'a'}"),
        (lambda axes: axes.plot([0, 1], [1, 1], color="#123456", label="a"), "has no meaning"),
        (lambda axes: axes.set_ylabel(""), "without a unit"),
        (lambda axes: axes.text(0, 1, "tiny", fontsize=5), "pixels high"),
        (lambda axes: axes.text(0, 1, "pale", color="#BBBBBB"), "a contrast of"),
        (lambda axes: [axes.text(0.5, 0.5, name) for name in "ab"], "covers"),
        (lambda axes: axes.get_figure().add_subplot(2, 2, 4), "is empty"),
    ],
    ids=["curves", "colour", "meaning", "unit", "size", "contrast", "overlap", "empty"],
)
def test_each_rule_finds_its_fault(spoil, fault):
    figure, axes = plt.subplots(layout="constrained")
    axes.plot([0, 1], [0, 1], color="#0072B2", label="image")
    axes.plot([0, 1], [0.2, 1.5], color="#009E73", label="audio")
    axes.set(xlabel="layer", ylabel="cosine")
    assert find_faults(figure, width=figure_rules.WIDE) == []
    spoil(axes)
    found = " ".join(find_faults(figure, width=figure_rules.WIDE))
    assert fault in found or fault.replace("'image', 'a'", "'a', 'image'") in found
