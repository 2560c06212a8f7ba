"""What comes of odd files: every line is landed or malformed, or the whole file is refused in one clear line. DuckDB alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aisle import lake, ledger
from aisle.errors import BadFile
from aisle.settings import Settings
from jobs import sources
from jobs.landing import ImportReport, import_file

HEADER = "event_id,event_type,event_time,user_id,item_id\n"


def row(number: int, user: str = "u1") -> str:
    return f"e{number},purchase,2024-05-01 10:00:00,{user},i1\n"


def rows(*numbers: int) -> str:
    return "".join(map(row, numbers))


def land(settings: Settings, path: Path, content: str | bytes) -> ImportReport:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return import_file(settings, "events", path)


def landed(report: ImportReport) -> list[dict[str, Any]]:
    # As a file object: pyarrow would take a folder named key=value for a column, and that is tested here.
    with (lake.landing(report.kind) / report.batch_id / "rows.parquet").open("rb") as file:
        return pq.read_table(file).to_pylist()


@pytest.mark.parametrize("closes_at", [None, 900])
def test_a_quote_that_swallows_rows_refuses_the_file_with_its_line(
    settings: Settings, tmp_path: Path, closes_at: int | None
) -> None:
    lines = [row(number) for number in range(1000)]
    lines[600] = row(600, '"open')
    if closes_at:
        lines[closes_at] = row(closes_at, 'x"')
    with pytest.raises(BadFile, match="quote that opens in line 602 goes on over"):
        land(settings, tmp_path / "quote.csv", HEADER + "".join(lines))
    assert ledger.landed() == []


def test_a_value_of_many_lines_is_landed_as_it_is(settings: Settings, tmp_path: Path) -> None:
    text = "\n".join(f"<li>Point {number}, of a long text</li>" for number in range(300))
    found = landed(land(settings, tmp_path / "a.csv", HEADER + row(1, f'"{text}"') + row(2)))
    assert [each["user_id"] for each in found] == [text, "u1"]


def test_a_stray_quote_in_one_line_is_one_malformed_line(settings: Settings, tmp_path: Path) -> None:
    report = land(settings, tmp_path / "a.csv", HEADER + row(1) + row(2, '"a"b') + row(3))
    assert (report.rows, report.malformed) == (3, 1)


def test_a_name_that_looks_like_a_pattern_is_that_file(settings: Settings, tmp_path: Path) -> None:
    for plain in ("sales1.csv", "starry.csv", "what1.csv"):
        (tmp_path / plain).write_text(HEADER + row(99))
    for number, odd in enumerate(("sales[1].csv", "star*.csv", "what?.csv")):
        found = landed(land(settings, tmp_path / odd, HEADER + row(number)))
        assert [each["event_id"] for each in found] == [f"e{number}"], odd


def test_folders_named_key_value_add_and_change_no_column(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "user_id=nobody" / "year=2024"
    folder.mkdir(parents=True)
    assert landed(land(settings, folder / "a.csv", HEADER + row(1)))[0]["user_id"] == "u1"
    columns = dict(zip(HEADER.strip().split(","), row(2).strip().split(","), strict=True))
    pq.write_table(pa.table({name: [value] for name, value in columns.items()}), folder / "b.parquet")
    assert landed(import_file(settings, "events", folder / "b.parquet"))[0]["user_id"] == "u1"


def test_a_home_that_looks_like_a_pattern_works(
    settings: Settings, aisle_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = aisle_home / "user_id=x" / "[a]*"
    home.mkdir(parents=True)
    monkeypatch.setenv("AISLE_HOME", str(home))
    assert landed(land(settings, aisle_home / "a.csv", HEADER + row(1)))[0]["user_id"] == "u1"


def test_ids_that_a_parquet_file_holds_as_floats_are_whole(settings: Settings, tmp_path: Path) -> None:
    table = pa.table(
        {
            "event_type": ["purchase"] * 3,
            "event_time": ["2024-05-01"] * 3,
            "user_id": pa.array([12347.0, None, 0.5]),
            "session_id": ["s", "s", "s"],
            "item_id": pa.array([1.0, 2.0, 3.0], pa.float32()),
            "price": [2.0, 2.5, None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = landed(import_file(settings, "events", tmp_path / "a.parquet"))
    assert [each["user_id"] for each in found] == ["12347", None, "0.5"]
    assert [each["item_id"] for each in found] == ["1", "2", "3"]
    assert [each["price"] for each in found] == ["2.0", "2.5", None], "no id: as a CSV of the same writes it"


def test_mixed_line_ends_and_blank_first_lines_are_landed(settings: Settings, tmp_path: Path) -> None:
    mixed = HEADER + row(1).replace("\n", "\r\n") + row(2) + row(3).replace("\n", "\r\n")
    report = land(settings, tmp_path / "mixed.csv", mixed)
    assert [each["event_id"] for each in landed(report)] == ["e1", "e2", "e3"]
    left = {path.name for path in (lake.landing("events") / report.batch_id).iterdir()}
    assert left == {"rows.parquet", "manifest.json"}
    assert land(settings, tmp_path / "blank.csv", "\n  \n" + HEADER + rows(1, 2)).rows == 2


def test_broken_lines_of_json_are_malformed_and_the_rest_is_landed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LONGEST_LINE", 5000)
    good = {"event_type": "purchase", "event_time": "2024-05-01", "user_id": "u1", "item_id": "i1"}
    lines = [
        json.dumps(good),
        '{"event_type": "purc',
        "[1, 2]",
        '{"event_type": "a\x01b"}',
        json.dumps({**good, "query": "x" * 6000}),
        "",
        json.dumps({**good, "": "nameless"}),
        json.dumps({**good, "user_id": "u\u00f62"}) + "\r",
    ]
    report = land(settings, tmp_path / "a.jsonl", "\n".join(lines))
    assert (report.rows, report.malformed) == (7, 5)
    found = landed(report)
    assert [(each["row_number"], each["user_id"]) for each in found[:2]] == [(1, "u1"), (8, "u\u00f62")]
    kept = [json.loads(each["properties"]) for each in found[2:]]
    assert [each["line"] for each in kept] == ["2", "3", "4", "5", "7"]
    assert kept[0]["malformed_line"] == lines[1]


def test_names_of_json_may_hold_quotes_and_slashes(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({'it"em': "i1", "us/er~": "u1", "b": "2024-05-01"}) + "\n")
    rules = tmp_path / "mapping.toml"
    rules.write_text(
        """[columns]
event_type = "'view'"
event_time = "b"
item_id = 'it"em'
user_id = "us/er~"
"""
    )
    (found,) = landed(import_file(settings, "events", tmp_path / "a.jsonl", mapping=rules))
    assert (found["item_id"], found["user_id"]) == ("i1", "u1")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"PAR1 and so on", "Parquet file: name it .parquet"),
        ("a.csv", b"PK\x03\x04 and so on", "Excel"),
        ("a.jsonl", b"\x1f\x8b and so on", "unpack"),
        ("a.csv", HEADER.encode("utf-16"), 'encoding = "utf-16"'),
        ("a.parquet", b"PAR1 and no end", "cut short"),
        ("a.parquet", b"a,b\n1,2\n", "does not begin as a Parquet file"),
        ("a.json", b'[{"event_type": "view"}]', "one object a line"),
        ("a.csv", b"_row,event_type\n1,view\n", "_row"),
    ],
)
def test_a_file_that_is_something_else_is_told_what_to_do(
    settings: Settings, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(BadFile, match=said):
        land(settings, tmp_path / name, content)
    shutil.rmtree(lake.landing("events"), ignore_errors=True)


def test_half_a_parquet_file_is_told_to_be_copied_again(settings: Settings, tmp_path: Path) -> None:
    whole = (lake.project_root() / "data" / "online_retail.parquet").read_bytes()
    with pytest.raises(BadFile, match=r"cut short.*copy"):
        land(settings, tmp_path / "half.parquet", whole[: len(whole) // 2])
