"""`aisle decisions` and `aisle models` in a terminal of 80 columns: what is copied stays whole."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aisle import decisions
from aisle.settings import Settings
from monitoring import console

AS_OF = datetime(2011, 12, 10, tzinfo=UTC)
RUN = "publish:asset_triggered__2026-11-25T02:03:10.161791+00:00_7tqeQJJd"


@pytest.fixture
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COLUMNS": "80", "TTY_COMPATIBLE": "1", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


def test_ids_dates_and_reasons_of_decisions_are_whole(settings: Settings, eighty_columns) -> None:
    body = {"reasons": ["slice:tail_items:all: proven harm", "and another"]}
    ids = [
        decisions.record(settings, "promote", "promoted", "4", "2", AS_OF, RUN, {}),
        decisions.record(settings, "auto_rollback", "rolled_back", "4", "2", AS_OF, "command:root", body),
    ]
    text = console.decisions(settings)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for each in ids:
        assert any(line.startswith(f"{each} ") and "2011-12-10" in line for line in lines)
    assert "asset_triggered" not in text
    assert f"{ids[1]}  slice:tail_items:all: proven harm (+1)" in lines


def test_models_are_whole(eighty_columns) -> None:
    row = {
        "version": "16",
        "role": "refit",
        "aliases": ["challenger", "champion"],
        "as_of": "2011-12-10",
        "decision": "passed",
        "decision_id": "5253cb1886a4f68f",
        "metrics": {"all": 0.3834, "new": 0.1217},
        "metric": "ndcg@10",
    }
    lines = console._models([row]).splitlines()
    assert max(map(len, lines)) <= 80
    assert "challenger" in lines[2]
    assert "champion" in lines[3]
    for whole in ("2011-12-10", "5253cb1886a4f68f", "0.3834", "0.1217"):
        assert whole in lines[2]
