"""Drift and the verdict, over a small lake of real invoices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from aisle import decisions, lake
from aisle.errors import NotThere
from aisle.registry import Registry
from aisle.settings import Settings
from aisle.stages import StepContext
from monitoring import drift, reports, verdict, watched
from tests.links import unfilled
from tests.shop import write_ledger
from tests.training.frames import purchases

CUT, AS_OF = datetime(2011, 11, 5, tzinfo=UTC), datetime(2011, 12, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    found = purchases(users=600)
    found["event_time"] = pd.to_datetime(found["seconds"], unit="s", utc=True)
    return found


def stats(events: pd.DataFrame, as_of: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """gold.user_stats and gold.item_stats at a cut, as far as drift reads them."""
    past = events[events["event_time"] < as_of]
    users = past.groupby("user_id").agg(
        n_events=("item_id", "size"),
        n_orders=("seconds", "nunique"),
        n_items=("item_id", "nunique"),
        spend=("price", "sum"),
        mean_price=("price", "mean"),
        last=("event_time", "max"),
        country=("country", "last"),
    )
    users["days_since_last"] = (pd.Timestamp(as_of) - users.pop("last")).dt.total_seconds() / 86_400
    recent = past[past["event_time"] >= as_of - timedelta(days=30)]
    items = past.groupby("item_id").agg(price=("price", "last"))
    items["n_buyers_30d"] = recent.groupby("item_id")["user_id"].nunique()
    items = items.fillna({"n_buyers_30d": 0})
    return users.reset_index().assign(as_of=as_of), items.reset_index().assign(as_of=as_of)


def write(table: str, frame: pd.DataFrame) -> None:
    schema = lake.arrow_schema(table)
    filled = frame.reindex(columns=schema.names)
    rows = filled.astype(object).where(filled.notna(), None).to_dict("records")
    write_deltalake(lake.table_path(table), pa.Table.from_pylist(rows, schema=schema), mode="overwrite")


def silver(events: pd.DataFrame) -> None:
    recent = events[events["event_time"] >= CUT - timedelta(days=28)]
    frame = recent.assign(
        event_id=recent.index.astype(str), event_month=recent["event_time"].dt.strftime("%Y-%m"), price=None
    )
    write("silver.interactions", frame)


def window(events: pd.DataFrame, since: datetime, until: datetime) -> pd.DataFrame:
    """Interactions as `training.reference` writes them; this shop has no categories."""
    part = events[(events["event_time"] >= since) & (events["event_time"] < until)]
    moment = part["event_time"].dt
    columns = part[["event_type", "price", "quantity", "country"]]
    return columns.assign(hour=moment.hour, weekday=moment.weekday, category=None)


@pytest.fixture
def champion(registry: Registry, aisle_home: Path, events: pd.DataFrame, tmp_path: Path) -> str:
    """A champion fitted up to CUT with its reference, and the four weeks after it in the lake."""
    users, items = stats(events, CUT)
    folder = tmp_path / "reference"
    folder.mkdir()
    frames = {"users": users, "items": items, "interactions": window(events, CUT - timedelta(days=28), CUT)}
    for name, frame in frames.items():
        frame.drop(columns=["as_of"], errors="ignore").to_parquet(folder / f"{name}.parquet")
    for table, frame in zip(("gold.user_stats", "gold.item_stats"), stats(events, AS_OF), strict=True):
        write(table, frame)
    silver(events)
    experiment = registry.client.get_experiment_by_name("aisle").experiment_id
    run = registry.client.create_run(experiment).info.run_id
    registry.client.log_artifacts(run, str(folder), "reference")
    tags = {"as_of": CUT.isoformat()}
    version = registry.client.create_model_version(registry.name, "nowhere", run, tags=tags).version
    registry.move_alias("champion", version, None)
    return str(version)


def test_four_ordinary_weeks_drift_little_but_the_champion_is_due(
    settings: Settings, champion: str, events: pd.DataFrame
) -> None:
    context = StepContext(AS_OF, "m1")
    first, again = drift.run(settings, context), drift.run(settings, context)
    assert first == again
    assert first["share"] <= settings.monitor.max_drifted_share
    assert first["columns"] >= 12
    assert {"interactions.category", "interactions.price"} <= set(first["left_out"])
    rows = lake.read_frame("ops.drift")
    assert not rows.duplicated(["report_id", "column"]).any()
    page = reports.folder() / "drift" / f"{first['report_id']}.html"
    assert page.stat().st_size < 8_000_000
    assert json.loads(page.with_suffix(".json").read_text())["evidently"]["metrics"]
    assert page.name in (reports.folder() / "index.html").read_text()
    assert not unfilled("monitor.drift", first)
    told = verdict.run(settings, StepContext(AS_OF, "m1", {"upstream": {"monitor.drift": first}}))
    assert not unfilled("monitor.verdict", told)
    assert told["retrain"]
    assert told["reasons"] == ["the data is 28 days newer than that of champion 1; 21 are allowed"]
    assert verdict.run(settings, context)["decision_id"] == told["decision_id"]
    assert decisions.verify() == 1


def test_another_kind_of_customer_is_seen_and_asked_to_be_learned(
    settings: Settings, champion: str, events: pd.DataFrame
) -> None:
    users, _ = stats(events, AS_OF)
    changed = users.assign(
        country="Japan",
        spend=users["spend"] * 10,
        mean_price=users["mean_price"] * 10,
        n_orders=users["n_orders"] * 5,
        n_items=users["n_items"] * 5,
        n_events=users["n_events"] * 5,
    )
    write("gold.user_stats", changed)
    context = StepContext(AS_OF, "m1")
    found = drift.run(settings, context)
    assert {"users.country", "users.spend", "users.n_orders", "users.mean_price"} <= set(found["drifted"])
    assert found["share"] > settings.monitor.max_drifted_share
    assert any("watched columns drifted" in reason for reason in verdict.run(settings, context)["reasons"])


def test_data_that_the_gate_has_judged_is_not_trained_on_again(settings: Settings, champion: str) -> None:
    decisions.record(settings, "gate", "refused", "2", champion, AS_OF, "gate", {"reasons": []})
    told = verdict.run(settings, StepContext(AS_OF, "m1"))
    assert not told["retrain"]
    assert "waiting for newer data" in told["reasons"][0]
    assert verdict.run(settings, StepContext(AS_OF + timedelta(days=1), "m2"))["retrain"]


def test_without_a_champion_drift_is_skipped_and_the_first_model_is_due(
    settings: Settings, registry: Registry
) -> None:
    context = StepContext(AS_OF, "m1")
    assert drift.run(settings, context)["skip_drift"] == "no champion yet"
    told = verdict.run(settings, context)
    assert told["retrain"]
    assert told["reasons"] == [verdict.NO_CHAMPION]


def test_no_newer_data_is_no_drift(settings: Settings, champion: str, capsys: pytest.CaptureFixture) -> None:
    told = drift.run(settings, StepContext(CUT, "m1"))
    assert "nothing newer" in told["skip_drift"]
    assert (
        "drift is not looked at: nothing newer than the data of champion 1 (2011-11-05)"
        in capsys.readouterr().err
    )
    assert unfilled("monitor.drift", told) == {"Drift report"}, "its champion's run is there to be seen"
    assert not verdict.run(settings, StepContext(CUT, "m1"))["retrain"]


def test_a_run_without_a_reference_is_named(settings: Settings, registry: Registry, champion: str) -> None:
    bare = registry.client.create_run(
        registry.client.get_experiment_by_name("aisle").experiment_id
    ).info.run_id
    missing = watched.Champion("9", bare, CUT)
    with pytest.raises(NotThere, match="champion 9"):
        watched.reference(registry, missing, lake.workdir("monitor", "m1"))


def test_a_risen_quarantine_rate_is_a_warning_and_no_reason(
    settings: Settings, champion: str, events: pd.DataFrame
) -> None:
    def batch(name: str, newest: datetime, quarantined: int) -> dict:
        counts = {"rows_in": 10_000, "quarantined": quarantined, "silver": 10_000 - quarantined}
        times = {"newest_event": newest, "recorded_at": newest, "as_of": newest}
        return {"batch_id": name, "kind": "events", "status": "silver", **counts, **times}

    lake.append(
        "ops.batches", [batch("a", CUT - timedelta(days=1), 20), batch("b", CUT + timedelta(days=6.5), 400)]
    )
    context = StepContext(CUT + timedelta(days=7), "m1")
    for table, frame in zip(
        ("gold.user_stats", "gold.item_stats"), stats(events, context.as_of), strict=True
    ):
        write(table, frame)
    drift.run(settings, context)
    told = verdict.run(settings, context)
    assert not told["retrain"]
    assert "rose by 3.8%" in told["warnings"][0]


@pytest.mark.parametrize("step", [drift, verdict])
def test_a_day_beyond_the_data_is_refused(settings: Settings, champion: str, step) -> None:
    write_ledger(AS_OF - timedelta(hours=9))
    with pytest.raises(
        NotThere, match="as_of 2012-02-01 00:00 lies beyond the data, which ends before 2011-12-03"
    ):
        step.run(settings, StepContext(datetime(2012, 2, 1, tzinfo=UTC), "m1"))


@pytest.mark.parametrize("rows", [200, 2_000, 20_000])
def test_two_samples_of_one_distribution_do_not_drift_whatever_their_size(
    settings: Settings, rows: int
) -> None:
    rng = np.random.default_rng(rows)

    def draw() -> pd.DataFrame:
        hours = rng.choice(15, rows, p=np.arange(1, 16) / 120).astype(str).astype(object)
        return pd.DataFrame({"a.number": rng.lognormal(size=rows), "a.hour": hours})

    figures, _ = drift.compare(draw(), draw(), settings.monitor)
    assert [each.drifted for each in figures] == [False, False]
