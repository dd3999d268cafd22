"""Records cover other seeds of a model's connectors; what does not fit the model is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import stats

from ima import claims
from ima.cache.schema import CACHE_SCHEMA_VERSION
from ima.claims import seeds
from ima.claims.families import adjust_verdicts, compute_verdict_p
from ima.claims.spread import SeedSpread
from ima.errors import ModelError
from ima.models import zoo
from ima.stats.components import add_seed_variance, compute_seed_variance
from ima.stats.intervals import Interval

MODELS = {"picture-caption": "lm/eye/picture-caption", "sound-caption": "lm/ear/sound-caption"}
WEIGHTS = {"picture-caption": "aa", "sound-caption": "bb"}
RECIPE = {"epochs": 2, "seed": 0}
CONTENTS = Interval(0.3, 0.28, 0.33, n=64)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty zoo."""
    monkeypatch.setattr(zoo, "get_zoo_root", lambda: tmp_path)
    return tmp_path / "retrained" / "records"


@pytest.fixture
def caches():
    """The caches of the zoo's connectors, as a page opens them."""
    return make_caches(WEIGHTS)


def make_caches(weights, models=MODELS, samples=32):
    columns = {"model": models.values(), "dataset": list(models), "samples": samples}
    members = pd.DataFrame(columns, index=list(models))
    trees = {
        name: SimpleNamespace(attrs={"model": {"weights_hash": own}})
        for name, own in weights.items()
    }
    return {"lm (ST)": SimpleNamespace(members=members, trees=trees)}


def make_record(interval=CONTENTS, claim="F1.1", reading="as tested", **given):
    source = {"model": "lm (ST)", "dataset": ", ".join(MODELS)}
    return claims.make_claim_record(claim, reading, interval=interval, **{**source, **given})


def keep(name, value, dataset="", **changed):
    """Keep a seed that measured this value of F1.1 as tested."""
    one = make_record(Interval(value, value - 0.1, value + 0.1, n=60))
    measurement = {field: getattr(one, field) for field in seeds.SeedMeasurement.model_fields}
    measurement |= changed.pop("measurement", {})
    recipes = dict.fromkeys(MODELS, RECIPE) if not dataset else {dataset: {**RECIPE, "seed": 7}}
    values = {"models": MODELS, "recipes": recipes, "weights": WEIGHTS, "samples": 64}
    values |= {"name": name, "dataset": dataset, "measurements": [measurement], **changed}
    seeds.write_seed_records(seeds.SeedRecords.model_validate(values))


def keep_three():
    keep("seed 0", 0.25)
    keep("seed 1", 0.27, "picture-caption")
    keep("seed 2", 0.23, "picture-caption")
    keep("audio seed 1", 0.35, "sound-caption")
    keep("audio seed 2", 0.21, "sound-caption")


def test_a_record_stays_as_it_is_where_nothing_is_kept(caches):
    one = make_record()
    assert claims.cover_seeds([one], caches) == [one]
    assert one.measured == one.interval
    keep_three()
    assert claims.cover_seeds([one], caches, asked=False) == [one]


def test_the_interval_covers_seeds_and_contents(caches):
    """Only differences between seeds count: the seeds may have read other samples."""
    keep_three()
    (covered,) = claims.cover_seeds([make_record()], caches)
    by_part = {"picture-caption": (0.25, 0.27, 0.23), "sound-caption": (0.25, 0.35, 0.21)}
    expected = add_seed_variance(CONTENTS, seeds=compute_seed_variance(by_part))
    assert covered.interval == expected
    assert covered.value == pytest.approx(0.3 + (0.1 - 0.04) / 3)
    assert covered.low < CONTENTS.low
    assert covered.high > CONTENTS.high
    assert covered.measured == CONTENTS
    assert (covered.seeds, covered.n) == (3, 64)
    assert (covered.spread.lowest, covered.spread.highest) == pytest.approx((0.26, 0.4))
    written = claims.ClaimRecord.model_validate(json.loads(covered.model_dump_json()))
    assert written == covered


def test_each_seed_counts_as_soon_as_it_is_kept(caches):
    keep("seed 0", 0.25)
    assert claims.cover_seeds([make_record()], caches) == [make_record()]
    keep("seed 1", 0.26, "picture-caption")
    (two,) = claims.cover_seeds([make_record()], caches)
    assert two.seeds == 2
    assert two.spread.trained_once == ("sound-caption",)
    assert "so the interval is wide" in two.spread.describe()
    assert "Not covered: other seeds of sound-caption." in two.spread.describe()
    keep("seed 2", 0.25, "picture-caption")
    (three,) = claims.cover_seeds([make_record()], caches)
    assert three.high - three.low < two.high - two.low
    assert "wide" not in three.spread.describe()


def test_records_of_other_connectors_and_without_a_verdict_are_not_covered(caches):
    keep_three()
    reason = make_record(reason="The task cannot tell.")
    untestable = claims.make_untestable_record(
        "F1.1", "as tested", n=0, model="lm (ST)", dataset=", ".join(MODELS)
    )
    others = [
        make_record(model="another (ST)"),
        make_record(dataset="picture-caption"),
        make_record(claim="F1.2"),
        make_record(reading="as stated"),
    ]
    same = [reason, untestable, *others]
    assert claims.cover_seeds(same, caches) == same
    own = dict.fromkeys(MODELS, "models/mine")
    theirs = make_caches(dict.fromkeys(WEIGHTS, "cc"), models=own)
    assert claims.cover_seeds([make_record()], theirs) == [make_record()]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"measurement": {"version": "01234567"}},
            r"seed-1\.json holds F1\.1 as tested in version 01234567 of the reading, which is now "
            r"\w{8}\. Measure it again: ima zoo retrain --only 'seed 1'",
        ),
        (
            {"recipes": {"picture-caption": {"epochs": 3, "seed": 1}}},
            r"another recipe of picture-caption: epochs differ\. Measure it again: ima zoo retrain "
            r"--only 'seed 1'",
        ),
        (
            {"schema_version": "1"},
            rf"caches of schema 1, and the schema is now {CACHE_SCHEMA_VERSION}\. Measure it",
        ),
        ({"samples": 32}, r"on 32 samples, and seed 0 on 64\. Measure it again"),
    ],
    ids=["version", "recipe", "schema", "samples"],
)
def test_a_seed_that_does_not_fit_is_refused(caches, changed, message):
    keep_three()
    keep("seed 1", 0.27, "picture-caption", **changed)
    with pytest.raises(ModelError, match=message):
        claims.cover_seeds([make_record()], caches)


def test_seeds_of_other_weights_are_refused():
    """The zoo's connector was trained anew, and its seeds were not."""
    keep_three()
    with pytest.raises(ModelError, match=r"other weights of lm/ear/sound-caption than its cache"):
        claims.cover_seeds([make_record()], make_caches({**WEIGHTS, "sound-caption": "cc"}))


def test_seeds_that_other_code_measured_are_refused():
    """On as many samples, the first seed is the page's own model."""
    keep_three()
    message = (
        r"is 0\.250 on 64 samples of .*, and the page measures 0\.300 .*: the code has changed"
    )
    with pytest.raises(ModelError, match=message):
        claims.cover_seeds([make_record()], make_caches(WEIGHTS, samples=64))
    close = make_record(Interval(0.26, 0.24, 0.29, n=64))
    assert claims.cover_seeds([close], make_caches(WEIGHTS, samples=64))[0].spread


def test_seeds_without_the_first_and_damaged_files_are_refused(caches, folder):
    keep("seed 1", 0.27, "picture-caption")
    with pytest.raises(ModelError, match=r"holds seed 1, but not seed 0.*--only 'seed 0'"):
        claims.cover_seeds([make_record()], caches)
    (folder / "seed-1.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"holds no measurements(.|\n)*--only 'seed 1'"):
        claims.cover_seeds([make_record()], caches)


def test_verdicts_and_holms_method_use_the_interval_over_seeds(caches):
    keep_three()
    sure = make_record()
    (covered,) = claims.cover_seeds([sure], caches)
    assert (sure.verdict, covered.verdict) == ("supported", "supported")
    assert compute_verdict_p(sure) < 1e-50
    assert 1e-4 < compute_verdict_p(covered) < 0.05
    keep("audio seed 2", -0.2, "sound-caption")
    (unsure,) = claims.cover_seeds([sure], caches)
    assert unsure.verdict == "inconclusive"
    assert adjust_verdicts([unsure])["F1.1", "lm (ST)"] == "inconclusive"


@pytest.mark.parametrize("value", [0.3, 0.6, 0.0, -0.3])
@pytest.mark.parametrize("claim", ["F1.1", "F1.5"])
def test_the_p_value_agrees_with_the_verdict(claim, value):
    """Its quantile is that of few seeds: a normal one would make it too small."""
    interval = Interval(value, value - 0.03, value + 0.01, n=64)
    for wide in (0.001, 0.01, 0.05, 0.2):
        own = (value, value + wide, value - wide)
        spread = SeedSpread.of(interval, by_part={"picture-caption": own})
        one = make_record(interval, claim).with_spread(spread)
        assert (compute_verdict_p(one) < 0.05) == (one.verdict != "inconclusive")
        if one.verdict == "supported":
            width = max(interval.value - interval.low, interval.high - interval.value)
            distance = abs(value - one.null) - one.margin
            assert compute_verdict_p(one) >= 2 * stats.norm.sf(distance / width * 1.96) - 1e-9


def test_numbers_of_seeds_cannot_be_typed(caches):
    keep_three()
    (covered,) = claims.cover_seeds([make_record()], caches)
    fields = covered.model_dump()
    for changed in ({"low": covered.low + 0.01}, {"seeds": 5}):
        with pytest.raises(ValidationError, match="Intervals over seeds are computed"):
            claims.ClaimRecord.model_validate(fields | changed)
    fields["spread"]["highest"] = 0.9
    with pytest.raises(ValidationError, match="says that its seeds lie between"):
        claims.ClaimRecord.model_validate(fields)


def test_pages_show_the_lowest_and_the_highest_seed(caches, tmp_path):
    keep_three()
    covered = claims.cover_seeds([make_record()], caches)
    between = "it lies between 0.260 and 0.400 (picture-caption: 3 seeds, sound-caption: 3 seeds)"
    assert between in claims.show_verdicts(covered).data
    assert between in claims.describe_claim_records(covered)[0]
    assert between in claims.format_comparison(covered)
    figures = claims.answers.draw_verdict_figures(covered, folder=tmp_path / "verdicts")
    answer = claims.answers.format_answer(
        claims.CLAIMS["F1.1"], covered, figures=figures, start=tmp_path
    )
    assert "upright ticks show the lowest and the highest seed" in answer
    assert "seeds from 0.260 to 0.400" in answer
    other = make_record(model="another (ST)")
    assert "ticks" not in claims.answers.format_answer(
        claims.CLAIMS["F1.1"], [other], figures=figures, start=tmp_path
    )
    table = claims.show_claim_records([*covered, other]).data
    assert table["between seeds"].tolist() == ["0.260 to 0.400", "one seed"]
    assert "between seeds" not in claims.show_claim_records([other]).data
    found = claims.summarise_claims([*covered, other])["found.md"]
    assert "of lm (ST) on F1.1 cover other seeds of its connectors" in found
    assert "Each model was trained once" in claims.summarise_claims([other])["found.md"]
