"""A file of ratings through the real ingest: what each value makes of its event in histories, and so in what is learnt from them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import functions as F

from aisle import lake, status, steps
from aisle.ratings import Bounds
from aisle.settings import Ingest, Settings
from aisle.stages import StepContext
from engine.interactions import Events
from engine.recipe import Recipe
from engine.state import from_frame
from jobs import gold
from jobs.landing import import_file

pytestmark = pytest.mark.spark
AT = datetime(2024, 5, 6, tzinfo=UTC)
MAPPING = """
kind = "events"
[columns]
event_time = "to_timestamp(CAST(timestamp AS BIGINT))"
user_id = "userId"
item_id = "movieId"
value = "rating"
[[event_type]]
is = "rating"
"""


def limits(settings: Settings, low: float, high: float) -> Ingest:
    return settings.ingest.model_copy(update={"min_rating": low, "max_rating": high})


@pytest.mark.parametrize(
    ("low", "high", "lows", "fairs", "goods"),
    [
        (0, 5, [0, 1, 2], [2.5, 3, 3.5], [4, 5]),
        (1, 5, [1, 2, 2.5], [3, 3.5], [4, 4.5, 5]),
        (0.5, 5, [0.5, 2], [2.5, 3, 3.5], [4, 5]),
        (0, 10, [0, 4], [4.5, 7], [7.5, 10]),
        (0, 100, [0, 40], [41, 74], [75, 100]),
        (-1, 1, [-1, -0.2], [0, 0.4], [0.5, 1]),
    ],
)
def test_values_by_the_scale_and_sql_says_the_same(
    spark, settings: Settings, low: float, high: float, lows: list, fairs: list, goods: list
) -> None:
    bounds = Bounds.of(limits(settings, low, high))
    wanted = {
        float(value): kind
        for kind, values in (("low_rating", lows), ("fair_rating", fairs), ("rating", goods))
        for value in values
    }
    assert {value: bounds.kind_of("rating", value) for value in wanted} == wanted
    rows = [("rating", value) for value in wanted] + [("rating", None), ("view", float(low))]
    frame = spark.createDataFrame(rows, "event_type string, value double")
    told = frame.select("event_type", "value", F.expr(bounds.kind_sql).alias("kind")).collect()
    assert [row["kind"] for row in told] == [bounds.kind_of(row["event_type"], row["value"]) for row in told]
    assert [row["kind"] for row in told][-2:] == ["rating", "view"]


def test_a_file_of_ratings_from_the_import_to_the_fit(spark, settings: Settings, tmp_path: Path) -> None:
    """Stars of 0.5 to 5: u1 changes their mind for the better, u2 for the worse; 7 stars are beyond the scale."""
    day, start = 86_400, int(datetime(2024, 5, 1, 8, tzinfo=UTC).timestamp())
    lines = [(f"u{user}", f"m{item}", 4, 0) for user in range(3, 13) for item in range(1, 5)]
    lines += [("u1", "m1", 0.5, 1), ("u1", "m1", 5, 2), ("u1", "m2", 1, 3), ("u1", "m3", 3, 4)]
    lines += [("u2", "m1", 4.5, 1), ("u2", "m1", 2, 2), ("u2", "m2", 7, 3)]
    rows = [(user, item, stars, start + back * day) for user, item, stars, back in lines]
    frame = pd.DataFrame(rows, columns=["userId", "movieId", "rating", "timestamp"])
    frame.to_csv(tmp_path / "ratings.csv", index=False)
    (tmp_path / "ratings.toml").write_text(MAPPING)
    report = import_file(settings, "events", tmp_path / "ratings.csv", mapping=tmp_path / "ratings.toml")
    assert "from 0.5 to 7 on the scale of 0 to 5: 1 lie beyond it and will be quarantined" in report.as_text()
    steps.run("ingest", settings, StepContext(run_id="test"))
    assert status.rows()["events"]["quarantined"] == 1
    (reasons,) = lake.read_frame("quarantine.events")["reasons"]
    assert list(reasons) == ["rating outside ingest.min_rating to max_rating"]
    silver = lake.read_frame("silver.interactions")
    assert {*silver["event_type"]} == {"rating"}, "silver keeps what was told, with its value"

    gold.run(settings, StepContext(as_of=AT, run_id="test"))
    states = from_frame(lake.read_frame("gold.user_history", filters=[("as_of", "=", AT)]))
    kinds = {state.user_id: [*zip(state.item_ids, state.event_types, strict=True)] for state in states}
    assert kinds["u1"] == [
        ("m3", "fair_rating"),
        ("m2", "low_rating"),
        ("m1", "rating"),
        ("m1", "low_rating"),
    ]
    assert kinds["u2"] == [("m1", "low_rating"), ("m1", "rating")]

    recipe, index = Recipe.of(settings), {f"m{number}": number for number in range(5)}
    events = Events.of(states, index, AT, recipe.event_weights, recipe.counting)
    net = dict(zip((state.user_id for state in states), events.matrix().toarray().tolist(), strict=True))
    weights = settings.training.event_weights
    assert net["u1"] == pytest.approx(
        [0, weights["rating"], weights["low_rating"], weights["fair_rating"], 0]
    )
    assert net["u2"] == pytest.approx([0, weights["low_rating"], 0, 0, 0])
    names = [state.user_id for state in states]
    assert [(names[user], item) for user, item in events.hidden.T.tolist()] == [("u1", 2), ("u2", 1)]

    stricter = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"low_rating": 0.7})})
    assert gold.run(settings, StepContext(as_of=AT, run_id="test")).get("points_built", 0) == 0
    gold.run(stricter, StepContext(as_of=AT, run_id="test"))
    history = lake.read_frame("gold.user_history", filters=[("user_id", "=", "u1")])
    first = history.sort_values("as_of")["event_types"].iloc[-1][0]
    assert first == "low_rating", "three stars, under other bounds: every point was built anew"


@pytest.mark.parametrize(
    ("stars", "said"),
    [
        ("4\n5\n2\n3", "from 2 to 5 on the scale of 0 to 5: 25 % low, 25 % fair, 50 % good"),
        ("1\n1\n0", "100 % low, 0 % fair, 0 % good; if they are of another scale, set ingest.min_rating"),
        ("10\n8", "2 lie beyond it and will be quarantined; set ingest.min_rating"),
        ("NaN\nmany", ""),
    ],
)
def test_an_import_says_where_its_ratings_lie(
    settings: Settings, tmp_path: Path, stars: str, said: str
) -> None:
    rows = [f"u{n},m{n},{star},1700000000" for n, star in enumerate(stars.split("\n"))]
    (tmp_path / "some.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows))
    (tmp_path / "some.toml").write_text(MAPPING)
    told = [import_file(settings, "events", tmp_path / "some.csv", tmp_path / "some.toml") for _ in range(2)]
    assert [("ratings  " in each.as_text(), each.ratings is not None) for each in told] == [
        (bool(said), bool(said)),
        (False, bool(said)),
    ]
    assert said in told[0].as_text()
