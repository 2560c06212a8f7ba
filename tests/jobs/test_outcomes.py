"""Lists that were served and what people did next, on rows that are told apart by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aisle import lake
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import outcomes
from serving.exposures import Exposure, Shown

pytestmark = pytest.mark.spark
SERVED = datetime(2024, 6, 1, 12, tzinfo=UTC)
SOON, WEEK = SERVED + timedelta(days=2), SERVED + timedelta(days=8)


def at(as_of: datetime) -> StepContext:
    return StepContext(as_of=as_of.replace(hour=0), run_id="test")


def served(
    request: str, items: str, user: str | None = "ann", session: str | None = None, hours: float = 0
) -> Exposure:
    shown = [Shown(item, place, "linear", 1.0 / place) for place, item in enumerate(items, 1)]
    moment = (SERVED + timedelta(hours=hours)).timestamp()
    return Exposure(request, moment, user, session, "7", "", "personalised", "home", "recommendations", shown)


def land(batch: str, *exposures: Exposure) -> None:
    """As the journal lands them."""
    folder = lake.landing("exposures") / batch
    folder.mkdir(parents=True)
    rows = [{"at": number, **each.row()} for number, each in enumerate(exposures, 1)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    newest = max(each.row()["served_at"] for each in exposures)
    (folder / "manifest.json").write_text(json.dumps({"rows": len(rows), "landed_at": newest}))


def happened(*events: tuple) -> None:
    """(type, item, hours after SERVED, request, user, session)."""
    rows = [
        {
            "event_id": f"e{number}-{hours}",
            "event_type": kind,
            "event_time": SERVED + timedelta(hours=hours),
            "item_id": item,
            "request_id": request,
            "user_id": user,
            "session_id": session,
            "quantity": 2.0,
            "event_month": "2024-06",
        }
        for number, (kind, item, hours, request, user, session) in enumerate(events)
    ]
    lake.append("silver.interactions", rows)


def found() -> dict[tuple[str, str], dict]:
    return {(row["request_id"], row["item_id"]): row for row in lake.read("ops.outcomes").to_pylist()}


def hours(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - SERVED).total_seconds() / 3600


def test_who_saw_clicked_and_bought_what(spark, settings: Settings) -> None:
    land(
        "b1", served("r1", "abc"), served("r2", "ab", user=None, session="s9"), served("r3", "a", user="bob")
    )
    happened(
        ("impression", "a", 0.1, "r1", "ann", None),
        ("impression", "b", 0.1, "r1", "ann", None),
        ("click", "b", 0.2, "r1", "ann", None),
        ("purchase", "b", 5.0, None, "ann", None),  # after the impression, without a request id
        ("purchase", "c", 5.0, None, "ann", None),  # never seen: not the list's
        ("purchase", "a", 30.0, None, "ann", None),  # more than a day after the impression
        ("impression", "a", 0.5, None, None, "s9"),  # says of the newest list of that session
        ("view", "a", 1.0, "lost", None, "s9"),  # of a list that is not there: by item
        ("hide", "a", 190.0, "r3", "bob", None),  # beyond the week
    )
    told = outcomes.run(settings, at(SOON))
    assert told["batches"] == 1
    rows = found()
    assert len(rows) == 6
    assert [hours(rows["r1", item]["seen_at"]) for item in "abc"] == [0.1, 0.1, None]
    bought = rows["r1", "b"]
    assert (hours(bought["clicked_at"]), hours(bought["purchased_at"])) == (0.2, 5.0)
    assert (bought["position"], bought["source"], bought["model_version"], bought["propensity"]) == (
        2,
        "linear",
        "7",
        1.0,
    )
    assert (bought["user_id"], bought["session_id"], bought["placement"], bought["mature"]) == (
        "ann",
        None,
        "home",
        False,
    )
    assert rows["r1", "a"]["purchased_at"] is rows["r1", "c"]["purchased_at"] is None
    assert hours(rows["r2", "a"]["viewed_at"]) == 1.0
    assert rows["r2", "a"]["matched_by"] == "item"
    assert rows["r3", "a"]["hidden_at"] is None


def test_an_outcome_ripens_and_then_stays(spark, settings: Settings) -> None:
    land("b1", served("r1", "ab"))
    happened(("impression", "a", 1.0, "r1", "ann", None))
    outcomes.run(settings, at(SOON))
    assert not found()["r1", "a"]["mature"]
    happened(("purchase", "a", 100.0, "r1", "ann", None))
    outcomes.run(settings, at(WEEK + timedelta(days=1)))
    ripe = found()
    assert ripe["r1", "a"]["mature"]
    assert hours(ripe["r1", "a"]["purchased_at"]) == 100.0
    happened(("click", "b", 2.0, "r1", "ann", None))  # it comes in too late
    land("b2", served("r9", "c", hours=24 * 9))
    outcomes.run(settings, at(WEEK + timedelta(days=4)))
    assert found()["r1", "b"] == ripe["r1", "b"]
    assert not found()["r9", "c"]["mature"]


def test_repeating_it_changes_nothing(spark, settings: Settings) -> None:
    assert "skip" in outcomes.run(settings, at(SOON))
    land("b1", served("r1", "ab"), served("r1", "ba", hours=1))  # a caller's id, used twice
    happened(("impression", "a", 1.0, "r1", "ann", None))
    outcomes.run(settings, at(SOON))
    once = found()
    again = outcomes.run(settings, at(SOON))
    assert (again["batches"], found()) == (0, once)
    assert len(lake.read("ops.recommendations")) == 2
    assert [once["r1", item]["position"] for item in "ab"] == [1, 2], (
        "the first time that it was shown counts"
    )


def test_nothing_after_as_of_is_known(spark, settings: Settings) -> None:
    land("b1", served("r1", "a"), served("r2", "a", hours=60))
    happened(("impression", "a", 1.0, "r1", "ann", None), ("click", "a", 40.0, "r1", "ann", None))
    outcomes.run(settings, at(SERVED + timedelta(days=1)))
    assert {key: hours(row["clicked_at"]) for key, row in found().items()} == {("r1", "a"): None}
