"""The judge of batches and the ledger: what others wrote meanwhile is not taken back. Without Spark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aisle import ledger
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs.landing import import_file
from monitoring import expectations

ROW = {"batch_id": "b1", "kind": "events", "rows_in": 10, "set_aside": 0, "quarantined": 0, "reasons": {}}


def recorded(status: str, **other: Any) -> dict[str, Any]:
    row = {**ROW, "status": status, **other}
    ledger.record([row], "test")
    return row


def test_a_batch_that_was_merged_while_it_was_judged_stays_merged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(ledger.BRONZE)
    recorded(ledger.BRONZE, batch_id="b2")

    def slow(settings: Settings, pending: list[dict[str, Any]]) -> dict[str, list[str]]:
        recorded(ledger.SILVER)
        return {"b1": ["its columns are wrong"], "b2": []}

    monkeypatch.setattr(expectations, "expectations", slow)
    assert expectations.run(settings, StepContext()) == {"checked": 1, "refused": []}
    assert {batch: row["status"] for batch, row in ledger.latest().items()} == {
        "b1": "silver",
        "b2": "checked",
    }


def test_a_refused_batch_is_named_and_raising_the_threshold_lets_it_pass(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(expectations, "expectations", lambda settings, pending: {})
    row = recorded(ledger.BRONZE, quarantined=10, reasons={"quarantined": {"no event_id": 10}})
    (refused,) = expectations.run(settings, StepContext())["refused"]
    assert "100.0% of its rows are faulty" in refused
    assert refused in capsys.readouterr().err
    assert ledger.latest()["b1"]["status"] == ledger.REJECTED
    ledger.record([{**row, "status": ledger.BRONZE}], "import")
    lenient = settings.model_copy(
        update={"ingest": settings.ingest.model_copy(update={"max_fault_rate": 1.0})}
    )
    assert expectations.run(lenient, StepContext()) == {"checked": 1, "refused": []}


def test_importing_a_refused_batch_again_does_not_undo_what_a_run_did_meanwhile(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("event_type,event_time,user_id,item_id\nview,2024-05-01,u1,i1\n")
    batch = import_file(settings, "events", tmp_path / "a.csv").batch_id
    recorded(ledger.REJECTED, batch_id=batch)
    assert import_file(settings, "events", tmp_path / "a.csv").status == ledger.REJECTED
    assert ledger.latest()[batch]["status"] == ledger.BRONZE, "judged once more"

    recorded(ledger.REJECTED, batch_id=batch)
    alone = ledger.writing

    @contextmanager
    def writing() -> Iterator[None]:
        with alone():
            recorded(ledger.SILVER, batch_id=batch)
            yield

    monkeypatch.setattr(ledger, "writing", writing)
    import_file(settings, "events", tmp_path / "a.csv")
    assert ledger.latest()[batch]["status"] == ledger.SILVER
