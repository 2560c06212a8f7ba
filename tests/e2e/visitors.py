"""What visitors do between the loop's two turns, by the API's own doors: lists are asked for, seen and clicked, and somebody logs in."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from tests.e2e.doors import aisle, home, key

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python"))
from aisle_client import Aisle, Answer

SESSION = "a-visitor-who-logs-in"


def customers(data: Path, count: int) -> list[str]:
    """Those with the most lines, the busiest first."""
    return [
        str(row[0])
        for row in duckdb.sql(
            f"SELECT customer_id FROM '{data}' WHERE customer_id IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {count}"
        ).fetchall()
    ]


def visit(env: dict[str, str], data: Path) -> dict[str, str]:
    """Request id -> the item that was clicked. Returns when all of it lies in landing."""
    clicked = {}
    shop = Aisle(f"http://127.0.0.1:{env['AISLE_PORTS__API']}", key(env), timeout=30, patience_seconds=60)
    for number, customer in enumerate(customers(data, 4)):
        answer = shop.recommend(customer, k=6, placement="home")
        item = answer.items[number].item_id
        seen(shop, answer, customer)
        shop.track(
            {"event_type": "click", "user_id": customer, "item_id": item, "request_id": answer.request_id}
        )
        clicked[answer.request_id] = item
    first, second = (each.item_id for each in shop.popular(k=2).items)
    customer = customers(data, 5)[-1]
    shop.track({"event_type": "view", "session_id": SESSION, "item_id": first})
    shop.track({"event_type": "view", "session_id": SESSION, "user_id": customer, "item_id": second})
    shop.close()
    wait_for_landing(env)
    return clicked


def seen(shop: Aisle, answer: Answer, customer: str) -> None:
    shop.track(
        {
            "event_type": "impression",
            "user_id": customer,
            "item_id": each.item_id,
            "request_id": answer.request_id,
            "position": each.position,
        }
        for each in answer.items
    )


def wait_for_landing(env: dict[str, str], seconds: float = 120.0) -> None:
    """Until the journal's open segments were landed: exposures, and the last event of the session."""
    until = time.monotonic() + seconds
    while open_segments(env):
        assert time.monotonic() < until, f"the journal still holds {open_segments(env)}"
        time.sleep(0.5)


def open_segments(env: dict[str, str]) -> list[str]:
    """Kinds with rows that are not in landing yet."""
    return [
        kind
        for kind in ("events", "exposures")
        if not list((home(env) / "lake" / "landing" / kind).glob("*/rows.parquet"))
        or [path for path in (home(env) / "journal" / kind).glob("*.jsonl") if path.stat().st_size]
    ]


def import_bad_rows(env: dict[str, str], data: Path) -> None:
    """Users and items told again as they are known, with one row of each that has no sound time."""
    now = datetime.now(UTC).isoformat()
    told = {
        "users": f"SELECT customer_id AS user_id, max(country) AS country FROM '{data}' WHERE customer_id IS NOT NULL GROUP BY 1",
        "items": f"SELECT upper(stock_code) AS item_id, max(description) AS title FROM '{data}' "
        "WHERE regexp_matches(stock_code, '^[0-9]{5}$') AND description IS NOT NULL GROUP BY 1",
    }
    for kind, query in told.items():
        found = duckdb.sql(f"{query} ORDER BY 1 LIMIT 40")
        rows = [dict(zip(found.columns, map(str, row), strict=True)) for row in found.fetchall()]
        lines = [{**row, "updated_at": now if number else "1970-01-01"} for number, row in enumerate(rows)]
        file = home(env).parent / f"bad-{kind}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        aisle(env, "import", kind, str(file))
