"""What the quality bench prints: targets beside the engine's row, whose seconds are whose, and what was tried where one is missed."""

from __future__ import annotations

import json

import pytest

from bench import notes, plots, quality, report, stopwatch
from bench.contest import Contest
from bench.peers import named
from bench.quality_table import show
from bench.targets import figures_of, of_main
from tests.bench.test_quality_bench import pairs, sequence, split  # noqa: F401 - fixtures


def row(model: str, metric: str, mean: float, seconds: float | None = 10.0, **more) -> dict:
    told = {"seconds": seconds, "peak_mib": seconds and 100.0, "us_per_list": 5.0}
    return {"model": model, "column": "all", "metric": metric, "mean": mean, **told, **more}


@pytest.fixture
def found() -> dict:
    rows = [
        row("implicit ALS", "ndcg@20", 0.30),
        row("implicit ALS", "coverage@20", 0.40),
        row("aisle", "ndcg@20", 0.36, 900.0),
        row("aisle", "coverage@20", 0.90, 900.0),
        row("linear alone", "ndcg@20", 0.29, None),
        row("Model * (paper)", "ndcg@20", 0.5, None, published=True),
    ]
    return {
        "rows": rows,
        "notes": ["aisle: no two_tower, which says why"],
        "seconds_by_part": {"blend": 300.0, "linear": 600.0},
        "sizes": {"linear": {"bytes": 2**20, "rule": 4 * 2**20}},
        "seconds_from_nothing": 1_000.0,
    }


def test_targets_stand_beside_the_engines_row(found, capsys) -> None:
    show("online_retail", found)
    said = capsys.readouterr().out
    lines = said.splitlines()
    ours = next(number for number, line in enumerate(lines) if "│ aisle " in line)
    assert ">= 0.3830 MISSED" in lines[ours + 1]
    assert ">= 0.8000 met" in lines[ours + 1]
    assert "<= 1,200 met" in lines[ours + 1]
    assert "1.200 x >= 1.1000 met" in lines[ours + 2]
    alone = next(line for line in lines if "linear alone" in line)
    assert alone.split("│")[-4:-2] == alone.split("│")[4:6]
    assert [cell.strip() for cell in alone.split("│")[4:6]] == ["-", "-"]
    assert "linear 600.0 s (67 %), blend 300.0 s (33 %)" in said
    assert "linear 1.00 of 4.00" in said
    assert "no two_tower" in said


def test_a_missed_target_names_three_ways_with_their_figures(found, capsys) -> None:
    figures = figures_of("online_retail", found["rows"], found)
    report.show("quality", figures)
    said = capsys.readouterr().out
    assert "online_retail, all ndcg@20, MISSED; tried:" in said
    assert "coverage@20, MISSED" not in said
    for label in ("online_retail, all ndcg@20", "online_retail, new coverage@20"):
        assert len(notes.of(label)) >= 3
    assert any(
        "1.43 / 1.83 / 2.07" in line
        for line in notes.of("online_retail, 3 events told, all recall@20 over popularity")
    )
    assert notes.of("beauty, 3 events told, new recall@20 over popularity") == []


def test_what_was_tried_is_written_beside_the_figures(found, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    figures = figures_of("online_retail", found["rows"], found)
    assert report.publish("quality", figures, quick=True) is None
    assert not list(tmp_path.iterdir()), "a quick run is no result"
    report.publish("quality", figures, {"sets": {}})
    body = json.loads((tmp_path / "quality.json").read_text())
    assert set(body) == {"name", "commit", "machine", "figures", "details"}
    assert list(body["details"]["tried"]) == ["online_retail, all ndcg@20"]
    assert body["machine"]["cores_used"] <= body["machine"]["cores"]


def test_results_are_printed_again_without_a_run(found, monkeypatch, tmp_path, capsys) -> None:
    for module in (report, quality):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    assert quality.reprint() == 1
    body = {"name": "quality", "commit": "abc", "machine": {}, "details": {"sets": {"online_retail": found}}}
    (tmp_path / "quality.json").write_text(json.dumps(body))
    assert quality.reprint() == 0
    again = json.loads((tmp_path / "quality.json").read_text())
    assert again["commit"] == "abc"
    assert again["details"]["sets"] == {"online_retail": found}
    assert again["figures"]["online_retail, bytes over the sizing rule"]["value"] == 0.25
    assert (tmp_path / "quality_online_retail.png").exists()
    assert "MISSED" in capsys.readouterr().out


def test_figures_of_a_run_have_their_targets(found) -> None:
    sets = dict.fromkeys(("a", "b"), found)
    assert of_main(sets, ("a", "b"))["main sets, whole run from nothing"].met
    assert of_main(sets, ("a", "b", "c")) == {}


def test_nobody_is_asked_to_list_more_than_the_whole_catalogue(found) -> None:
    als = next(row for row in found["rows"] if row["metric"] == "coverage@20")
    assert figures_of("shop", found["rows"])["shop, all coverage@20"].target == pytest.approx(0.8)
    als["mean"] = 0.7
    assert figures_of("shop", found["rows"])["shop, all coverage@20"].target is None


def test_a_small_shop_is_asked_no_more_singular_vectors_than_it_has_items(split) -> None:  # noqa: F811
    asked = list(named("RecTools").grid(Contest(split, minutes=0.01).validation))
    assert {each["factors"] for each in asked if each["model"] == "puresvd"} == {32}
    assert any(each["model"] == "knn" for each in asked)


def test_only_what_was_measured_alone_is_a_point_of_the_plot(found, monkeypatch, tmp_path) -> None:
    drawn = []
    monkeypatch.setattr(plots.plt.Axes, "plot", lambda self, x, y, *_, **__: drawn.append((x, y)))
    plots.quality_against_time(found["rows"], ["all"], "ndcg@20", tmp_path / "plot.png")
    assert drawn == [(10.0, 0.30), (900.0, 0.36)]


def test_a_part_is_counted_without_what_ran_inside_it(monkeypatch) -> None:
    now = iter([0.0, 1.0, 4.0, 10.0, 10.0, 12.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(now))
    watch = stopwatch.Stopwatch()
    with watch.of("blend"):
        watch.timed("linear", lambda: None)()
    watch.timed("linear", lambda: None)()
    assert dict(watch.seconds) == {"linear": 5.0, "blend": 7.0}
    assert watch.last == {"linear": 2.0, "blend": 7.0}


def test_only_who_reads_titles_and_prices_is_asked_again_when_they_change(split) -> None:  # noqa: F811
    contest = Contest(split, minutes=0.01)
    assert contest._version(named("EASE"), "test") == named("EASE").VERSION
    tower = named("TFRS tutorial")
    before = contest._version(tower, "test")
    split.test.items["title"] = "another"
    try:
        assert contest._version(tower, "test") != before
    finally:
        split.test.items["title"] = ""
    assert contest._version(tower, "test") == before
