"""Feast over gold with the real parts, on real purchases: nothing of the future, no nulls, online as offline."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from aisle import features, lake
from aisle.columns import AS_OF
from aisle.settings import Settings
from serving.features import OnlineStore
from tests.feature_repo.conftest import AS_OF_DAY, IDLE
from training.dataset import Cuts, build

pytestmark = pytest.mark.spark
SERVICES = {"retrieval_v1": "user_id", "item_v1": "item_id", "related_v1": "item_id"}


def labels(events: pd.DataFrame) -> pd.DataFrame:
    """Users on the midnights of their purchase days, as training asks for them."""
    known = events.dropna(subset="user_id")
    known = known[known["event_time"] < AS_OF_DAY]
    days = known.assign(event_timestamp=known["event_time"].dt.floor("D").astype("datetime64[us, UTC]"))
    return days[["user_id", "event_timestamp"]].drop_duplicates().reset_index(drop=True)


def test_no_future_row_leaks_into_a_training_set(shop: Settings, events: pd.DataFrame) -> None:
    """Counted anew from the raw purchases: what a label sees lies wholly before the day of the label."""
    rows = features.historical(shop, labels(events), "retrieval_v1")
    own = events.dropna(subset="user_id")
    for row in rows.itertuples():
        seen = own[own["user_id"].eq(row.user_id) & (own["event_time"] < row.event_timestamp)]
        times = row.event_times if isinstance(row.event_times, list) else []
        assert all(moment < row.event_timestamp.timestamp() for moment in times)
        assert set(times) <= {int(moment.timestamp()) for moment in seen["event_time"]}
        assert (0 if pd.isna(row.n_events) else row.n_events) <= len(seen)


def test_no_label_meets_nulls_for_want_of_a_past_snapshot(shop: Settings, events: pd.DataFrame) -> None:
    """Whoever did something a week or longer before the label is known: the grid is weekly at its coarsest."""
    asked = labels(events)
    first = events.groupby("user_id")["event_time"].min()
    rows = features.historical(shop, asked, "retrieval_v1").set_index(["user_id", "event_timestamp"])
    due = [
        (row.user_id, row.event_timestamp)
        for row in asked.itertuples()
        if first[row.user_id] < row.event_timestamp - timedelta(days=7)
    ]
    assert len(due) > 50
    assert rows.loc[due, ["n_events", "country"]].notna().all().all()
    assert rows.loc[due, "item_ids"].map(bool).all()


def same(one: object, other: object) -> bool:
    if isinstance(one, list | np.ndarray):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    if one is None or (isinstance(one, float) and math.isnan(one)):
        return other is None or (isinstance(other, float) and math.isnan(other))
    return math.isclose(one, other, abs_tol=1e-9) if isinstance(one, float) else one == other


@pytest.mark.parametrize("service", SERVICES)
def test_online_values_are_the_offline_ones(shop: Settings, service: str) -> None:
    key = SERVICES[service]
    table = {"retrieval_v1": "user_stats", "item_v1": "item_stats", "related_v1": "co_visits"}[service]
    ids = lake.read(f"gold.{table}", columns=[key], filters=[(AS_OF, "=", AS_OF_DAY)])[key].to_pylist()
    assert len(ids) > 20
    asked = pd.DataFrame({key: ids, "event_timestamp": pd.Timestamp(AS_OF_DAY)})
    offline = features.historical(shop, asked, service).set_index(key)
    online = pd.DataFrame(features.online(shop, service, [{key: each} for each in ids])).set_index(key)
    names = [name for name in online.columns if name in offline.columns]
    assert len(names) > 1
    for name in names:
        wrong = [each for each in ids if not same(offline.at[each, name], online.at[each, name])]
        assert not wrong, f"{service}.{name} of {wrong[:3]}"


def test_the_training_set_comes_through_feast_and_knows_no_future(shop: Settings) -> None:
    cuts = Cuts(*(AS_OF_DAY - timedelta(days=days) for days in (56, 28, 0)))
    version = lake.version("silver.interactions")
    frames = build(shop, cuts, version)
    examples = frames["examples"]
    assert set(examples["split"]) == {"train", "validation", "test"}
    assert examples["event_timestamp"].max() < pd.Timestamp(AS_OF_DAY), "silver knows a month more"
    for row in examples.dropna(subset="event_times").itertuples():
        assert max(row.event_times, default=0) < row.event_timestamp.timestamp()
    for name, cut in cuts.items():
        newest = frames[f"histories_{name}"]["event_times"].dropna().map(max).max()
        assert newest < cut.timestamp(), name


def test_the_catalogue_says_what_everything_is(shop: Settings) -> None:
    store = features.store(shop)
    catalogue = [*store.list_entities(), *store.list_feature_views(), *store.list_feature_services()]
    assert {each.name for each in store.list_feature_views()} == set(features.GOLD)
    for each in catalogue:
        if each.name != "__dummy":
            assert each.description, each.name
            assert each.owner, each.name
            assert each.tags, each.name
    for view in store.list_feature_views():
        assert all(field.description for field in view.schema), view.name


def test_who_only_has_attributes_is_online_with_their_segment(shop: Settings) -> None:
    found = OnlineStore(shop).read("retrieval_v1", [IDLE["user_id"], "nobody"])
    assert [(each.country, list(each.item_ids)) for each in found] == [("Spain", []), (None, [])]
    assert features.histories(AS_OF_DAY, IDLE["user_id"])["country"].tolist() == ["Spain"]
