"""The chain of decision records: written once, read back, and any change to it found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from aisle import decisions, lake
from aisle.errors import NotThere, TamperedRecord
from aisle.settings import Settings

AS_OF = datetime(2011, 11, 12, tzinfo=UTC)


def write(settings: Settings, number: int, **body) -> str:
    return decisions.record(
        settings, "gate", "passed", str(number), None, AS_OF, "gate", {"reasons": [], **body}
    )


def rewrite(rows: list[dict]) -> None:
    """What somebody with write access to the files can do."""
    table = pa.Table.from_pylist(rows, schema=lake.arrow_schema(decisions.TABLE))
    write_deltalake(
        lake.table_path(decisions.TABLE), table, mode="overwrite", configuration={"delta.appendOnly": "false"}
    )


def tampered(change) -> None:
    rows = lake.read(decisions.TABLE).to_pylist()
    shutil.rmtree(lake.table_path(decisions.TABLE))
    rewrite(change(rows))


def test_a_decision_is_written_once_and_read_back(settings: Settings) -> None:
    first, again, other = write(settings, 1), write(settings, 1), write(settings, 2)
    assert first == again != other
    assert decisions.verify() == 2
    assert decisions.read(first[:8])["challenger"] == "1"
    assert [each["challenger"] for each in decisions.everything()] == ["2", "1"]


def test_a_decision_has_its_page_and_its_line_in_the_index_at_once(settings: Settings) -> None:
    pages = lake.home() / "reports"
    for kind in decisions.KINDS:
        told = decisions.record(settings, kind, "passed", "3", "2", AS_OF, "somebody", {"reasons": [kind]})
        assert f"Decision {told}" in (pages / "decisions" / f"{told}.html").read_text()
        assert f"decisions/{told}.html" in (pages / "index.html").read_text()


def test_a_page_that_cannot_be_written_does_not_undo_a_decision(settings: Settings) -> None:
    (lake.home() / "reports").write_text("in the way")
    assert decisions.read(write(settings, 1))["challenger"] == "1"


def test_numbers_that_are_not_finite_and_types_of_numpy_are_recorded_as_json(settings: Settings) -> None:
    told = decisions.read(write(settings, 1, figures={"a": np.float64("nan"), "b": np.int64(3), "c": AS_OF}))
    assert told["body"]["figures"] == {"a": None, "b": 3, "c": AS_OF.isoformat()}


def test_an_unknown_id_and_kind_name_what_there_is(settings: Settings) -> None:
    known = write(settings, 1)
    with pytest.raises(NotThere, match=known):
        decisions.read("zz")
    with pytest.raises(NotThere, match="rollback"):
        decisions.record(settings, "whim", "passed", "1", None, AS_OF, "me", {})


def test_writers_at_the_same_time_stand_in_one_chain(settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda number: write(settings, number), range(6)))
    assert len(set(ids)) == decisions.verify() == 6


def test_a_changed_record_is_found(settings: Settings) -> None:
    ids = [write(settings, number) for number in range(3)]
    tampered(
        lambda rows: [row | {"verdict": "refused"} if row["decision_id"] == ids[1] else row for row in rows]
    )
    with pytest.raises(TamperedRecord, match=ids[1]):
        decisions.verify()


def test_a_record_rewritten_with_its_digest_is_found(settings: Settings) -> None:
    ids = [write(settings, number) for number in range(3)]

    def forge(rows: list[dict]) -> list[dict]:
        row = next(row for row in rows if row["decision_id"] == ids[1])
        text = row["record"].replace('"verdict":"passed"', '"verdict":"refused"')
        forged = row | {"record": text, "verdict": "refused", "digest": decisions._digest(text)}
        return [forged if each is row else each for each in rows]

    tampered(forge)
    with pytest.raises(TamperedRecord):
        decisions.verify()


def test_a_dropped_record_is_found(settings: Settings) -> None:
    ids = [write(settings, number) for number in range(3)]
    tampered(lambda rows: [row for row in rows if row["decision_id"] != ids[1]])
    with pytest.raises(TamperedRecord, match="missing"):
        decisions.verify()


def test_delta_itself_refuses_to_delete(settings: Settings) -> None:
    write(settings, 1)
    with pytest.raises(Exception, match=r"(?i)append"):
        DeltaTable(lake.table_path(decisions.TABLE)).delete("verdict = 'passed'")


def test_reading_decisions_imports_no_mlflow() -> None:
    code = "import monitoring.console, sys; print('mlflow' in sys.modules, 'evidently' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]
