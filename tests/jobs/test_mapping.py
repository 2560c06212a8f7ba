"""Mapping files that ask for too much, or for what does not hold: refused, by the name of the expression. DuckDB alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from aisle import ledger
from aisle.errors import BadMapping
from aisle.settings import Settings
from jobs.landing import import_file
from jobs.mapping import Mapping

COLUMNS = {"event_type": "'view'", "event_time": "t", "user_id": "u", "item_id": "i"}


def mapped(settings: Settings, folder: Path, more: str = "", **columns: str):
    """Imports two lines with a mapping of COLUMNS, changed and continued as told."""
    (folder / "a.csv").write_text("t,u,i\n2024-05-01,u1,i1\n2024-05-02,u2,i2\n")
    rules = "".join(f"{name} = '''{sql}'''\n" for name, sql in (COLUMNS | columns).items())
    (folder / "m.toml").write_text(f"[columns]\n{rules}{more}")
    return import_file(settings, "events", folder / "a.csv", mapping=folder / "m.toml")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("1) FROM lines; COPY (SELECT 42) TO '{folder}/out.csv'; SELECT (1", "no single SQL expression"),
        ("1) FROM lines; ATTACH '{folder}/out.csv' AS other; SELECT (1", "no single SQL expression"),
        ("1) FROM range(3) ORDER BY (1", "more than one expression"),
        ("1), (2", "more than one expression"),
        ("COLUMNS(*)", "more than one expression"),
        ("(SELECT string_agg(content, '') FROM read_text('/etc/passwd'))", "Cannot access file"),
        ("(SELECT count(*) FROM '{folder}/a.csv')", "Cannot access file"),
        ("unnest([1, 2])", "several rows for one line"),
        ("CASE WHEN u = 'u1' THEN unlist([u, i]) END", "several rows for one line"),
        ("max(u)", "group_by"),
        ("CAST(u AS INTEGER)", "Could not convert string 'u1'"),
        ("error('boom')", "boom"),
    ],
)
def test_an_expression_that_cannot_be_had_is_named(
    settings: Settings, tmp_path: Path, sql: str, said: str
) -> None:
    with pytest.raises(BadMapping, match=r"m\.toml: columns\.order_id") as refused:
        mapped(settings, tmp_path, order_id=sql.format(folder=tmp_path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out.csv").exists()
    assert ledger.landed() == []


def test_a_list_may_be_taken_apart_within_an_expression(settings: Settings, tmp_path: Path) -> None:
    report = mapped(settings, tmp_path, order_id="(SELECT max(each) FROM unnest([u, i]) AS list(each))")
    assert report.rows == 2


@pytest.mark.parametrize("encoding", ["hex", "klingon", "undefined"])
def test_an_encoding_must_be_one_of_text(settings: Settings, tmp_path: Path, encoding: str) -> None:
    with pytest.raises(BadMapping, match=rf"{encoding}.*write utf-8"):
        mapped(settings, tmp_path, f'[source]\nencoding = "{encoding}"\n')


def test_a_folder_is_no_mapping(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,u,i\n2024-05-01,u1,i1\n")
    with pytest.raises(BadMapping, match="is a folder"):
        import_file(settings, "events", tmp_path / "a.csv", mapping=tmp_path)


@pytest.mark.parametrize(
    ("time", "known"),
    [("t", True), ("min(t) OVER ()", False), ("coalesce(t, CAST(now() AS VARCHAR))", False)],
)
def test_whether_a_line_alone_makes_its_time(time: str, known: bool) -> None:
    assert bool(Mapping(kind="events", columns=COLUMNS | {"event_time": time}).time_digest) is known
