"""Histories as known at a point, from the sparse gold.user_history."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aisle import features, lake
from aisle.errors import NotThere, TooLittleData

MAY, JUNE, JULY = (datetime(2011, month, 1, tzinfo=UTC) for month in (5, 6, 7))


def history(user: str, at: datetime, *items: str) -> dict:
    n = len(items)
    lists = {"event_types": ["purchase"] * n, "event_times": [1] * n, "quantities": [1.0] * n}
    return {"user_id": user, "as_of": at, "item_ids": list(items), **lists}


def stats(user: str, at: datetime, n_items: int, country: str | None = None) -> dict:
    return {"user_id": user, "as_of": at, "n_items": n_items, "country": country}


@pytest.fixture
def gold(aisle_home) -> None:
    """anna buys in April and June, bert in April; cleo only searches."""
    rows = [history("anna", MAY, "a"), history("bert", MAY, "b"), history("anna", JULY, "c", "a")]
    lake.append("gold.user_history", rows)
    for at in (MAY, JUNE, JULY):
        known = [stats("anna", at, 1, "France"), stats("bert", at, 1), stats("cleo", at, 0, "Spain")]
        lake.append("gold.user_stats", known)


@pytest.mark.parametrize(("at", "annas"), [(MAY, ["a"]), (JUNE, ["a"]), (JULY, ["c", "a"])])
def test_a_row_stands_until_the_next_one(gold, at: datetime, annas: list[str]) -> None:
    found = features.histories(at).set_index("user_id")
    assert {user: list(items) for user, items in found["item_ids"].items()} == {"anna": annas, "bert": ["b"]}
    assert found.loc["anna", "country"] == "France"


def test_one_user_and_some_columns(gold) -> None:
    assert features.histories(JUNE, "anna", ["item_ids"])["item_ids"].map(list).tolist() == [["a"]]
    assert features.histories(JUNE, columns=[]).columns.tolist() == ["user_id", "country"]
    assert features.histories(JUNE, "cleo")["country"].tolist() == ["Spain"]
    assert features.histories(JUNE, "nobody").empty


def test_a_point_without_features_is_asked_for(gold) -> None:
    with pytest.raises(NotThere, match=r"2011-05-02.*aisle run features"):
        features.histories(MAY.replace(day=2))


def test_histories_that_are_missing_are_told(gold) -> None:
    lake.append("gold.user_stats", [stats(f"u{number}", JULY, 3) for number in range(20)])
    with pytest.raises(TooLittleData, match=r"knows 2 users as of 2011-07-01, gold\.user_stats 22 buyers"):
        features.histories(JULY)
