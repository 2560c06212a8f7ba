"""An installation that has been through the demo's two turns, with visitors in between, for every test of the package.

The shop's invoices are moved in time, whole days, so that they end yesterday: what visitors are shown and do now is then of the
same days as what is ingested, as in a shop that is open.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.e2e.doors import aisle
from tests.e2e.visitors import import_bad_rows, visit

ROOT = Path(__file__).resolve().parents[2]
LAST, SPLIT = date(2011, 12, 9), date(2011, 11, 12)  # of the shipped invoices


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def slice_of_the_shop(path: Path, later: timedelta, share: int = 2) -> Path:
    """One customer in `share`, whole, and the lines without a customer of one invoice in `share`; so many days later."""
    duckdb.sql(f"""
        COPY (
            SELECT * REPLACE (invoice_ts + INTERVAL {later.days} DAY AS invoice_ts)
            FROM read_parquet('{ROOT / "data" / "online_retail.parquet"}')
            WHERE coalesce(customer_id, hash(invoice_no)) % {share} = 0
        ) TO '{path}' (FORMAT parquet)
    """)
    return path


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an installation that has been through `aisle demo`; stopped afterwards.

    DEMO: the words of the command. SPLIT: ISO day between the turns. CLICKED: JSON, request id -> clicked item.
    """
    folder = tmp_path_factory.mktemp("loop")
    ports = {
        f"AISLE_PORTS__{name}": str(free_port()) for name in ("AIRFLOW", "MLFLOW", "FEAST", "API", "SPARK")
    }
    env = {**os.environ, **ports, "AISLE_HOME": str(folder / "home"), "TF_USE_LEGACY_KERAS": "1"}
    env |= {"AISLE_GATE__MIN_USERS": "50", "PYTHONDONTWRITEBYTECODE": ""}
    env |= {"AISLE_WRITES__ROTATE_SECONDS": "2"}  # the next ingest has what was just sent
    later = datetime.now(UTC).date() - timedelta(days=1) - LAST
    data = slice_of_the_shop(folder / "slice.parquet", later)
    split = (SPLIT + later).isoformat()
    demo = ["demo", "--data", str(data), "--split", split]
    try:
        aisle(env, *demo, "--turns", "1", timeout=1400)
        clicked = visit(env, data)
        import_bad_rows(env, data)
        (folder / "demo.log").write_text(aisle(env, *demo, timeout=1400))
        yield {**env, "DEMO": json.dumps(demo), "SPLIT": split, "CLICKED": json.dumps(clicked)}
    finally:
        aisle(env, "down", timeout=120)
