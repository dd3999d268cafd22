"""Systems: declared once, recorded by their pages, and collected without a list of those pages."""

from __future__ import annotations

import json
from pathlib import Path

import plan
import pytest
import systems_list
import yaml

from ima.errors import ParameterError, UnknownNameError
from ima.figures import plot_system_map
from ima.notebook.runner import read_notebook_parameters
from ima.stats.intervals import Interval
from ima.systems import overview, records
from ima.systems.records import MeasuredEffect, compute_cost_ratio, make_system_record
from ima.systems.registry import SYSTEM_CHANGES, SYSTEMS, WITHOUT_IT

ROOT = Path(__file__).parents[2]
#: The systems that the paper is listed with, by their numbers on arXiv.
NEIGHBOURS = {
    "2405.05803", "2409.01162", "2406.07588", "2312.04302", "2402.12195", "2312.03700",
    "2311.04589", "2309.07120",
}  # fmt: skip
WHY = "The page did not measure it."


def measure(value, *, reach=0.05, n=60):
    interval = Interval(value, value - reach, value + reach, n=n)
    return MeasuredEffect.of(interval, quantity="exact answers", unit="questions")


def record_system(system="browse", *, model="tiny", score=0.2, **given):
    effect = measure(score)
    cost = compute_cost_ratio(3, 2, n=8, quantity="operations", unit="prompts")
    numbers = {"cost": cost, "score": effect, "alignment": measure(0.1), "promised": effect}
    where = {"model": model, "dataset": "some questions", "setting": "as trained"}
    return make_system_record(system, **{**where, **numbers, **given})


def test_the_paper_and_all_its_neighbours_are_declared():
    numbers = [system.arxiv for system in SYSTEMS.values()]
    assert set(numbers) == NEIGHBOURS | {"2405.16700"}
    assert len(numbers) == len(set(numbers))
    assert {system.change for system in SYSTEMS.values()} == set(SYSTEM_CHANGES)
    for system in SYSTEMS.values():
        assert system.promise.sentence.endswith(".")
        assert -0.05 <= system.promise.null <= 0.9
        assert f"arxiv.org/abs/{system.arxiv}" in system.link


def test_each_page_that_records_is_one_of_a_system_and_takes_the_file():
    settings = yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text(encoding="utf-8"))
    recording = {name for name, run in settings["runs"].items() if run.get("systems") is True}
    taking = {
        path.stem
        for path in (ROOT / "notebooks").glob("*.md")
        if any(one.name == "systems" for one in read_notebook_parameters(path))
    }
    assert recording == taking
    assert {"token-reduction", "demonstrations", "highlight", "browse", "sight"} <= recording
    assert recording <= {system.page for system in SYSTEMS.values()}


def test_a_page_that_records_later_reaches_the_map_without_a_change(monkeypatch):
    monkeypatch.setattr(plan, "is_fetched", lambda part: True)
    settings = yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text(encoding="utf-8"))
    settings["runs"]["onellm"] = {"models": True, "systems": True}
    config = plan.complete({**settings, "size": "small"})
    given = plan.parameters(config, "systems")["records"]
    assert given == plan.system_records(config)
    assert "book/runs/onellm.systems.json" in given
    assert plan.parameters(config, "onellm")["systems"] == "book/runs/onellm.systems.json"
    pages = {Path(path).name.partition(".")[0] for path in given}
    assert set(config["runs"]["systems"]["after"]) == pages


@pytest.mark.parametrize(
    ("low", "high", "null", "n", "outcome"),
    [
        (0.01, 0.3, 0.0, 60, "works"),
        (-0.04, 0.0, -0.05, 60, "works"),
        (-0.3, -0.01, 0.0, 60, "does not work"),
        (0.0, 0.0, 0.0, 60, "does not work"),
        (-0.1, 0.3, 0.0, 60, "undecided"),
        (0.0, 0.3, 0.0, 60, "undecided"),
        (0.1, 0.3, 0.0, 4, "undecided"),
    ],
)
def test_outcomes_follow_from_intervals(low, high, null, n, outcome):
    promise = SYSTEMS["browse"].promise.__class__("It rises.", "a difference", null)
    interval = Interval((low + high) / 2, low, high, n=n)
    assert promise.decide_outcome(interval) == outcome
    assert promise.decide_outcome(None) == "not measured"


def test_a_record_is_read_as_it_was_written(tmp_path):
    own = [record_system(), record_system("sight", alignment=WHY, promised=WHY)]
    path = records.write_system_records(own, tmp_path / "page.systems.json")
    assert records.read_system_records(path) == own
    assert (own[1].outcome, own[1].reasons) == (
        "not measured",
        {"alignment": WHY, "promised": WHY},
    )
    assert own[0].cost.value == own[0].cost.low == own[0].cost.high == 1.5
    assert own[0].notebook == "notebooks/browse.md"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": "does not work"}, "its numbers say 'works'"),
        (
            {"null": -0.1},
            r"above -0\.1; the promise is now about .* above 0\. Run notebooks/browse",
        ),
        ({"statistic": "another"}, "is about 'another'"),
        ({"system": "browser"}, "Did you mean 'browse'"),
        ({"alignment": None}, "neither for 'alignment'"),
        ({"reasons": {"score": WHY}}, "both a number and a reason for 'score'"),
        ({"verdict": "works"}, "Extra inputs are not permitted"),
        ({"score": {"value": float("nan")}}, "not a list of system records"),
    ],
)
def test_a_record_that_does_not_follow_from_its_numbers_is_refused(tmp_path, change, message):
    entry = {**record_system().model_dump(exclude_none=True), **change}
    entry = {name: own for name, own in entry.items() if own is not None}
    path = tmp_path / "page.systems.json"
    path.write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(ParameterError, match=message) as caught:
        records.read_system_records(path)
    assert "Run the notebook that writes it" in str(caught.value)


def test_what_cannot_be_recorded_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="vtw"):
        record_system("vtv")
    with pytest.raises(ParameterError, match="cost above 0"):
        compute_cost_ratio(1, 0, n=8, quantity="operations", unit="prompts")
    paths = [
        records.write_system_records([record_system()], tmp_path / f"{name}.systems.json")
        for name in "ab"
    ]
    with pytest.raises(ParameterError, match=r"recorded twice on tiny.*a\.systems.*b\.systems"):
        records.collect_system_records(paths)


def test_records_are_collected_in_the_order_of_the_systems(tmp_path):
    own = [record_system("sight"), record_system("vtw"), record_system("browse")]
    paths = [
        records.write_system_records([one], tmp_path / f"{one.system}.systems.json") for one in own
    ]
    collected = records.collect_system_records(paths)
    assert [one.system for one in collected] == ["vtw", "browse", "sight"]


def test_a_planted_record_appears_on_the_map_with_its_numbers():
    planted = record_system("teal", model="planted", score=-0.4)
    table = overview.tabulate_map([planted])
    own = table[table["where"] == "planted, some questions"].set_index("panel")
    assert own["value"].to_dict() == pytest.approx({"cost": 0.5, "score": -0.4, "alignment": 0.1})
    assert own.loc["score", ["low", "high"]].tolist() == pytest.approx([-0.45, -0.35])
    assert set(own["system"]) == {"TEAL"}
    figure = plot_system_map(table)
    titles = [axes.get_title("left") or axes.get_title() for axes in figure.axes]
    assert titles == ["cost", "score", "alignment"]
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    place = rows.index("TEAL:\nplanted, some questions")
    for axes, value in zip(figure.axes, (0.5, -0.4, 0.1), strict=True):
        (dots,) = [own for own in axes.containers if own.get_label() == "changes inputs"]
        assert dots[0].get_xydata().tolist() == [[pytest.approx(value), place]]


def test_a_system_without_a_record_is_named_everywhere():
    only = [record_system("browse")]
    missing = overview.list_missing(only)
    assert len(missing) == len(SYSTEMS) - 1
    assert "OneLLM (page onellm)" in missing
    assert "OneLLM (page onellm)" in overview.count_outcomes(only)
    table = overview.tabulate_map(only)
    assert table.loc[table["system"] == "OneLLM", "where"].unique().tolist() == [overview.NO_RECORD]
    promises = overview.compare_promises(only).set_index("system")
    assert promises.loc["OneLLM", "outcome"] == overview.NO_RECORD
    assert promises.loc["Browse-and-Concentrate", "found"].startswith("0.200 [0.150, 0.250], n = ")
    text = overview.format_systems_list(only)
    assert f"- OneLLM: {overview.NO_RECORD}." in text.splitlines()
    assert overview.list_missing([record_system(name) for name in SYSTEMS]) == []
    assert set(overview.tabulate_changes()["compared with"]) > {WITHOUT_IT}
    with pytest.raises(ParameterError, match=r"No page has recorded a system.*token-reduction"):
        overview.count_outcomes([])


def test_a_reason_stands_where_a_number_is_missing():
    own = [record_system("sight", alignment=WHY)]
    numbers = overview.tabulate_effects(own).set_index("what")["number"]
    assert numbers["alignment"] == WHY
    assert numbers["operations"] == "1.500"
    table = overview.tabulate_map(own)
    aligned = table[(table["panel"] == "alignment") & (table["where"] != overview.NO_RECORD)]
    assert aligned["value"].isna().all()


def test_the_sentence_counts_systems_and_not_records():
    own = [
        record_system("browse"), record_system("browse", model="other", score=0.0),
        record_system("vtw", promised=measure(0.99)), record_system("sight", score=-0.2),
    ]  # fmt: skip
    own += [
        record_system("aim", promised=measure(0.01)), record_system("onellm", promised=WHY),
        record_system("teal", promised=measure(-0.05)),
    ]  # fmt: skip
    text = overview.count_outcomes(own)
    assert "1 (VTW) kept their promise wherever we measured it" in text
    assert "1 (Sight Beyond Text) kept it nowhere." in text
    assert "Different by setting: 1 (Browse-and-Concentrate)." in text
    assert "Undecided: 2 (AIM, TEAL)." in text
    assert "Not measured: 1 (OneLLM)." in text
    assert "did not work" not in text
    # What was not measured is no setting; what was refuted in one is named.
    own += [
        record_system("onellm", model="other", promised=measure(0.2)),
        record_system("browse", model="third", score=-0.2),
    ]
    text = overview.count_outcomes(own)
    assert "2 (VTW, OneLLM) kept their promise wherever we measured it" in text
    assert "In at least one setting these did not work: 1 (Browse-and-Concentrate)." in text


def test_a_page_says_promise_null_and_outcome():
    promise = SYSTEMS["onellm"].promise
    own = [
        record_system("onellm", promised=measure(0.02)),
        record_system("onellm", model="other", promised=measure(-0.05)),
        record_system("onellm", model="third", promised=measure(-0.2)),
        record_system("onellm", model="last", promised=WHY),
        record_system("browse", model="of another system"),
    ]
    text = overview.describe_promise("onellm", own)
    assert text.startswith(f"The promise of OneLLM: {promise.sentence} ")
    assert f"lies above -0.05: {promise.statistic}. With tiny we found 0.020" in text
    assert "0.020 [-0.030, 0.070], n = 60 questions: the system works. With other" in text
    assert "-0.050 [-0.100, 0.000], n = 60 questions: undecided. With third" in text
    assert "n = 60 questions: the system does not work. With last this was not measured" in text
    assert text.endswith(f"not measured: {WHY}")
    twice = [record_system("vtw"), record_system("vtw", dataset="others")]
    assert "With tiny on some questions we" in overview.describe_promise("vtw", twice)
    assert overview.describe_promise("vtw", own).endswith("has no model to measure it on.")
    with pytest.raises(UnknownNameError, match="vtw"):
        overview.describe_promise("vtv", own)


def test_the_front_page_says_where_each_works_and_links_its_page(tmp_path):
    runs = tmp_path / "book" / "runs"
    path = records.write_system_records(
        [record_system(), record_system(model="other", score=-0.2)], runs / "browse.systems.json"
    )
    out = tmp_path / "book" / "_generated" / "systems.md"
    systems_list.write_systems_list([path], out=out)
    (line,) = [own for own in out.read_text("utf-8").splitlines() if "- [Browse" in own]
    assert line == (
        "- [Browse-and-Concentrate](runs/browse.ipynb): **works** on tiny, some questions: 0.20 "
        "[0.15, 0.25], promised above 0 (cost × 1.50, alignment +0.10 [+0.05, +0.15]); **does not "
        "work** on other, some questions: -0.20 [-0.25, -0.15], promised above 0 (cost × 1.50, "
        "alignment +0.10 [+0.05, +0.15])."
    )
    # The score stands beside another statistic, and nothing is said to be what it is not.
    apart = overview.format_systems_list([record_system("aim", promised=measure(0.5))])
    assert "0.50 [0.45, 0.55], promised above 0 (cost × 1.50, score +0.20 [+0.15" in apart
    assert "AIM with pictures and text in the prompt (the score: text states of" in apart
    unmeasured = overview.format_systems_list([record_system("aim", promised=WHY)])
    assert "**not measured** on tiny, some questions: The page did not measure it (" in unmeasured
    systems_list.write_systems_list([], out=out)
    assert out.read_text("utf-8") == ""
    assert "_generated/systems.md" in (ROOT / "book" / "index.md").read_text(encoding="utf-8")
