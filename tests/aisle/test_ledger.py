"""Landing, the ledger and `aisle status` beside what others left there. Without Spark."""

from __future__ import annotations

import json

import pytest

from aisle import lake, ledger, status
from aisle.errors import RaceLost
from aisle.settings import Settings
from aisle.stages import StepContext
from jobs import bronze


def test_a_foreign_folder_in_landing_is_named_and_left_alone(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (lake.landing("events") / "holiday photos").mkdir(parents=True)
    assert ledger.landed() == []
    assert "skip" in bronze.run(settings, StepContext())
    assert "holiday photos has no manifest.json" in capsys.readouterr().err
    assert status.batches() == {}


@pytest.mark.parametrize("text", ['{"version": ', "[1]", "{}", "null"])
def test_a_torn_release_pointer_does_not_hide_the_rest(settings: Settings, text: str) -> None:
    pointer = lake.home() / "releases" / "current.json"
    pointer.parent.mkdir()
    pointer.write_text(text)
    shown = status.show(settings)
    assert "rows" in shown
    assert f"{pointer} is torn" in shown
    assert json.loads(status.show(settings, as_json=True))["release"]["version"].startswith("unreadable")


def test_a_step_that_waits_too_long_for_another_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LOCK_SECONDS", 0)
    with ledger.writing(), pytest.raises(RaceLost, match=r"ingest\.lock"), ledger.writing():
        pass
