"""The quality table, from frames and from a lake."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from aisle import lake
from aisle.errors import MissingPrerequisite, NotThere, TooLittleData
from engine.recipe import Recipe
from tests.engine.shop import CUT, frames, orders
from training import dataset, quality

A = CUT + timedelta(days=28)


def window(at) -> quality.Window:
    items, histories, truth = frames(at)
    return quality.Window(at, items, histories, truth)


@pytest.fixture(scope="module")
def values() -> pd.DataFrame:
    return quality.compare(None, window(CUT - timedelta(days=28)), window(CUT), Recipe(), 1500)


def test_a_ranker_that_was_chosen_stands_beside_the_blend() -> None:
    windows = [window(CUT - timedelta(days=days)) for days in (56, 28, 0)]
    found = quality.compare(*windows, Recipe(), 1500)
    versions = set(found["version"])
    assert {quality.OURS, "ease"} <= versions
    blend = quality.compare(None, *windows[1:], Recipe(), 1500)
    ours = {name: rows.set_index("user_id") for name, rows in found[_whole(found)].groupby("version")}
    without = blend[_whole(blend)].query("version == @quality.OURS").set_index("user_id")
    same = ours[quality.BLEND if quality.BLEND in versions else quality.OURS]["value"]
    assert same.to_dict() == without["value"].to_dict(), "the blend is the same with and without the ranker"


def _whole(rows: pd.DataFrame) -> pd.Series:
    return rows["slice"].eq("all") & rows["column"].eq("all") & rows["metric"].eq("ndcg@10")


def test_every_model_is_judged_on_the_same_users(values: pd.DataFrame) -> None:
    users = (
        values[values["slice"] == "all"].groupby(["version", "column", "metric"])["user_id"].agg(frozenset)
    )
    assert set(values["version"]) == {"aisle", "popularity", "personal_frequency", "item_item", "ease"}
    assert (users.groupby(["column", "metric"]).nunique() == 1).all()


def test_gains_are_the_differences_of_the_means(values: pd.DataFrame) -> None:
    means = quality.summarise(values, 50, 0.95, 1).set_index(["version", "column", "slice", "metric"])["mean"]
    for row in quality.gains(values, 50, 0.95, 1).itertuples():
        apart = (
            means["aisle", row.column, "all", row.metric] - means[row.against, row.column, "all", row.metric]
        )
        assert row.mean == pytest.approx(apart)
        assert row.low <= row.mean <= row.high


def write(name: str, rows: pd.DataFrame) -> None:
    schema = lake.arrow_schema(name)
    whole = rows.reindex(columns=schema.names).astype(object).where(lambda frame: frame.notna(), None)
    write_deltalake(
        lake.table_path(name), pa.Table.from_pylist(whole.to_dict("records"), schema=schema), mode="append"
    )


def changed(histories: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """The rows that gold.user_history gets: of users whose history is not what stands already."""
    stands = {row.user_id: list(row.event_times) for row in before.itertuples()}
    same = [stands.get(row.user_id) == list(row.event_times) for row in histories.itertuples()]
    return histories[~np.array(same)]


@pytest.fixture
def shop_in_the_lake(aisle_home) -> None:
    standing = pd.DataFrame()
    for at in (CUT - timedelta(days=28), CUT):
        items, histories, _ = frames(at)
        fresh = changed(histories, standing)
        assert len(standing) == 0 or 0 < len(fresh) < len(histories)
        write("gold.user_history", fresh.assign(as_of=at))
        write("gold.user_stats", histories.assign(as_of=at, n_items=histories["item_ids"].map(len)))
        standing = histories
        write("gold.item_text", items.assign(as_of=at))
        write("gold.item_stats", items.assign(as_of=at))
    lines = orders().rename(columns={"time": "event_time", "kind": "event_type"})
    lines = lines.assign(event_id=[f"e{row}" for row in range(len(lines))], event_month="2024-06")
    write("silver.interactions", lines)


def test_the_table_reads_the_lake(settings, shop_in_the_lake) -> None:
    text = quality.table(settings, as_of=A)
    assert "held out: 2024-06-01 to 2024-06-29" in text
    for expected in (
        "aisle",
        "personal_frequency",
        "only items new to the user",
        "tail_items",
        "minus each baseline",
    ):
        assert expected in text


def test_the_sparse_table_gives_everybodys_histories(shop_in_the_lake) -> None:
    read, told = quality.read_window(CUT, A), window(CUT)
    expected = told.histories.sort_values("user_id")
    assert read.histories["user_id"].tolist() == expected["user_id"].tolist()
    assert read.histories["event_times"].map(list).tolist() == expected["event_times"].map(list).tolist()
    assert read.histories["item_ids"].map(sorted).tolist() == expected["item_ids"].map(sorted).tolist()
    assert read.histories["country"].tolist() == expected["country"].tolist()


def test_the_json_is_the_same_figures(settings, shop_in_the_lake, values: pd.DataFrame) -> None:
    found = json.loads(quality.table(settings, as_of=A, as_json=True))
    key = {"version": "item_item", "column": "new", "slice": "all", "metric": "ndcg@20"}
    row = next(row for row in found["means"] if all(row[name] == value for name, value in key.items()))
    chosen = values[(values[list(key)] == pd.Series(key)).all(axis=1)]
    assert row["mean"] == pytest.approx(chosen["value"].mean())
    assert row["low"] < row["mean"] < row["high"]


def test_features_that_were_not_built_are_asked_for(settings, shop_in_the_lake) -> None:
    with pytest.raises(NotThere, match="aisle run features"):
        quality.table(settings, as_of=A + timedelta(days=1))


def test_where_nothing_is_bought_any_more_the_windows_end_with_the_purchases_as_training_does(
    settings, shop_in_the_lake, capsys
) -> None:
    text = quality.table(settings, as_of=(A + timedelta(days=356)).astimezone(UTC))
    assert "held out: 2024-06-01 to 2024-06-29" in text
    assert "the windows end on 2024-06-29, with the purchases" in capsys.readouterr().err


def test_the_windows_are_those_of_training(settings, shop_in_the_lake) -> None:
    cuts = quality.cuts_of(settings, A)
    assert dict(cuts.items()) == {
        "V": CUT - timedelta(days=28),
        "T": CUT,
        "A": A,
        "R": CUT - timedelta(days=56),
    }
    assert cuts == dataset.Cuts.of(A, settings).within(orders()["time"].min())
    assert [window.at for window in quality.windows(cuts)] == [cuts.V, cuts.T]


def test_a_shop_of_two_days_is_told_how_many_are_missing(settings, shop_in_the_lake) -> None:
    young = orders()["time"].min().to_pydatetime() + timedelta(days=1)
    with pytest.raises(TooLittleData, match="and 84 are needed"):
        quality.table(settings, as_of=young)


def test_a_shop_where_everybody_buys_once_is_told_what_would_tell_taste(settings, shop_in_the_lake) -> None:
    """Whoever buys in a window is a stranger there, so that nothing can be chosen or judged."""
    events = lake.read_frame("silver.interactions")
    strangers = events.assign(user_id=[f"once {row}" for row in range(len(events))])
    write_deltalake(
        lake.table_path("silver.interactions"),
        pa.Table.from_pandas(
            strangers, schema=lake.arrow_schema("silver.interactions"), preserve_index=False
        ),
        mode="overwrite",
    )
    with pytest.raises(TooLittleData, match=r"no blend to choose; import more days.* viewed and carted"):
        quality.table(settings, as_of=A)


def test_a_young_shop_is_judged_on_shorter_windows(settings, shop_in_the_lake, capsys) -> None:
    first = orders()["time"].min().to_pydatetime()
    cuts = quality.cuts_of(settings, first + timedelta(days=60))
    assert [(cuts.A - cuts.T).days, (cuts.T - cuts.V).days] == [20, 20]
    assert "20 of them test instead of 28, 20 validate instead of 28" in capsys.readouterr().err


def test_without_data_the_way_out_is_named(settings, aisle_home) -> None:
    with pytest.raises(NotThere, match="aisle import events"):
        quality.table(settings)
    with pytest.raises(NotThere, match="aisle import events"):
        quality.against_peers(settings, 1.0)


def test_without_a_checkout_peers_are_refused(settings, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(quality.lake, "project_root", lambda: tmp_path)
    with pytest.raises(MissingPrerequisite, match="no bench/"):
        quality.against_peers(settings, 1.0)
