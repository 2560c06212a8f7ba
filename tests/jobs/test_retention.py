"""Lists that were shown long ago go, and every outcome is told, once, before they do."""

from __future__ import annotations

from datetime import datetime, timedelta

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


def test_maintain_does_it(spark, short: Settings) -> None:
    land("b1", served("r1", "a"))
    outcomes.run(short, at(days(20)))
    done = maintain.run(short, StepContext(as_of=days(30)))
    assert done["dropped_by_age"] == {"landing": 1, "ops.recommendations": 1, "ops.outcomes": 0}
    assert lists() == set()
