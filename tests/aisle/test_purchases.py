"""Where training's windows end: with the purchases, where the newest events are none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from aisle import lake, purchases
from aisle.settings import Settings
from tests.shop import write_interactions

TODAY = datetime(2026, 11, 26, tzinfo=UTC)


def silver(*rows: tuple[str, str]) -> int:
    """The version of a silver.interactions with these (event_type, ISO time)."""
    frame = pd.DataFrame(rows, columns=["event_type", "event_time"])
    frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True, format="ISO8601")
    names = [f"e{number}" for number in range(len(frame))]
    write_interactions(frame.assign(event_id=names, user_id="u", item_id="i"))
    return lake.version("silver.interactions")


def weekly(since: str, until: str) -> list[tuple[str, str]]:
    return [("purchase", day.isoformat()) for day in pd.date_range(since, until, freq="7D")]


def test_a_shop_that_sells_is_judged_up_to_now(settings: Settings) -> None:
    version = silver(*weekly("2011-01-03", "2011-12-05"), ("click", "2011-12-09T10:00"))
    asked = datetime(2011, 12, 10, tzinfo=UTC)
    assert purchases.windows_end(asked, settings, version) == asked
    noon = datetime(2011, 12, 9, 12, tzinfo=UTC)
    assert purchases.windows_end(noon, settings, version) == asked
    assert purchases.first(version) == datetime(2011, 1, 3, tzinfo=UTC)


def test_clicks_of_today_over_purchases_of_another_year_move_nothing(settings: Settings) -> None:
    version = silver(*weekly("2011-01-03", "2011-12-05"), ("click", "2026-11-25T10:00"))
    assert purchases.windows_end(TODAY, settings, version) == datetime(2011, 12, 6, tzinfo=UTC)


def test_nor_does_a_single_purchase_of_today_without_a_window_before_it(settings: Settings) -> None:
    version = silver(*weekly("2011-01-03", "2011-12-05"), ("purchase", "2026-11-25T10:00"))
    assert purchases.windows_end(TODAY, settings, version) == datetime(2011, 12, 6, tzinfo=UTC)


def test_what_was_bought_from_as_of_on_is_not_seen(settings: Settings) -> None:
    version = silver(*weekly("2011-01-03", "2011-12-05"))
    asked = datetime(2011, 6, 1, tzinfo=UTC)
    assert purchases.windows_end(asked, settings, version) == asked


@pytest.mark.parametrize("bought", [[], [("purchase", "2026-11-20")], [("purchase", "2011-12-05")]])
def test_without_two_windows_as_of_stands(settings: Settings, bought: list[tuple[str, str]]) -> None:
    version = silver(("click", "2026-11-25T10:00"), *bought)
    assert purchases.windows_end(TODAY, settings, version) == TODAY
    assert (purchases.first(version) is None) == (not bought)


def test_a_pause_as_long_as_both_windows(settings: Settings) -> None:
    """The first purchases after it are not judged until there is a validation window before them."""
    test, validation = settings.training.test_days, settings.training.validation_days
    version = silver(*weekly("2026-01-01", "2026-06-01"), ("purchase", "2026-11-20"))
    assert purchases.windows_end(TODAY, settings, version) < datetime(2026, 6, 3, tzinfo=UTC)
    version = silver(("purchase", (TODAY - timedelta(days=test + validation)).isoformat()))
    assert purchases.windows_end(TODAY, settings, version) == TODAY


def test_an_empty_lake_has_no_say(settings: Settings) -> None:
    assert purchases.windows_end(TODAY, settings, -1) == TODAY
    assert purchases.first(-1) is None
