"""Gold against a naive count in pandas, on real purchases; incremental builds against whole ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from aisle import features, lake
from aisle import settings as settings_module
from aisle.errors import NotThere
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import gold, merging
from tests.shop import purchases, write_ledger, write_silver

pytestmark = pytest.mark.spark
AS_OF = datetime(2011, 6, 1, tzinfo=UTC)
LATER = datetime(2011, 6, 15, tzinfo=UTC)
KEYS = {"user_stats": "user_id", "user_history": "user_id", "item_stats": "item_id", "item_text": "item_id"}


def at(as_of: datetime, **params) -> StepContext:
    return StepContext(as_of=as_of, run_id="test", params=params)


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return purchases(users=25, since="2011-02-01", until="2011-06-20")


@pytest.fixture
def shop(spark, settings: Settings, events: pd.DataFrame) -> Settings:
    write_silver(events[events["event_time"] < AS_OF])
    return settings


def table(name: str, as_of: datetime | None = None) -> pd.DataFrame:
    found = lake.read_frame(f"gold.{name}")
    key = KEYS[name]
    found = found[found["as_of"].eq(as_of)] if as_of else found
    return found.sort_values([key, "as_of"]).reset_index(drop=True)


def test_gold_is_what_a_naive_count_says_and_knows_nothing_later(
    shop: Settings, events: pd.DataFrame
) -> None:
    gold.run(shop, at(AS_OF))
    point = datetime(2011, 5, 16, tzinfo=UTC)
    known = events[events["event_time"] < point]
    bought = known[known["event_type"].eq("purchase")]

    users = table("user_stats", point).set_index("user_id")
    own, orders = known.dropna(subset="user_id"), bought.dropna(subset="user_id")
    assert users["n_events"].to_dict() == own.groupby("user_id").size().to_dict()
    some = orders.groupby("user_id")
    assert users.loc[users["n_orders"] > 0, "n_orders"].to_dict() == some["order_id"].nunique().to_dict()
    assert users.loc[users["n_items"] > 0, "n_items"].to_dict() == some["item_id"].nunique().to_dict()
    signed = own["price"] * own["quantity"] * own["event_type"].map({"purchase": 1, "return": -1})
    spend = signed.groupby(own["user_id"]).sum()
    assert (users["spend"] - spend).abs().max() < 1e-6
    since = (point - own.groupby("user_id")["event_time"].max()).dt.total_seconds() / 86_400
    assert (users["days_since_last"] - since).abs().max() < 1e-4
    country = own.sort_values("event_time").groupby("user_id")["country"].first()
    assert users["country"].to_dict() == country.to_dict()

    items = table("item_stats", point).set_index("item_id")
    buyer = bought["user_id"].fillna(bought["session_id"])
    assert (
        items.loc[items["n_buyers"] > 0, "n_buyers"].to_dict()
        == buyer.groupby(bought["item_id"]).nunique().to_dict()
    )
    recent = bought["event_time"] >= point - timedelta(days=30)
    expected = buyer[recent].groupby(bought.loc[recent, "item_id"]).nunique().to_dict()
    assert items.loc[items["n_buyers_30d"] > 0, "n_buyers_30d"].to_dict() == expected
    returned = known[known["event_type"].eq("return")].groupby("item_id").size().to_dict()
    assert items.loc[items["n_returns"] > 0, "n_returns"].to_dict() == returned

    history = table("user_history")
    history = history[history["as_of"] <= point].groupby("user_id").last()
    newest = own.sort_values("event_time", ascending=False).groupby("user_id")["event_time"].first()
    assert {user: times[0] for user, times in history["event_times"].items()} == {
        user: int(moment.timestamp()) for user, moment in newest.items()
    }
    assert history["item_ids"].map(len).to_dict() == own.groupby("user_id").size().to_dict()


def test_weeks_and_late_rows_added_one_by_one_give_what_one_build_gives(
    spark, shop: Settings, events: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = purchases(users=3, since="2011-04-01", until="2011-04-08").assign(user_id="late", session_id=None)
    late["event_id"] = "late" + late["event_id"]
    gold.run(shop, at(AS_OF))
    write_silver(
        pd.concat([events[events["event_time"].between(AS_OF, LATER, inclusive="left")], late]), "two"
    )
    told = gold.run(shop, at(LATER))
    assert 0 < told["points_built"] < told["points"], "what stood before the late rows is not built again"
    grown = {name: table(name) for name in KEYS}

    whole = tmp_path / "whole"
    whole.mkdir()
    monkeypatch.setenv("AISLE_HOME", str(whole))
    settings_module.load.cache_clear()
    write_silver(pd.concat([events[events["event_time"] < LATER], late]))
    gold.run(settings_module.load(), at(LATER))
    for name, key in KEYS.items():
        once = table(name)
        both = grown[name][grown[name]["as_of"].isin(once["as_of"])].reset_index(drop=True)
        if name == "user_history":  # a row stands until the next: compare what stands at the newest point
            both, once = (
                frame.groupby(key).last().drop(columns="as_of").reset_index() for frame in (both, once)
            )
        if name == "item_text":  # titles are the helper's, per write
            both, once = both.drop(columns="title"), once.drop(columns="title")
        pd.testing.assert_frame_equal(both, once, check_like=True, obj=name)


def test_again_is_skipped_only_when_published_and_a_past_as_of_emits_nothing(shop: Settings) -> None:
    assert gold.run(shop, at(AS_OF))["emit"]
    assert gold.run(shop, at(AS_OF))["points_built"] == 0
    features.note_published(features.Published(AS_OF.isoformat(), features.gold_versions(), ""))
    assert "skip" in gold.run(shop, at(AS_OF))
    past = gold.run(shop, at(datetime(2011, 4, 20, tzinfo=UTC)))
    assert past["points_built"] > 0
    assert not past["emit"]
    assert features.built().as_of == AS_OF.isoformat(), "a backfill does not move the newest point back"


def test_rebuild_means_every_point_or_those_from_a_day_on(shop: Settings) -> None:
    write_ledger(AS_OF - timedelta(hours=7))
    whole = gold.run(shop, at(AS_OF))
    since = gold.run(shop, at(datetime(2011, 5, 16, tzinfo=UTC), rebuild=True))
    assert 0 < since["points_built"] < whole["points_built"]
    everything = gold.run(shop, StepContext(run_id="test", params={"rebuild": True}))
    assert everything["points_built"] == everything["points"] == since["points"]
    assert everything["as_of"] == AS_OF.isoformat()


def test_a_day_beyond_the_data_is_refused(shop: Settings) -> None:
    write_ledger(AS_OF - timedelta(hours=7))
    with pytest.raises(
        NotThere, match=r"as_of 2012-02-01 00:00 lies beyond the data.*give 2011-06-01 or a day before"
    ):
        gold.run(shop, at(datetime(2012, 2, 1, tzinfo=UTC)))
    assert not lake.exists("gold.user_stats")


def test_a_killed_build_is_taken_up_again(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(found) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(features, "note_built", killed)
        with pytest.raises(KeyboardInterrupt):
            gold.run(shop, at(AS_OF))
    gold.run(shop, at(AS_OF))
    for name, key in KEYS.items():
        assert not table(name).duplicated([key, "as_of"]).any(), name


def test_a_commit_of_another_writer_in_between_is_no_fault(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed step's write goes on in the Spark server, and its commit may fall into the next try's."""
    tried = []

    def write() -> None:
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError(
                "(io.delta.exceptions.ConcurrentAppendException) a concurrent WRITE added data"
            )

    monkeypatch.setattr(merging.time, "sleep", lambda _: None)
    merging.committed(write)
    assert len(tried) == 2
    with pytest.raises(ValueError, match="other"):
        merging.committed(lambda: (_ for _ in ()).throw(ValueError("other")))


def test_a_shop_without_items_and_users_has_features(spark, settings: Settings, events: pd.DataFrame) -> None:
    from tests.shop import write_interactions

    write_interactions(events[events["event_time"] < AS_OF])
    gold.run(settings, at(AS_OF))
    assert table("item_text")["title"].isna().all()
    assert table("user_stats")["country"].isna().all()
    assert (table("item_text")["price"] > 0).any(), "the price is then what was paid"


def test_a_field_that_an_update_leaves_out_keeps_its_value_from_then_on(shop: Settings) -> None:
    item = table_of_items().iloc[0]
    update = pd.DataFrame(
        [{"item_id": item["item_id"], "updated_at": pd.Timestamp("2011-05-20", tz="UTC"), "brand": "Acme"}]
    )
    lake.append("silver.item_history", update)
    gold.run(shop, at(AS_OF))
    rows = table("item_text")
    rows = rows[rows["item_id"].eq(item["item_id"])].set_index("as_of")
    assert rows["title"].eq(item["title"]).all()
    assert rows.loc[rows.index <= pd.Timestamp("2011-05-20", tz="UTC"), "brand"].isna().all()
    assert rows.loc[rows.index > pd.Timestamp("2011-05-20", tz="UTC"), "brand"].eq("Acme").all()


def table_of_items() -> pd.DataFrame:
    found = lake.read_frame("silver.items")
    return found[found["title"].notna() & (found["updated_at"] < "2011-05-01")]


def test_each_gold_table_keeps_its_contract(shop: Settings) -> None:
    gold.run(shop, at(AS_OF))
    for name in features.GOLD:
        declared, written = lake.TABLES[f"gold.{name}"], lake.read(f"gold.{name}")
        assert written.schema.names == list(declared.columns), name
        told, meant = (
            [str(kind).replace("element: ", "item: ") for kind in schema.types]
            for schema in (written.schema, lake.arrow_schema(f"gold.{name}"))
        )
        assert told == meant, name
        keys = written.select(list(declared.key)).to_pandas()
        assert len(keys) > 0, name
        assert not keys.duplicated().any(), name
        assert not keys.isna().any().any(), name


def test_where_purchases_ended_long_before_the_newest_click_training_finds_its_cuts(
    shop: Settings, events: pd.DataFrame
) -> None:
    newest = datetime(2011, 9, 14, 9, tzinfo=UTC)
    write_silver(events.head(1).assign(event_id="click", event_type="click", event_time=newest), "two")
    gold.run(shop, at(datetime(2011, 9, 15, tzinfo=UTC)))
    bought = events[(events["event_time"] < AS_OF) & events["event_type"].eq("purchase")]
    end = bought["event_time"].max().ceil("D").to_pydatetime()
    cuts = {(end - timedelta(days=days)).isoformat() for days in (0, *gold.grid.cuts(shop))}
    assert cuts <= set(features.built().points)
    assert len(table("user_stats", end)) == bought["user_id"].nunique()


def test_where_nobody_buys_popular_is_what_people_click_until_somebody_buys(
    spark, settings: Settings, events: pd.DataFrame
) -> None:
    sold = events[events["event_type"].eq("purchase")]
    write_silver(sold.assign(event_type="click"))
    gold.run(settings, at(AS_OF))
    before = sold[sold["event_time"] < AS_OF]
    who = before["user_id"].fillna(before["session_id"])
    clicked = who.groupby(before["item_id"]).nunique()
    found = table("item_stats", AS_OF).set_index("item_id")["n_buyers"]
    assert found.sort_index().tolist() == clicked.sort_index().tolist()

    write_silver(before.head(1).assign(event_id="bought"), "two")
    gold.run(settings, at(AS_OF))
    assert features.built().goal == ["purchase"]
    assert table("item_stats", AS_OF)["n_buyers"].sum() == 1, "every point is counted anew by purchases"
