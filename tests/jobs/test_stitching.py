"""Anonymous events before a log-in: whose they are, from when on, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from aisle import features, lake
from aisle import settings as settings_module
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import gold, stitching
from tests.shop import write_interactions

pytestmark = pytest.mark.spark
START = datetime(2024, 5, 6, 12, tzinfo=UTC)  # a Monday
Told = tuple[float, str, str | None, str | None]


def at(day: int) -> StepContext:
    return StepContext(as_of=(START + timedelta(days=day)).replace(hour=0), run_id="test")


def send(batch: str, *events: Told) -> None:
    """(days after START, item, user, session) of views."""
    rows = [
        {
            "event_id": f"{batch}-{number}",
            "event_type": "view",
            "event_time": pd.Timestamp(START + timedelta(days=day)),
            "item_id": item,
            "user_id": user,
            "session_id": session,
        }
        for number, (day, item, user, session) in enumerate(events)
    ]
    write_interactions(pd.DataFrame(rows), batch)


def history(user: str, day: int) -> list[str]:
    """What a join at midnight of a day finds: the newest row up to it."""
    rows = lake.read_frame("gold.user_history", filters=[("user_id", "=", user)])
    rows = rows[rows["as_of"] <= (START + timedelta(days=day)).replace(hour=0)].sort_values("as_of")
    return list(rows["item_ids"].iloc[-1]) if len(rows) else []


def linked() -> dict[str, str]:
    return dict(lake.read_frame(stitching.LINKS)[["session_id", "user_id"]].itertuples(index=False))


BEFORE: tuple[Told, ...] = (
    (0.0, "a", None, "s1"),
    (0.1, "b", None, "s1"),
    (1.0, "c", "ann", "s2"),  # elsewhere, before the log-in
    (2.0, "d", "ann", "s1"),  # the log-in
    (2.1, "e", None, "s1"),
    (0.2, "x", None, "s3"),  # nobody's
    (0.3, "y", "ann", "s4"),  # two users
    (0.4, "y", None, "s4"),
    (0.5, "y", "bob", "s4"),
)


def test_what_came_before_a_login_is_theirs_from_then_on(spark, settings: Settings) -> None:
    send("one", *BEFORE)
    gold.run(settings, at(4))
    assert linked() == {"s1": "ann"}
    assert history("ann", 2) == ["c", "y"], "nobody knew yet whose s1 was"
    assert history("ann", 4) == ["e", "d", "c", "y", "b", "a"]
    users = lake.read_frame("gold.user_stats", filters=[("user_id", "=", "ann")]).set_index("as_of")
    counted = users["n_events"].sort_index()
    assert counted.iloc[-1] == 6
    assert counted[counted.index < START + timedelta(days=2)].max() == 2


def test_one_by_one_gives_what_one_build_gives_and_again_changes_nothing(
    spark, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: tuple[Told, ...] = (
        (5.0, "f", "ann", "s3"),
        (6.0, "g", "bob", "s1"),
    )  # one becomes hers, one nobody's
    send("one", *BEFORE)
    gold.run(settings, at(4))
    version = lake.version(stitching.LINKS)
    assert gold.run(settings, at(4))["points_built"] == 0
    assert lake.version(stitching.LINKS) == version
    send("two", *later)
    gold.run(settings, at(8))
    assert linked() == {"s3": "ann"}
    assert history("ann", 8) == ["f", "d", "c", "y", "x"]
    grown = frames()
    monkeypatch.setenv("AISLE_HOME", str(tmp_path / "whole"))
    settings_module.load.cache_clear()
    send("one", *BEFORE)
    send("two", *later)
    gold.run(settings_module.load(), at(8))
    for name, whole in frames().items():
        pd.testing.assert_frame_equal(grown[name], whole, obj=name)


def frames() -> dict[str, pd.DataFrame]:
    """user_stats on its points, and the history that stands at each of them."""
    points = [4, 5, 6, 7, 8]
    rows = [(user, day, tuple(history(user, day))) for user in ("ann", "bob") for day in points]
    stats = lake.read_frame("gold.user_stats").sort_values(["user_id", "as_of"]).reset_index(drop=True)
    return {"stats": stats, "histories": pd.DataFrame(rows)}


def test_what_was_known_late_takes_no_place_of_what_is_newer(spark, settings: Settings) -> None:
    few = settings.features.model_copy(update={"history_length": 3})
    early: tuple[Told, ...] = ((0.0, "a", None, "s1"), (0.1, "b", None, "s1"), (0.2, "c", None, "s1"))
    send("one", *early, (2.0, "p", "ann", "s2"), (2.1, "q", "ann", "s2"), (3.0, "d", "ann", "s1"))
    gold.run(settings.model_copy(update={"features": few}), at(5))
    assert history("ann", 3) == ["q", "p"]
    assert history("ann", 5) == ["d", "q", "p"]


def test_only_within_the_days_of_the_setting(spark, settings: Settings) -> None:
    near = settings.features.model_copy(update={"stitch_days": 1.0})
    send(
        "one", (0.0, "a", None, "s1"), (1.5, "b", None, "s1"), (2.0, "c", "ann", "s1"), (4.0, "d", None, "s1")
    )
    gold.run(settings.model_copy(update={"features": near}), at(6))
    assert history("ann", 6) == ["c", "b"]


def test_never_where_the_setting_says_so(spark, settings: Settings) -> None:
    never = settings.features.model_copy(update={"stitch_days": 0.0})
    send("one", *BEFORE)
    gold.run(settings.model_copy(update={"features": never}), at(4))
    assert history("ann", 4) == ["d", "c", "y"]
    assert not lake.exists(stitching.LINKS)


def test_a_rebuild_tells_anew_whose_sessions_were(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting may be another one since, and no event came."""
    told: list[float] = []
    monkeypatch.setattr("aisle.spark.session", lambda settings: None)
    monkeypatch.setattr(stitching, "bring_up_to_date", lambda spark, version, days: told.append(days))
    send("one", *BEFORE)
    before = features.Built("2024-05-10", [], {"silver.interactions": lake.version("silver.interactions")})
    gold.versions(settings, before)
    assert not told
    gold.versions(settings, before, anew=True)
    assert told == [settings.features.stitch_days]


def test_a_shop_whose_sessions_are_nobodys_pays_nothing(spark, settings: Settings) -> None:
    send("one", (0.0, "a", None, "s1"), (1.0, "b", "ann", None))
    gold.run(settings, at(3))
    assert not lake.exists(stitching.LINKS)
    assert history("ann", 3) == ["b"]
