"""Landing to silver with the real parts: DuckDB, Spark, Delta, Great Expectations. Nothing lost, nothing counted twice."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aisle import lake, ledger, status, steps
from aisle.errors import AisleError, BadFile, BadMapping, BatchRejected
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs.landing import import_file
from tests.links import unfilled

HEADER = ["event_id", "event_type", "event_time", "user_id", "session_id", "item_id", "quantity", "price"]
CLOCK = StepContext(as_of=datetime(2024, 6, 1, tzinfo=UTC), run_id="test")


def line(number: int, **other: str) -> dict[str, str]:
    row = {
        "event_id": f"e{number}",
        "event_type": "purchase",
        "event_time": f"2024-05-{number % 28 + 1:02d} 10:00:00",
        "user_id": f"u{number % 7}",
        "session_id": "",
        "item_id": f"i{number % 11}",
        "quantity": "1",
        "price": "2.50",
    }
    return row | other


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows(rows)
    return path


def ingest(settings: Settings) -> dict:
    return steps.run("ingest", settings, CLOCK)


def sums(kind: str = "events") -> tuple[int, ...]:
    row = status.rows()[kind]
    assert row["rows_in"] == row["silver"] + row["duplicates"] + row["quarantined"] + row["set_aside"]
    return tuple(row[name] for name in status.COUNTS)


@pytest.mark.spark
def test_every_row_goes_one_way_and_replays_change_nothing(spark, settings: Settings, tmp_path: Path) -> None:
    rows = [line(number) for number in range(100)]
    faulty = [
        line(200, price="-1", item_id=""),
        line(201, event_time="yesterday"),
        line(202, event_type="bought"),
    ]
    import_file(settings, "events", write(tmp_path / "one.csv", rows + rows[:10] + faulty))
    ingest(settings)
    assert sums() == (113, 100, 10, 3, 0)
    reasons = lake.read_frame("quarantine.events").set_index("event_id")["reasons"]
    assert {"price is negative", "no item_id"} <= set(reasons["e200"]), "a row keeps all its reasons"

    late = [line(300, event_time="2024-01-05 09:00:00")]
    import_file(settings, "events", write(tmp_path / "two.csv", rows[50:] + late))
    ingest(settings)
    assert sums() == (164, 101, 60, 3, 0), "repeated rows are duplicates, a late one is new"

    report = import_file(settings, "events", tmp_path / "two.csv")
    assert report.already
    assert "skip" in ingest(settings)["ingest.bronze"]
    assert sums() == (164, 101, 60, 3, 0)


@pytest.mark.spark
def test_one_event_many_times_is_one_row(spark, settings: Settings, tmp_path: Path) -> None:
    import_file(settings, "events", write(tmp_path / "same.csv", [line(1)] * 50_000))
    ingest(settings)
    assert sums() == (50_000, 1, 49_999, 0, 0)


@pytest.mark.spark
def test_a_batch_above_its_threshold_publishes_nothing_and_blocks_nobody(
    spark, settings: Settings, tmp_path: Path
) -> None:
    bad = [line(number, user_id="x" * 10_000) for number in range(20)]
    import_file(
        settings, "events", write(tmp_path / "bad.csv", bad + [line(number) for number in range(30, 60)])
    )
    with pytest.raises(BatchRejected, match="user_id longer than"):
        ingest(settings)
    assert not lake.exists("silver.interactions")
    assert len(lake.read_frame("quarantine.events")) == 20
    import_file(settings, "events", write(tmp_path / "good.csv", [line(number) for number in range(25)]))
    ingest(settings)
    assert sums() == (25, 25, 0, 0, 0)
    assert len(ledger.with_status(ledger.REJECTED)) == 1


@pytest.mark.spark
def test_good_batches_go_on_beside_a_refused_one_and_the_next_run_tells(
    spark, settings: Settings, tmp_path: Path
) -> None:
    bad = [line(number, event_type="bought") for number in range(20)]
    import_file(settings, "events", write(tmp_path / "bad.csv", bad))
    good = write(tmp_path / "good.csv", [line(number) for number in range(100, 125)])
    import_file(settings, "events", good)
    with pytest.raises(BatchRejected, match=r"events of .*bad\.csv.*unknown event_type \(20\)") as refused:
        ingest(settings)
    assert "good.csv" not in str(refused.value)
    assert len(lake.read("silver.interactions")) == 25
    assert ledger.with_status(ledger.SILVER) == [], "a failed run tells no one, so it is not done"
    told = ingest(settings)["ingest.silver"]
    assert (told["emit"], told["silver"], told["as_of"]) == (True, 25, "2024-05-29T00:00:00+00:00")
    assert sums() == (25, 25, 0, 0, 0)
    assert "skip" in ingest(settings)["ingest.bronze"]


@pytest.mark.spark
def test_numbers_without_end_are_faults(spark, settings: Settings) -> None:
    from jobs.rules import with_reasons

    given = [("NaN", "1"), ("-Infinity", "1"), ("inf", "1"), ("4.5", "NaN"), ("4.5", "inf"), ("4.5", "1")]
    names = list(lake.TABLES["bronze.events"].columns)
    known = {
        "event_id": "e",
        "event_type": "rating",
        "event_time": "2024-05-01",
        "user_id": "u",
        "item_id": "i",
    }
    rows = [tuple({**known, "value": value, "quantity": n}.get(name) for name in names) for value, n in given]
    frame = spark.createDataFrame(rows, ", ".join(f"{name} string" for name in names))
    judged = with_reasons(frame, "events", settings.ingest, CLOCK.as_of).collect()
    value, quantity = ["value is not finite"], ["quantity is not finite"]
    assert [row["reasons"] for row in judged] == [value, value, value, quantity, quantity, []]


@pytest.mark.spark
def test_a_rating_has_its_scale(spark, settings: Settings) -> None:
    from jobs.rules import with_reasons

    ends = settings.ingest.min_rating, settings.ingest.max_rating
    given = [("rating", value) for value in (*ends, ends[0] - 0.1, ends[1] + 0.1, -1e300)] + [("view", 1e300)]
    names = list(lake.TABLES["bronze.events"].columns)
    known = {"event_id": "e", "event_time": "2024-05-01", "user_id": "u", "item_id": "i"}
    rows = [
        tuple({**known, "event_type": kind, "value": str(value)}.get(name) for name in names)
        for kind, value in given
    ]
    frame = spark.createDataFrame(rows, ", ".join(f"{name} string" for name in names))
    beyond = ["rating outside ingest.min_rating to max_rating"]
    judged = with_reasons(frame, "events", settings.ingest, CLOCK.as_of).collect()
    assert [row["reasons"] for row in judged] == [[], [], beyond, beyond, beyond, []]


@pytest.mark.spark
def test_an_id_that_stands_for_another_time_is_quarantined(spark, settings: Settings, tmp_path: Path) -> None:
    import_file(settings, "events", write(tmp_path / "one.csv", [line(number) for number in range(50)]))
    ingest(settings)
    again = [line(3, event_time="2024-02-02 10:00:00")] + [line(number) for number in range(60, 100)]
    import_file(settings, "events", write(tmp_path / "two.csv", again))
    ingest(settings)
    assert sums() == (91, 90, 0, 1, 0)


@pytest.mark.spark
def test_items_and_users_keep_what_is_newest(spark, settings: Settings, tmp_path: Path) -> None:
    items = (
        "item_id,title,price,updated_at\ni1,Old,1.00,2024-01-01\ni1,New,,2024-02-01\ni2,,1.00,2024-02-01\n"
    )
    items += "".join(f"k{number},Title,1.00,2024-01-01\n" for number in range(40))
    (tmp_path / "items.csv").write_text(items)
    users = "user_id,country,updated_at\nu1,France,2024-01-01\nu1,Spain,2024-03-01\n"
    (tmp_path / "users.csv").write_text(users)
    import_file(settings, "items", tmp_path / "items.csv")
    import_file(settings, "users", tmp_path / "users.csv")
    ingest(settings)
    found = lake.read_frame("silver.items").set_index("item_id")
    assert found.loc["i1", "title"] == "New"
    assert "i2" not in found.index, "an item without a title is quarantined"
    assert len(lake.read_frame("silver.item_history", filters=[("item_id", "=", "i1")])) == 2
    assert lake.read_frame("silver.users")["country"].tolist() == ["Spain"]
    sums("items"), sums("users")


@pytest.mark.spark
def test_written_tables_keep_their_contract(spark, settings: Settings, tmp_path: Path) -> None:
    import_file(settings, "events", write(tmp_path / "one.csv", [line(number) for number in range(30)]))
    assert not unfilled("ingest.check", ingest(settings)["ingest.check"])
    for name in ("bronze.events", "silver.interactions", "ops.batches"):
        assert lake.read(name).schema.names == lake.arrow_schema(name).names, name


BAD_FILES = {
    "empty": (b"", "empty"),
    "header": (b"foo,bar\n1,2\n", "foo"),
    "latin": (b"event_type,event_time,user_id,item_id\npurchase,2024-05-01,J\xf6rg,i1\n", "utf-8"),
    "nul": (b"event_type,event_time,user_id,item_id\npurchase,2024-05-01,a\x00b,i1\n", "NUL"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_clear_line_and_nothing_is_landed(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    content, said = BAD_FILES[name]
    (tmp_path / f"{name}.csv").write_bytes(content)
    with pytest.raises(AisleError, match=said) as refused:
        import_file(settings, "events", tmp_path / f"{name}.csv")
    assert "\n" not in str(refused.value).strip()
    assert ledger.landed() == []


def test_a_truncated_parquet_is_refused(settings: Settings, tmp_path: Path) -> None:
    whole = (lake.project_root() / "data" / "online_retail.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match=r"half\.parquet"):
        import_file(settings, "events", tmp_path / "half.parquet")
    assert ledger.landed() == []


def test_a_mapping_that_names_no_such_column_lists_it(settings: Settings, tmp_path: Path) -> None:
    rules = tmp_path / "mapping.toml"
    rules.write_text(
        'kind = "events"\n[source]\nname = "shop"\n[columns]\nevent_time = "whenn"\nuser_id = "user_id"\nitem_id = "item_id"\nevent_type = "event_type"\n'
    )
    with pytest.raises(BadMapping, match="whenn"):
        import_file(settings, "events", write(tmp_path / "one.csv", [line(1)]), mapping=rules)
    assert ledger.landed() == []
