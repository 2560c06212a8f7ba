"""Lists that were shown long ago go, and every outcome is told, once, before they do."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pyarrow.parquet as pq
import pytest

from aisle import lake
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import maintain, outcomes
from jobs.retention import drop_old
from tests.jobs.test_outcomes import SERVED, at, found, happened, land, served

pytestmark = pytest.mark.spark


def days(count: float) -> datetime:
    return SERVED + timedelta(days=count)


@pytest.fixture
def short(settings: Settings) -> Settings:
    """Lists for 10 days, outcomes for 40."""
    kept = settings.maintain.model_copy(update={"exposure_days": 10.0, "outcome_days": 40.0})
    return settings.model_copy(update={"maintain": kept})


def lists() -> set[str]:
    return set(lake.read("ops.recommendations")["request_id"].to_pylist())


def batches() -> set[str]:
    return {each.name for each in lake.landing("exposures").iterdir()}


def test_old_lists_go_and_their_outcomes_stay_as_they_are(spark, short: Settings) -> None:
    land("b1", served("r1", "ab"), served("r2", "a", hours=24 * 3))
    land("b2", served("r3", "c", hours=24 * 14))
    happened(("impression", "a", 1.0, "r1", "ann", None), ("click", "a", 2.0, "r1", "ann", None))
    outcomes.run(short, at(days(15)))
    before = found()
    done = drop_old(short, days(12))
    assert (done["ops.recommendations"], done["landing"]) == (1, 0), "of b1 a newer list is left"
    assert lists() == {"r2", "r3"}
    done = drop_old(short, days(15))
    assert (done["ops.recommendations"], done["landing"], done["ops.outcomes"]) == (1, 1, 0)
    assert (lists(), batches()) == ({"r3"}, {"b2"})
    assert not any(drop_old(short, days(15)).values())
    told = outcomes.run(short, at(days(16)))
    assert told["batches"] == 0, "nothing that went comes back"
    assert {key: row for key, row in found().items() if key[0] != "r3"} == {
        key: row for key, row in before.items() if key[0] != "r3"
    }
    assert drop_old(short, days(60))["ops.outcomes"] == 3
    assert {key[0] for key in found()} == {"r3"}, "its outcome is open still, and so is its list"
    assert lists() == {"r3"}


def test_a_list_whose_outcomes_nobody_told_yet_stays(spark, short: Settings) -> None:
    land("b1", served("r1", "a"))
    outcomes.run(short, at(days(2)))
    land("b2", served("r2", "a"))  # came late, and waits for the next run
    assert not any(drop_old(short, days(30)).values())
    assert (lists(), batches()) == ({"r1"}, {"b1", "b2"})
    happened(("click", "a", 1.0, "r1", "ann", None), ("click", "a", 1.0, "r2", "ann", None))
    outcomes.run(short, at(days(30)))
    assert all(row["clicked_at"] and row["mature"] for row in found().values())
    assert drop_old(short, days(30))["ops.recommendations"] == 2
    assert batches() == set()
    assert len(found()) == 2


def test_a_batch_that_landed_late_goes_before_its_lists_do(short: Settings) -> None:
    """Else the next run would take it for a new one, and tell its outcomes again."""
    for batch, request, day in (("b1", "r1", 0), ("b2", "r2", 14)):
        land(batch, served(request, "a", hours=24 * day))
        lake.append(outcomes.SHOWN, [{"request_id": request, "served_at": days(day), "batch_id": batch}])
    lake.append(
        outcomes.OUTCOMES, [{"request_id": "r1", "item_id": "a", "served_at": days(0), "mature": True}]
    )
    land("b3", served("r3", "a"))  # nobody has taken it in
    manifest = lake.landing("exposures") / "b1" / "manifest.json"
    manifest.write_text(json.dumps({"rows": 1, "landed_at": days(12).isoformat()}))
    done = drop_old(short, days(15))
    assert (done["ops.recommendations"], done["landing"]) == (1, 1)
    assert (batches(), outcomes.waiting()) == ({"b2", "b3"}, ["b3"])


def test_a_batch_that_an_erasure_emptied_is_waited_for_no_more(short: Settings) -> None:
    land("b1", served("r1", "a"))
    path = lake.landing("exposures") / "b1" / "rows.parquet"
    assert outcomes.waiting() == ["b1"]
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert outcomes.waiting() == []


def test_a_list_of_which_nothing_can_be_told_holds_up_no_other(short: Settings) -> None:
    """An empty one, and one that repeats a page under its request id: neither has a row in ops.outcomes."""
    for request, items, hour in (("r1", ["a"], 0), ("r0", [], 1), ("r1", ["a"], 2), ("r2", ["b"], 24 * 14)):
        moment = SERVED + timedelta(hours=hour)
        lake.append(outcomes.SHOWN, [{"request_id": request, "item_ids": items, "served_at": moment}])
    assert outcomes.oldest_open(days(10)) == SERVED, "nothing was told yet"
    lake.append(
        outcomes.OUTCOMES, [{"request_id": "r1", "item_id": "a", "served_at": SERVED, "mature": True}]
    )
    assert outcomes.oldest_open(days(10)) is None
    assert outcomes.oldest_open(days(15)) == days(14)
    assert drop_old(short, days(15))[outcomes.SHOWN] == 3
    late = SERVED + timedelta(hours=3)  # another page of the same request, which came when the first was told
    lake.append(outcomes.SHOWN, [{"request_id": "r1", "item_ids": ["a", "c"], "served_at": late}])
    assert outcomes.oldest_open(days(15)) == late


def test_maintain_does_it(spark, short: Settings) -> None:
    land("b1", served("r1", "a"))
    outcomes.run(short, at(days(20)))
    done = maintain.run(short, StepContext(as_of=days(30)))
    assert done["dropped_by_age"] == {"landing": 1, "ops.recommendations": 1, "ops.outcomes": 0}
    assert lists() == set()
