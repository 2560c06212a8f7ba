"""What a batch becomes in silver: the same whatever the order, the repeats and the crashes. Real Spark and Delta."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aisle import lake, ledger, steps
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import maintain, silver
from jobs.landing import TEMPORARY, import_file
from tests.jobs.test_ingest import CLOCK, ingest, line, sums, write

pytestmark = pytest.mark.spark


def crash_before_the_ledger(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ingests; silver's tables are written, its ledger rows are not."""

    def killed(rows, run_id):
        if any(row["status"] == ledger.SILVER for row in rows):
            raise KeyboardInterrupt
        recorded(rows, run_id)

    recorded = ledger.record
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(settings)


def test_conflicts_are_counted_once_after_a_crash(
    spark, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_file(settings, "events", write(tmp_path / "one.csv", [line(number) for number in range(50)]))
    ingest(settings)
    conflict, faulty = line(3, event_time="2024-02-02 10:00:00"), line(99, price="-1")
    again = [conflict, faulty, *(line(number) for number in range(50, 110) if number != 99)]
    import_file(settings, "events", write(tmp_path / "two.csv", again))
    crash_before_the_ledger(settings, monkeypatch)
    ingest(settings)
    assert sums() == (111, 109, 0, 2, 0)
    assert len(lake.read("quarantine.events")) == 2


def test_one_id_with_two_times_in_a_batch_is_refused_alike_at_a_replay(
    spark, settings: Settings, tmp_path: Path
) -> None:
    later = line(3, event_time="2024-05-30 10:00:00")
    import_file(
        settings, "events", write(tmp_path / "one.csv", [later, *(line(number) for number in range(50))])
    )
    ingest(settings)
    assert sums() == (51, 50, 0, 1, 0), "the earliest time stands"
    batches = [row["batch_id"] for row in ledger.latest().values()]
    replayed = type(CLOCK)(
        as_of=CLOCK.as_of, run_id="again", params={"upstream": {"ingest.bronze": {"replayed": batches}}}
    )
    silver.run(settings, replayed)
    assert sums() == (51, 50, 0, 1, 0)
    assert len(lake.read("quarantine.events")) == 1


def test_a_replay_brings_the_events_of_its_interval_and_the_ledger_stays_as_it_was(
    spark, settings: Settings, tmp_path: Path
) -> None:
    from deltalake import DeltaTable

    rows = [line(number) for number in range(56)]  # two on each of the first 28 days of May
    import_file(settings, "events", write(tmp_path / "one.csv", [*rows, rows[0]]))
    ingest(settings)
    assert sums() == (57, 56, 1, 0, 0)
    span = {"replay_since": "2024-05-03T00:00:00Z", "replay_until": "2024-05-05T00:00:00Z"}

    def replay() -> dict:
        return steps.run("ingest", settings, StepContext(CLOCK.as_of, "again", span))["ingest.silver"]

    told = replay()
    assert (told["rows_in"], told["silver"], told["duplicates"], told["emit"]) == (4, 0, 4, False)
    assert sums() == (57, 56, 1, 0, 0)
    lost = "event_time >= '2024-05-04' AND event_time < '2024-05-07'"  # one day of them in the interval
    DeltaTable(lake.table_path("silver.interactions")).delete(lost)
    told = replay()
    assert (told["rows_in"], told["silver"], told["duplicates"]) == (4, 2, 2)
    days = lake.read_frame("silver.interactions")["event_time"].dt.day
    assert set(range(1, 29)) - set(days) == {5, 6}, "what lies outside the interval is not brought"


def test_a_line_read_at_another_time_is_no_second_event(spark, settings: Settings, tmp_path: Path) -> None:
    """Its id is a digest of the line; a mapping that was mended gives it a time in another month."""
    lines = "".join(f"2024-05-{number % 28 + 1:02d} 10:00:00,u{number},i1\n" for number in range(40))
    (tmp_path / "noid.csv").write_text(f"ts,u,i\n{lines}")
    for name, time in {"first": "ts", "mended": "CAST(ts AS TIMESTAMP) - INTERVAL 1 MONTH"}.items():
        rules = tmp_path / f"{name}.toml"
        rules.write_text(
            f"""[columns]\nevent_type = "'view'"\nevent_time = "{time}"\nuser_id = "u"\nitem_id = "i"\n"""
        )
        import_file(settings, "events", tmp_path / "noid.csv", mapping=rules)
        ingest(settings)
    assert sums() == (80, 40, 0, 40, 0)
    events = lake.read_frame("silver.interactions")
    assert events["event_id"].is_unique
    assert set(events["event_month"]) == {"2024-05"}
    assert set(lake.read_frame("quarantine.events")["reasons"].map(tuple)) == {(silver.CONFLICT,)}


ITEMS = "item_id,title,price,brand,updated_at\n"


def test_a_field_that_an_update_leaves_out_keeps_its_last_value(
    spark, settings: Settings, tmp_path: Path
) -> None:
    """In one batch, in the next, and from an update that comes late."""
    (tmp_path / "a.csv").write_text(f"{ITEMS}i1,Old,1.00,,2024-01-01\ni1,New,,,2024-03-01\n")
    import_file(settings, "items", tmp_path / "a.csv")
    ingest(settings)
    row = lake.read_frame("silver.items").iloc[0]
    assert (row["title"], float(row["price"])) == ("New", 1.0)

    (tmp_path / "b.csv").write_text(f"{ITEMS}i1,Late,2.00,Acme,2024-02-01\ni1,Newest,,,2024-04-01\n")
    import_file(settings, "items", tmp_path / "b.csv")
    ingest(settings)
    row = lake.read_frame("silver.items").iloc[0]
    assert (row["title"], float(row["price"]), row["brand"]) == ("Newest", 2.0, "Acme")
    assert sums("items") == (4, 4, 0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "head", "known", "new"),
    [
        ("items", ITEMS, "i1,Title,1.00,,2024-01-01\n", "i1,Title,2.00,,2024-02-01\n"),
        ("users", "user_id,country,updated_at\n", "u1,France,2024-01-01\n", "u1,Spain,2024-02-01\n"),
    ],
)
def test_an_update_told_again_is_a_duplicate(
    spark,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    head: str,
    known: str,
    new: str,
) -> None:
    (tmp_path / "a.csv").write_text(head + known)
    (tmp_path / "b.csv").write_text(head + known + new + new)
    import_file(settings, kind, tmp_path / "a.csv")
    ingest(settings)
    import_file(settings, kind, tmp_path / "b.csv")
    crash_before_the_ledger(settings, monkeypatch)
    ingest(settings)
    assert sums(kind) == (4, 2, 2, 0, 0)


def test_a_batch_that_the_mapping_sets_aside_whole_is_no_fault(
    spark, settings: Settings, tmp_path: Path
) -> None:
    rules = tmp_path / "mapping.toml"
    rules.write_text(
        'kind = "events"\n'
        + "[columns]\n"
        + "".join(f'{name} = "{name}"\n' for name in line(1))
        + '[[set_aside]]\nwhen = "item_id IS NOT NULL"\nreason = "postage"\n'
    )
    import_file(settings, "events", write(tmp_path / "one.csv", [line(1), line(2)]), mapping=rules)
    ingest(settings)
    assert sums() == (2, 0, 0, 0, 2)
    assert set(lake.read_frame("bronze.events")["source"]) == {"one.csv"}, "no [source]: the file's name"


def test_written_tables_carry_the_declared_properties(spark, settings: Settings, tmp_path: Path) -> None:
    from deltalake import DeltaTable

    import_file(
        settings,
        "events",
        write(tmp_path / "one.csv", [line(1), line(2, price="-1"), *map(line, range(3, 40))]),
    )
    ingest(settings)
    for name in ("bronze.events", "quarantine.events", "silver.interactions"):
        written = DeltaTable(lake.table_path(name)).metadata()
        declared = lake.TABLES[name]
        assert declared.properties.items() <= written.configuration.items(), name
        assert tuple(written.partition_columns) == declared.partition, name


IMPORT = """
import sys
from aisle import settings
from jobs.landing import import_file
import_file(settings.load(), "events", sys.argv[1])
"""


def test_two_imports_at_once_land_each_file_once(spark, settings: Settings, tmp_path: Path) -> None:
    one = write(tmp_path / "one.csv", [line(number) for number in range(5000)])
    two = write(tmp_path / "two.csv", [line(number) for number in range(4000, 9000)])
    running = [
        subprocess.Popen([sys.executable, "-c", IMPORT, str(file)], cwd=lake.project_root())
        for file in (one, one, two)
    ]
    assert [each.wait(timeout=120) for each in running] == [0, 0, 0]
    ingest(settings)
    assert sums() == (10_000, 9000, 1000, 0, 0)


def test_maintain_removes_what_killed_imports_left(
    spark, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_file(settings, "events", write(tmp_path / "one.csv", [line(1), line(2)]))
    ingest(settings)
    left = lake.landing("events") / f"{TEMPORARY}dead"
    left.mkdir()
    assert maintain.run(settings, CLOCK)["abandoned_imports"] == 0, "it may still be alive"
    monkeypatch.setattr(maintain, "DAY_SECONDS", -1)
    assert maintain.run(settings, CLOCK)["abandoned_imports"] == 1
    assert not left.exists()
