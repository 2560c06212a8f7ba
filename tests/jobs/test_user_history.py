"""Spark's cut of a history is the engine's: what training reads is what serving reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from aisle import features
from aisle.columns import EVENT_TYPES
from aisle.settings import Settings
from aisle.stages import StepContext
from engine.cut import Cut
from engine.state import from_frame
from jobs import gold
from jobs.user_history import kept
from tests.shop import write_interactions

pytestmark = pytest.mark.spark
CUTS = (Cut(10, 4, 6), Cut(7, 0, 0), Cut(12, 12, 100), Cut(1, 0, 3), Cut(100, 40, 5))


def histories(n: int, seed: int = 7) -> list[list[tuple[str, str]]]:
    """Of 0 to 60 events, some of few items, some of impressions mostly."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        length, items, shown = rng.integers(0, 60), rng.integers(1, 30), rng.choice([0.0, 0.3, 0.9])
        kinds = np.where(rng.random(length) < shown, "impression", rng.choice(EVENT_TYPES, length))
        found.append(
            [
                (f"i{item}", str(kind))
                for item, kind in zip(rng.integers(0, items, length), kinds, strict=True)
            ]
        )
    return found


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_the_cut_is_the_engine_s(spark, cut: Cut) -> None:
    some = histories(200)
    rows = [
        (number, [(item, kind, place) for place, (item, kind) in enumerate(history)])
        for number, history in enumerate(some)
    ]
    frame = spark.createDataFrame(
        rows, "number int, events array<struct<item_id: string, event_type: string, second: int>>"
    )
    found = frame.select("number", kept(F.col("events"), cut)["second"].alias("places")).toPandas()
    told = {row.number: list(row.places) for row in found.itertuples()}
    for number, history in enumerate(some):
        expected = list(cut.kept([item for item, _ in history], [kind for _, kind in history]))
        assert told[number] == expected, history


START = datetime(2024, 5, 6, 12, tzinfo=UTC)  # a Monday


def test_at_every_point_the_history_is_cut_as_the_engine_does(spark, settings: Settings) -> None:
    """Of what was known then: the hide that was taken back later hides until then. The visitor of session v logs in on day 4."""
    rng = np.random.default_rng(3)
    told = [
        (0.0, "purchase", "p", "ann", None),
        (0.1, "hide", "h", "ann", None),
        (0.2, "purchase", "q", None, "v"),
        (3.0, "undo", "h", "ann", None),
        (4.0, "view", "x", "ann", "v"),
        *(
            (day + part / 50, "view", f"i{rng.integers(9)}", "ann", None)
            for day in (1, 2, 5)
            for part in range(20)
        ),
    ]
    columns = ["day", "event_type", "item_id", "user_id", "session_id"]
    rows = pd.DataFrame(told, columns=columns)
    rows["event_time"] = pd.Timestamp(START) + pd.to_timedelta(rows.pop("day"), unit="D")
    rows.insert(0, "event_id", [f"e{number}" for number in range(len(rows))])
    write_interactions(rows)
    few = settings.features.model_copy(update={"history_length": 10})
    end = (START + timedelta(days=7)).replace(hour=0)
    gold.run(settings.model_copy(update={"features": few}), StepContext(as_of=end, run_id="test"))
    cut = Cut.of(few)
    for day in range(1, 8):
        at = (START + timedelta(days=day)).replace(hour=0)
        named = rows["user_id"].eq("ann") | (at >= START + timedelta(days=4))
        known = rows[(rows["event_time"] < at) & named].sort_values("event_time", ascending=False)
        items, kinds = known["item_id"].tolist(), known["event_type"].tolist()
        places = cut.kept(items, kinds)
        (state,) = from_frame(features.histories(at))
        assert list(state.item_ids) == [items[place] for place in places]
        assert list(state.event_types) == [kinds[place] for place in places]
    assert list(state.event_types)[10:] == ["undo", "purchase", "purchase"], (
        "the engine knows what it is held against"
    )
