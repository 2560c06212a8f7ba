"""Cuts, labels and truth, and what is said where the data is too short."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from aisle.errors import NotThere, TooLittleData
from training.dataset import Cuts, Dataset, labelled, require_span, truth


@pytest.fixture
def cuts(settings) -> Cuts:
    return Cuts.of(datetime(2011, 12, 10, tzinfo=UTC), settings)


def bought(*rows: tuple[str, str, str]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time"])
    return found.assign(event_time=pd.to_datetime(found["event_time"], utc=True), event_type="purchase")


def test_cuts_are_midnights_apart_by_the_settings(cuts) -> None:
    assert [f"{moment:%Y-%m-%d %H}" for _, moment in cuts.items()] == [
        "2011-09-17 00",
        "2011-10-15 00",
        "2011-11-12 00",
        "2011-12-10 00",
    ]


def test_a_young_shop_goes_without_the_rankers_window(cuts) -> None:
    assert cuts.within(datetime(2011, 8, 20, tzinfo=UTC)) == cuts
    young = cuts.within(datetime(2011, 8, 21, tzinfo=UTC))
    assert [name for name, _ in young.items()] == ["V", "T", "A"]


def test_labels_are_distinct_items_of_a_day_and_know_their_window(cuts) -> None:
    rows = bought(
        ("u", "b", "2011-10-01T10:00"),
        ("u", "a", "2011-10-01T18:00"),
        ("u", "a", "2011-10-01T19:00"),
        ("u", "a", "2011-10-15T00:00"),
        ("u", "a", "2011-11-12T00:00"),
    )
    found = labelled(rows, cuts)
    assert found["label_items"].tolist() == [["a", "b"], ["a"], ["a"]]
    assert found["split"].tolist() == ["train", "validation", "test"]
    assert found["event_timestamp"].dt.hour.eq(0).all()


def test_truth_is_distinct_pairs_of_the_half_open_window(cuts) -> None:
    rows = bought(
        ("u", "a", "2011-11-12T00:00"), ("u", "a", "2011-11-13T00:00"), ("u", "b", "2011-12-10T00:00")
    )
    assert truth(rows, cuts.T, cuts.A).values.tolist() == [["u", "a"]]


def test_too_young_a_shop_is_told_how_many_days_there_are_and_needed(cuts) -> None:
    with pytest.raises(TooLittleData, match=r"back 20 days .* 84 are needed"):
        require_span(bought(("u", "a", "2011-11-20T00:00")), cuts)
    with pytest.raises(TooLittleData, match="0 days"):
        require_span(bought(), cuts)


def test_a_window_without_purchases_is_named(cuts) -> None:
    with pytest.raises(TooLittleData, match="validation days"):
        require_span(bought(("u", "a", "2011-01-01T00:00"), ("u", "a", "2011-12-01T00:00")), cuts)


def test_an_unfinished_folder_is_no_dataset(tmp_path) -> None:
    with pytest.raises(NotThere, match=r"train\.dataset"):
        Dataset.load(tmp_path)
