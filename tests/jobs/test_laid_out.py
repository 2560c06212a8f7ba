"""Files as public data sets come: packed, without a header, with a delimiter of two characters."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from aisle.errors import BadFile, BadMapping
from aisle.settings import Settings
from jobs import mapping
from jobs.landing import import_file
from tests.jobs.test_sources import HEADER, land, landed, row, rows

MAPPING = """kind = "events"
[source]
header = ["user", "item", "stars", "ts"]
{more}
[columns]
user_id = "user"
item_id = "item"
value = "stars"
event_time = "to_timestamp(CAST(ts AS BIGINT))"
[[event_type]]
is = "rating"
"""


def test_packed_text_is_read_as_it_is_unpacked(settings: Settings, tmp_path: Path) -> None:
    report = land(settings, tmp_path / "a.csv.gz", gzip.compress((HEADER + rows(1, 2)).encode()))
    assert [each["event_id"] for each in landed(report)] == ["e1", "e2"]
    assert [each.name for each in tmp_path.glob("**/utf8*")] == [], "no copy stays"
    event = {"event_type": "view", "event_time": "2024-05-01", "user_id": "u", "item_id": "i"}
    lines = "".join(json.dumps({**event, "event_id": f"e{number}"}) + "\n" for number in (1, 2))
    assert land(settings, tmp_path / "b.jsonl.gz", gzip.compress(lines.encode())).rows == 2


def test_packed_files_that_are_none_say_what_to_do(settings: Settings, tmp_path: Path) -> None:
    whole = gzip.compress((HEADER + rows(*range(2000))).encode())
    with pytest.raises(BadFile, match="cannot be unpacked"):
        land(settings, tmp_path / "half.csv.gz", whole[: len(whole) // 2])
    with pytest.raises(BadFile, match=r"not packed by gzip: take \.gz off"):
        land(settings, tmp_path / "plain.csv.gz", HEADER + row(1))
    with pytest.raises(BadFile, match=r"ending \.gz"):
        land(settings, tmp_path / "named.csv", whole)
    with pytest.raises(BadFile, match="Parquet, which needs no packing"):
        land(settings, tmp_path / "a.parquet.gz", whole)
    with pytest.raises(BadFile, match=r"or with \.gz behind"):
        land(settings, tmp_path / "a.gz", whole)


@pytest.mark.parametrize(("more", "by"), [("", "\t"), ('delimiter = "::"', "::")])
def test_the_first_line_is_a_row_where_the_mapping_names_the_columns(
    settings: Settings, tmp_path: Path, more: str, by: str
) -> None:
    said, data = tmp_path / "m.toml", tmp_path / "ratings.txt"
    said.write_text(MAPPING.format(more=more))
    data.write_text(
        "".join(
            f"{by.join(line)}\n" for line in (("1", "i1", "5", "978300760"), ("2", "i2", "3", "978302109"))
        )
    )
    found = landed(import_file(settings, "events", data, said))
    assert [(each["user_id"], each["value"]) for each in found] == [("1", "5"), ("2", "3")]
    assert found[0]["event_time"].startswith("2000-12-31 22:12:40")


def test_a_header_that_does_not_fit_is_told(settings: Settings, tmp_path: Path) -> None:
    said, data = tmp_path / "m.toml", tmp_path / "ratings.csv"
    said.write_text(MAPPING.format(more=""))
    data.write_text("1,i1,5\n2,i2,3\n")
    with pytest.raises((BadFile, BadMapping), match=r"header names 4 columns .* 3.*\[source\] delimiter"):
        import_file(settings, "events", data, said)


def test_a_mapping_without_them_is_the_same_batch_as_before() -> None:
    plain = mapping.Mapping(kind="events", columns={"user_id": "u"})
    said = plain.model_copy(update={"source": mapping.Origin(header=("u",))})
    assert plain.digest != said.digest
    assert plain.digest == "07e4832383263e3962ad354f8521930b869d75a6125c3ebeb48cc06c4c29b4db"


def test_a_file_that_came_by_another_mapping_says_that_its_events_stay(
    settings: Settings, tmp_path: Path
) -> None:
    """Who mends a mapping would else see nothing but duplicates, and not why."""
    first, mended, data = tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "clicks.csv"
    said = """kind = "events"
[columns]
event_time = "when"
item_id = "article"
event_type = "'click'"
{whose} = "session"
"""
    first.write_text(said.format(whose="session_id"))
    mended.write_text(said.format(whose="user_id"))
    data.write_text("session,article,when\ns1,a1,2024-05-01\n")
    before = import_file(settings, "events", data, first)
    assert before.otherwise == []
    assert "another mapping" not in before.as_text()
    again = import_file(settings, "events", data, mended)
    assert again.otherwise == [before.batch_id]
    assert f"another mapping (batch {before.batch_id})" in again.as_text()
    assert "empty AISLE_HOME" in again.as_text()
