"""Cuts, labels and truth, and what is said where the data is too short."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from aisle import decisions, lake
from aisle.errors import NotThere, TooLittleData
from aisle.registry import CHAMPION, Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from tests.shop import write_interactions, write_ledger
from training import dataset
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


@pytest.fixture
def demo(settings) -> Settings:
    """Purchases of 2011 and a click of 2026, and a champion of 2011-11-12."""
    rows = bought(*(("u", "a", f"2011-{month:02}-05T10:00") for month in range(1, 13)))
    click = bought(("u", "a", "2026-11-25T10:00")).assign(event_type="click")
    rows = pd.concat([rows, click], ignore_index=True)
    write_interactions(rows.assign(event_id=[f"e{number}" for number in range(len(rows))]))
    write_ledger(datetime(2026, 11, 25, 10, tzinfo=UTC))
    return settings


def champion(settings: Settings, as_of: str) -> str:
    registry = Registry(settings)
    registry.client.create_registered_model(registry.name)
    experiment = registry.client.create_experiment("one")
    run = registry.client.create_run(experiment).info.run_id
    version = registry.client.create_model_version(registry.name, "nowhere", run, tags={"as_of": as_of})
    registry.move_alias(CHAMPION, str(version.version), None)
    return str(version.version)


def test_clicks_of_today_bring_no_second_model_of_the_same_purchases(demo, capsys) -> None:
    named = champion(demo, "2011-12-06T00:00:00+00:00")
    found = dataset.run(demo, StepContext(run_id="again"))
    assert f"champion {named} has learnt" in found["skip"]
    assert "windows end on 2011-12-06" in capsys.readouterr().err
    assert not (lake.workdir("train", "again") / "dataset").exists()


def test_nor_a_second_challenger_that_the_gate_would_refuse_again(demo) -> None:
    named = champion(demo, "2011-11-12T00:00:00+00:00")
    end = datetime(2011, 12, 6, tzinfo=UTC)
    assert dataset.learnt_already(demo, end) == ""
    decisions.record(demo, "gate", "refused", "7", named, end, "gate", {})
    found = dataset.run(demo, StepContext(run_id="again"))
    assert "version 7 has, and was refused" in found["skip"]


def test_purchases_that_nobody_has_learnt_from_are_learnt_up_to_their_end(demo, monkeypatch) -> None:
    champion(demo, "2011-11-12T00:00:00+00:00")
    asked: list[Cuts] = []

    def build(settings: Settings, cuts: Cuts, version: int) -> dict[str, pd.DataFrame]:
        asked.append(cuts)  # Feast is not here: tests/e2e has it
        names = ("examples", "histories_T", "items_T", "truth_validation", "truth_test")
        return {name: pd.DataFrame({"user_id": ["u"]}) for name in names}

    monkeypatch.setattr(dataset, "build", build)
    found = dataset.run(demo, StepContext(run_id="moved"))
    assert [f"{cuts.A:%Y-%m-%d}" for cuts in asked] == ["2011-12-06"]
    assert found["as_of"] == "2011-12-06T00:00:00+00:00"
    assert found["asked_as_of"] == "2026-11-26T00:00:00+00:00"
    assert "2011-12-06" in found["moved"]
