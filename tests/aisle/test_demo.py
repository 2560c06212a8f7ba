"""The demo's own words and accounts; the way round itself is tests/e2e."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aisle import decisions, demo, lake, story
from aisle.doctor import check, locked
from aisle.errors import BadFile, ServiceFailed, SettingsError
from aisle.following import Loop, Run
from aisle.settings import Settings


@pytest.mark.parametrize("turns", [0, 3, -1])
def test_turns_that_there_are_none_of_start_nothing(settings: Settings, turns: int) -> None:
    with pytest.raises(SettingsError, match=f"--turns {turns}"):
        demo.main(settings, turns=turns)
    assert not any(lake.home().iterdir())


def test_data_that_is_not_there_starts_and_forgets_nothing(settings: Settings, tmp_path: Path) -> None:
    (lake.home() / "lake").mkdir()
    with pytest.raises(BadFile, match="is not there"):
        demo.main(settings, fresh=True, data=tmp_path / "none.parquet")
    assert [path.name for path in lake.home().iterdir()] == ["lake"]


NOON = datetime(2011, 11, 12, 12, tzinfo=UTC)


def loop(*runs: tuple[str, dict[str, str]]) -> Loop:
    """A loop that saw these runs: (dag, task -> state)."""
    found = Loop(api=None)
    for dag, tasks in runs:
        told = [
            {"task_id": name, "state": state, "duration": 1.0, "start_date": None}
            for name, state in tasks.items()
        ]
        found.runs[dag] = Run(dag, f"{dag}-1", "success", NOON, NOON, NOON + timedelta(seconds=9), told)
    return found


WAY = [
    ("ingest", {"silver": "success"}),
    ("features", {"feast": "success"}),
    ("monitor", {"verdict": "success"}),
]
TRAINED = ("train", {"judge.gate": "success", "refit": "success"})


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("ingest", {"bronze": "skipped"})], demo.NOTHING_NEW),
        (WAY[:2], demo.NOTHING_NEW),
        (WAY, "no retrain due"),
        ([*WAY, ("train", {"judge.gate": "success", "refit": "skipped"})], "refused by the gate"),
        ([*WAY, TRAINED, ("publish", {"approve": "success", "promote": "success"})], "released"),
        ([*WAY, TRAINED, ("publish", {"approve": "success", "promote": "skipped"})], "rejected"),
    ],
)
def test_how_far_a_turn_went(runs: list, expected: str) -> None:
    assert demo.outcome(loop(*runs)) == expected


def turn(number: int, outcome: str) -> dict[str, Any]:
    found = loop(*WAY)
    runs = [demo.told(run) for run in found.runs.values()]
    return {"number": number, "outcome": outcome, "runs": runs, "seconds": 9.0, "chain_seconds": 8.0}


def test_the_account_keeps_each_turn_and_a_quiet_demo_changes_nothing(aisle_home: Path) -> None:
    (aisle_home / "run").mkdir()
    demo.record(turn(1, "released"), 100.0, 5)
    demo.record(turn(2, "refused by the gate"), 200.0, 7)
    found = json.loads(demo.account().read_text())
    assert [each["number"] for each in found["turns"]] == [1, 2]
    assert (found["seconds"], found["peak_memory_bytes"]) == (200.0, 7)
    assert [(run["turn"], run["dag"], run["seconds"]) for run in found["dag_runs"][:2]] == [
        (1, "ingest", 9.0),
        (1, "features", 9.0),
    ]
    assert {"turn", "dag", "task", "state", "seconds"} <= set(found["tasks"][0])
    demo.record(turn(1, demo.NOTHING_NEW), 3.0, 1)
    assert json.loads(demo.account().read_text()) == found


def test_a_file_that_is_not_there_ends_in_the_commands_own_line(aisle_home: Path) -> None:
    with pytest.raises(ServiceFailed) as fault:
        demo.bring(aisle_home / "nothing.parquet", ("--until", demo.SPLIT))
    assert "nothing.parquet" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_fresh_forgets_what_the_demo_wrote_and_nothing_else(settings: Settings, aisle_home: Path) -> None:
    (aisle_home / "lake" / "bronze").mkdir(parents=True)
    (aisle_home / "aisle.toml").write_text("")
    demo.forget(settings)
    assert sorted(path.name for path in aisle_home.iterdir() if path.name != "run") == ["aisle.toml"]


def cell(column: str, other: str) -> dict[str, Any]:
    means = {
        "mean": 0.2,
        "mean_low": 0.18,
        "mean_high": 0.22,
        "other_mean": 0.1,
        "difference": 1.0,
        "low": 0.8,
        "high": 1.2,
    }
    return {"other": other, "column": column, "slice": "all", "metric": "ndcg@10", **means}


def test_the_gate_and_the_baselines_are_told(settings: Settings) -> None:
    body = {
        "opponent": "popularity",
        "rules": [{"rule": "primary", "verdict": "passed", "sentence": "higher by 100 %"}],
        "metrics": [
            cell(column, other) for column in ("all", "new") for other in ("popularity", "item_item")
        ],
    }
    decisions.record(settings, "gate", "passed", "1", None, NOON, "gate", body)
    console = Console(file=io.StringIO(), width=160)
    (lake.home() / "airflow").mkdir()
    (lake.home() / "airflow" / "passwords.json").write_text('{"admin": "secret-word"}')
    story.tell(
        settings, {"dag_runs": [{"turn": 1, "dag": "train", "state": "success", "seconds": 61.25}]}, console
    )
    text = console.file.getvalue()
    for words in (
        "train",
        "61.2",
        "passed",
        "rules passed",
        "0.2000",
        "0.180-0.220",
        "item_item",
        "secret-word",
    ):
        assert words in text, words


def test_the_customer_shown_has_a_readable_history(aisle_home: Path) -> None:
    def stats(user: str, orders: int, items: int, day: int) -> dict[str, Any]:
        return {
            "user_id": user,
            "as_of": datetime(2011, 11, day, tzinfo=UTC),
            "n_orders": orders,
            "n_items": items,
        }

    rows = [
        stats("old", 15, 60, 1),
        stats("heavy", 90, 900, 12),
        stats("b", 9, 40, 12),
        stats("a", 9, 30, 12),
        stats("one", 1, 2, 12),
    ]
    lake.append("gold.user_stats", rows)
    assert story.customer() == "a"


def test_doctor_reads_the_lock_file_and_counts_what_differs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(locked((lake.project_root() / "requirements.lock").read_text())) > 200
    text, healthy = check(settings)
    assert {"Python", "Java", "packages", "Delta", "disk", "memory", "port"} <= set(text.split())
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    text, healthy = check(settings)
    assert not healthy
    assert "apt-get install openjdk-17-jre-headless" in text
