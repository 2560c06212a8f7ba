"""kill -9 in the middle of the MERGE, then the same command again: the sums are those of an unbroken run.

Twenty points in `make test-faults` (AISLE_FAULTS=all), three in `make test`; the seed is printed and can be given: AISLE_SEED.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

AISLE = Path(sys.executable).parent / "aisle"
POINTS = 20 if os.environ.get("AISLE_FAULTS") == "all" else 3
SEED = int(os.environ.get("AISLE_SEED") or random.randrange(10_000))
ROWS, REPEATED = 20_000, 500
pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.timeout(3000)]


def events(batch: int) -> pd.DataFrame:
    """ROWS new events, with REPEATED of them twice, spread over a few months."""
    numbers = pd.Series(range(batch * ROWS, (batch + 1) * ROWS))
    frame = pd.DataFrame({"event_id": "e" + numbers.astype(str), "event_type": "purchase"})
    frame["event_time"] = (pd.Timestamp("2024-01-01") + pd.to_timedelta(numbers % 120, unit="D")).dt.strftime(
        "%Y-%m-%d %H:%M:%S"
    )
    frame["user_id"], frame["item_id"] = "u" + (numbers % 97).astype(str), "i" + (numbers % 301).astype(str)
    frame["quantity"], frame["price"] = "1", "2.00"
    return pd.concat([frame, frame.head(REPEATED)])


def aisle(env: dict[str, str], *words: str) -> str:
    done = subprocess.run([AISLE, *words], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def kill_after(env: dict[str, str], seconds: float) -> bool:
    """Starts the step and kills its whole process group, Spark with it; whether it was still running."""
    step = subprocess.Popen(
        [AISLE, "run", "ingest.silver"],
        env=env,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        step.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(step.pid, signal.SIGKILL)
        step.wait()
        return True


def test_a_killed_merge_loses_and_repeats_nothing(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    env = {**os.environ, "AISLE_HOME": str(tmp_path / "home"), "AISLE_SPARK__MASTER": "local[2]"}
    whole = 30.0
    for batch in range(POINTS):
        file = tmp_path / f"{batch}.csv"
        events(batch).to_csv(file, index=False)
        aisle(env, "import", "events", str(file))
        aisle(env, "run", "ingest.bronze")
        aisle(env, "run", "ingest.check")
        point = chance.uniform(0.3, 0.95) * whole
        killed = kill_after(env, point)
        started = time.monotonic()
        if killed:
            aisle(env, "run", "ingest.silver")
            whole = time.monotonic() - started
        rows = json.loads(aisle(env, "status", "--json"))["rows"]["events"]
        expected = {
            "rows_in": ROWS + REPEATED,
            "silver": ROWS,
            "duplicates": REPEATED,
            "quarantined": 0,
            "set_aside": 0,
        }
        said = f"seed {SEED}, batch {batch}, killed={killed} after {point:.1f} s"
        assert {name: rows[name] for name in expected} == {
            name: n * (batch + 1) for name, n in expected.items()
        }, said
