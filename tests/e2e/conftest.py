"""An installation that has been through the demo, for every test of the package."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).resolve().parents[2]
AISLE = Path(sys.executable).parent / "aisle"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def slice_of_the_shop(path: Path, share: int = 2) -> Path:
    """One customer in `share`, whole, and the lines without a customer of one invoice in `share`."""
    duckdb.sql(f"""
        COPY (
            SELECT * FROM read_parquet('{ROOT / "data" / "online_retail.parquet"}')
            WHERE coalesce(customer_id, hash(invoice_no)) % {share} = 0
        ) TO '{path}' (FORMAT parquet)
    """)
    return path


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an installation that has been through `aisle demo`; stopped afterwards."""
    folder = tmp_path_factory.mktemp("loop")
    ports = {
        f"AISLE_PORTS__{name}": str(free_port()) for name in ("AIRFLOW", "MLFLOW", "FEAST", "API", "SPARK")
    }
    env = {**os.environ, **ports, "AISLE_HOME": str(folder / "home"), "TF_USE_LEGACY_KERAS": "1"}
    env |= {"AISLE_GATE__MIN_USERS": "50", "PYTHONDONTWRITEBYTECODE": ""}
    data = slice_of_the_shop(folder / "slice.parquet")
    try:
        run = subprocess.run(
            [AISLE, "demo", "--data", data],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1400,
        )
        (folder / "demo.log").write_text(run.stdout + run.stderr)
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-6000:]
        env["DEMO_OUTPUT"] = run.stdout
        yield env
    finally:
        subprocess.run([AISLE, "down"], env=env, check=False, capture_output=True, timeout=120)
