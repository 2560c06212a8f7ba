"""What a step says and returns at the end, as a caller of the command sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aisle import clock, lake, steps
from aisle.errors import USERS, NotThere
from aisle.settings import Settings
from aisle.stages import StepContext
from tests.shop import write_ledger

NOON = datetime(2011, 12, 9, 12, tzinfo=UTC)


def test_a_users_mistake_has_a_code_of_its_own_and_no_traceback(aisle_home: Path) -> None:
    write_ledger(NOON)
    words = ["run", "train.dataset", "--as-of", "2012-02-01"]
    done = subprocess.run(
        [sys.executable, "-m", "aisle.cli", *words],
        cwd=lake.project_root(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == USERS
    assert done.stderr.splitlines()[-1].startswith("aisle: as_of 2012-02-01 00:00 lies beyond the data")
    assert "Traceback" not in done.stderr


def test_a_step_ends_with_a_line_of_what_it_did(settings: Settings, capsys: pytest.CaptureFixture) -> None:
    steps.run("ingest.bronze", settings, StepContext())
    said = capsys.readouterr().err
    assert "[ingest.bronze] nothing more to do: no new batches" in said
    result = {
        "as_of": "2011-12-10",
        "rows_in": 3,
        "emit": True,
        "seconds": 1.2,
        "markdown": "| a |\n",
        "x": None,
    }
    assert steps._summary(json.loads(json.dumps(result))) == ": as_of 2011-12-10, rows_in 3, emit true"


def test_a_day_is_taken_up_to_the_end_of_the_data(aisle_home: Path) -> None:
    assert clock.settled(NOON) == NOON, "a lake that no ingest filled has no clock"
    assert clock.day_seen(NOON) == datetime(2011, 12, 9, tzinfo=UTC)
    write_ledger(NOON)
    end = datetime(2011, 12, 10, tzinfo=UTC)
    assert clock.settled(None) == clock.settled(end) == end
    assert clock.day_seen(NOON + timedelta(days=365)) == end
    with pytest.raises(NotThere, match="give 2011-12-10 or a day before it"):
        clock.settled(end + timedelta(hours=1))
