"""Model summaries: proxies and scores from caches, correlated across models."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ima.cache.reader import open_cache
from ima.capture.writer import create_cache
from ima.cli import main
from ima.errors import CacheError, CacheSchemaError, ParameterError, UnknownNameError
from ima.studies import model_summary

MODELS = ["llama-mini/vit/image-qa@0", "llama-mini/vit/image-qa@5", "llama-mini/vit/image-qa"]
MODELS += ["opt-mini/vit/image-qa", "opt-mini/vit/image-qa@0"]
GIVEN = {"dataset": "mini-image-qa", "samples": 20, "progress": False}


@pytest.fixture(scope="module")
def stores(tiny_zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("summaries")
    return [
        str(
            create_cache(
                model, path=folder / f"{at}.zarr", hook_points=["resid_post"], predict=True, **GIVEN
            )
        )
        for at, model in enumerate(MODELS)
    ]


@pytest.fixture(scope="module")
def summaries(stores):
    return [model_summary.compute_model_summary(path, resamples=30) for path in stores]


def command(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words)])
    output = capsys.readouterr()
    return stopped.value.code, output.out, output.err


def test_a_summary_holds_what_the_pages_measure(stores, summaries):
    from ima.cache.cache_set import open_cache_set
    from ima.measures import alignment

    means = open_cache_set([stores[0]]).means
    curve = alignment.compute_alignment_curve(means, resamples=30)
    first = summaries[0]
    np.testing.assert_allclose(
        first.proxies[model_summary.IMA_SCORE][0], alignment.compute_ima_score(curve).value
    )
    np.testing.assert_allclose(
        first.proxies[model_summary.IMA_SCORE][1:], alignment.compute_ima_score_draws(curve)[1]
    )
    samples = open_cache(stores[0])["samples"].to_dataset()
    assert first.metric == "exact_match"
    assert first.score[0] == pytest.approx(float(samples["score"].sel(metric="exact_match").mean()))
    assert set(first.proxies) == set(model_summary.PROXIES)
    assert first.proxies[model_summary.VALIDATION_LOSS][0] == pytest.approx(
        float(samples["loss"].mean())
    )


def test_a_summary_is_the_same_whether_means_are_read_once_or_by_layer(
    stores, summaries, monkeypatch
):
    monkeypatch.setattr(model_summary, "_LARGEST_READ_AT_ONCE", 0)
    again = model_summary.compute_model_summary(stores[0], resamples=30)
    assert list(again.proxies) == list(summaries[0].proxies)
    for name, values in summaries[0].proxies.items():
        assert np.array_equal(again.proxies[name], values)


def test_baselines_of_a_summary_are_means_of_their_curves(stores, summaries):
    from ima.cache.cache_set import open_cache_set
    from ima.measures import baselines

    (means,) = open_cache_set([stores[0]]).means.values()
    curves = baselines.compute_baseline_curves(means, permutations=1, resamples=1)["estimate"]
    for name in baselines.ALIGNMENT_BASELINES:
        expected = curves.sel(baseline=name).isel(layer=slice(None, -1)).mean()
        assert summaries[0].proxies[name].tolist() == [float(expected)]


def test_a_summary_survives_its_record(summaries, tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(summaries[0].to_record()))
    again = model_summary.ModelSummary.from_record(
        json.loads(path.read_text()), path=summaries[0].path
    )
    assert (again.model, again.dataset, again.samples) == (MODELS[0], "mini-image-qa", 20)
    assert again.metric == "exact_match"
    for name, values in summaries[0].proxies.items():
        np.testing.assert_allclose(again.proxies[name], values, atol=1e-5)


def test_hallucination_is_counted_from_captions(tiny_zoo, tmp_path):
    path = create_cache(
        "llama-mini/vit/image-caption", dataset="mini-image-caption", samples=16, predict=True,
        path=tmp_path / "a.zarr", hook_points=["resid_post"], progress=False,
    )  # fmt: skip
    from ima.data.samples import open_samples
    from ima.metrics.hallucination import count_chair_mentions

    tree = open_cache(path)
    predictions = [str(text) for text in tree["samples/prediction"].to_numpy()]
    counts = count_chair_mentions(open_samples("mini-image-caption", n=16), predictions)
    scores = model_summary.compute_model_summary(path, resamples=8).scores
    assert scores["chair_s"][0] == pytest.approx((counts[:, 0] > 0).mean())
    mentions = max(counts[:, 1].sum(), 1.0)
    assert scores["chair_i"][0] == pytest.approx(counts[:, 0].sum() / mentions)
    assert len(scores["chair_i"]) == 9


def test_scores_come_from_a_table(summaries, tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("model,score\n" + "".join(f"{m},{at}\n" for at, m in enumerate(MODELS)))
    scores = model_summary.read_score_table(path).select(summaries)
    assert scores.tolist() == [0, 1, 2, 3, 4]
    table = model_summary.correlate_proxies(summaries, scores=scores)
    assert len(table) == 2 * len(model_summary.PROXIES)
    assert (table["models"] == 5).all()
    assert (table["p"] >= 2 / 120 - 1e-9).all()
    assert (table["p adjusted"] >= table["p"] - 1e-12).all()
    own = dict(
        zip(MODELS, (one.proxies[model_summary.IMA_SCORE][0] for one in summaries), strict=True)
    )
    path.write_text("model,score\n" + "".join(f"{m},{value}\n" for m, value in own.items()))
    same = model_summary.correlate_proxies(
        summaries, scores=model_summary.read_score_table(path).select(summaries)
    )
    first = same[same["proxy"] == model_summary.IMA_SCORE]
    assert first["value"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,score\nx,1\n", "has no score of .*It has: x"),
        ("name,score\nx,1\n", "needs the columns model .or cache. and score; found name, score"),
        ("model,score\nx,1\nx,2\n", "more than one score of x"),
        ("model;score\nx;1\n", "must be separated by commas"),
        ("model,score\nx,good\n", "a score is no number"),
    ],
)
def test_bad_tables_are_refused(summaries, tmp_path, text, message):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message):
        model_summary.read_score_table(path).select(summaries)
    with pytest.raises(ParameterError, match="Cannot read the scores"):
        model_summary.read_score_table(tmp_path / "none.csv")


def test_the_command_ranks_and_reports_when_it_cannot_correlate(stores, tmp_path, capsys):
    small = ("--resamples", 5, "--json")
    code, out, _ = command(capsys, "proxy", *stores[2:4], *small)
    assert code == 0
    record = json.loads(out)
    assert record["correlations"] == []
    assert len(record["candidates"]) == 2
    for each in record["candidates"]:
        score = each[model_summary.IMA_SCORE]
        assert score["low"] <= score["value"] <= score["high"]
        assert score["n"] == 20
        assert each[model_summary.MATCHED_GAIN]["low"] is None
        assert isinstance(each["score"], float)
    code, out, _ = command(capsys, "proxy", *stores[2:4], "--resamples", 5)
    assert "No correlation: it needs at least 5 models; found 2" in " ".join(out.split())
    path = tmp_path / "scores.csv"
    path.write_text("cache,score\n" + "".join(f"{s},{at}\n" for at, s in enumerate(stores)))
    code, out, _ = command(capsys, "proxy", *stores, "--scores", path, *small)
    assert code == 0
    assert len(json.loads(out)["correlations"]) == 16


def test_a_model_is_ranked_once_and_its_table_is_read_first(stores, tmp_path, capsys):
    code, _, err = command(capsys, "proxy", stores[0], stores[0])
    assert (code, "is given twice" in err) == (1, True)
    (tmp_path / "scores.csv").write_text("name\n", encoding="utf-8")
    code, _, err = command(capsys, "proxy", "no.zarr", "--scores", tmp_path / "scores.csv")
    assert (code, "needs the columns model" in err) == (1, True)


def test_caches_that_cannot_be_compared_are_refused(tiny_zoo, stores, tmp_path, capsys):
    other = create_cache("llama-mini", path=tmp_path / "text.zarr", **{
        **GIVEN, "dataset": "mini-text-qa"})  # fmt: skip
    with pytest.raises(CacheError, match="no perceptual tokens"):
        model_summary.compute_model_summary(other)
    hook_points = create_cache(
        MODELS[2], path=tmp_path / "mlp_post.zarr", hook_points=["mlp_post"], **GIVEN
    )
    with pytest.raises(UnknownNameError, match="Unknown hook point 'resid_post'"):
        model_summary.compute_model_summary(hook_points)
    plain = create_cache(
        MODELS[2], path=tmp_path / "plain.zarr", hook_points=["resid_post"], **GIVEN
    )
    summaries = [
        model_summary.compute_model_summary(path, resamples=5) for path in (plain, *stores[:3])
    ]
    with pytest.raises(ParameterError, match=r"No scores in plain\.zarr.*--predict"):
        model_summary.correlate_proxies(summaries)
    _, out, _ = command(capsys, "proxy", plain, "--resamples", 5)
    assert "The caches hold no scores: the models are ordered by the IMA score alone" in out
    _, out, _ = command(capsys, "proxy", plain, stores[2], "--resamples", 5)
    text = " ".join(out.split())
    assert f"{plain} holds no scores: the models are ordered by the IMA score alone" in text
    store = tmp_path / "old.zarr"
    store.mkdir()
    (store / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"schema": "x"}})
    )
    with pytest.raises(CacheSchemaError):
        model_summary.compute_model_summary(store)
