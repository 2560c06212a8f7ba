"""Decision records: why a model was or was not released. One row of ``ops.decisions`` each, hashed and
chained.

A record is canonical JSON. Its digest is the SHA-256 of that JSON, which names the digest of the record
before: who changes, drops or inserts a row in the middle breaks the chain, and `verify` says where. The
table is created append-only, so that Delta itself refuses an UPDATE or DELETE. Imports no MLflow: `aisle
decisions` is quick. Whoever decides, the pages under /reports follow at once.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
from datetime import UTC, datetime
from typing import Any, Final

from filelock import FileLock

from aisle import lake
from aisle.errors import NotThere, TamperedRecord
from aisle.settings import Settings

TABLE: Final = "ops.decisions"
KINDS: Final = ("gate", "retrain", "approval", "promote", "override", "rollback", "auto_rollback", "beside")
PAGES: Final = "monitoring.reports"  # by name, as in aisle.stages: this room imports no other
_SUMMARY: Final = ("decision_id", "kind", "verdict", "challenger", "champion", "decided_by")


def canonical(value: Any) -> str:
    """JSON with one spelling: keys sorted, no spaces, times in ISO, a number that is not finite as null.

    >>> canonical({"b": float("nan"), "a": (1, "é")})
    '{"a":[1,"é"],"b":null}'
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _plain(value: Any) -> Any:
    """Dicts, lists, strings, booleans, finite numbers and None only."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):  # a NumPy number
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else str(value)


def record(
    settings: Settings,
    kind: str,
    verdict: str,
    challenger: str | None,
    champion: str | None,
    as_of: datetime | None,
    decided_by: str,
    body: dict[str, Any],
) -> str:
    """Appends a record, brings the pages up to date and returns its id. The same decision (all of it but the
    time) is written once, so a retry is harmless.

    An act that may rightly happen twice (a promotion, a rollback) names what makes it another one in
    `body`, such as the release pointer that it found.
    """
    if kind not in KINDS:
        raise NotThere(f"no kind of decision {kind!r}; there are {', '.join(KINDS)}")
    content = {
        "kind": kind,
        "verdict": verdict,
        "challenger": str(challenger or ""),
        "champion": str(champion or ""),
        "as_of": as_of.astimezone(UTC).isoformat() if as_of else None,
        "decided_by": decided_by,
        "body": {**body, "model_name": settings.registry.model_name},
    }
    decision_id = hashlib.sha256(canonical(content).encode()).hexdigest()[:16]
    lock = lake.home() / "run" / "decisions.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=120):
        _create()
        rows = lake.read(TABLE, columns=["decision_id", "digest", "previous_digest"]).to_pylist()
        if all(row["decision_id"] != decision_id for row in rows):
            _append(decision_id, content, as_of, _head(rows))
    _show(settings)
    return decision_id


def _show(settings: Settings) -> None:
    """Brings the pages up to date. What is on record stands, even where its page cannot be written."""
    try:
        importlib.import_module(PAGES).refresh(settings)
    except Exception:
        logging.getLogger(__name__).exception("a decision is on record, but its page could not be written")


def _append(decision_id: str, content: dict[str, Any], as_of: datetime | None, previous: str) -> None:
    decided_at = datetime.now(UTC)  # told to readers; nothing is decided by it
    whole = {**content, "decision_id": decision_id, "decided_at": decided_at, "previous_digest": previous}
    text = canonical(whole)
    row = {name: whole[name] for name in _SUMMARY} | {
        "as_of": as_of,
        "decided_at": decided_at,
        "record": text,
        "digest": _digest(text),
        "previous_digest": previous,
    }
    lake.append(TABLE, [row])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _create() -> None:
    if lake.exists(TABLE):
        return
    from deltalake import DeltaTable

    schema = lake.arrow_schema(TABLE)
    DeltaTable.create(
        lake.table_path(TABLE), schema, mode="ignore", configuration={"delta.appendOnly": "true"}
    )


def _head(rows: list[dict[str, str]]) -> str:
    """The digest that no other record names as its predecessor; empty before the first record."""
    followed = {row["previous_digest"] for row in rows}
    heads = [row["digest"] for row in rows if row["digest"] not in followed]
    if rows and len(heads) != 1:
        raise TamperedRecord(
            f"the decisions in {lake.table_path(TABLE)} have {len(heads)} last records instead of one; "
            "restore the table (Delta time travel) before anything else is decided"
        )
    return heads[0] if heads else ""


def everything(kind: str | None = None) -> list[dict[str, Any]]:
    """All records as dicts with their `digest`, newest first; empty before the first."""
    if not lake.exists(TABLE):
        return []
    filters: list[tuple[str, str, object]] | None = [("kind", "==", kind)] if kind else None
    rows = lake.read(TABLE, columns=["decided_at", "record", "digest"], filters=filters).to_pylist()
    rows.sort(key=lambda row: row["decided_at"], reverse=True)
    return [{**json.loads(row["record"]), "digest": row["digest"]} for row in rows]


def read(decision_id: str) -> dict[str, Any]:
    """One record by its id, or by a beginning of it that names one only. Raises NotThere."""
    rows = everything()
    found = [row for row in rows if row["decision_id"].startswith(decision_id)]
    if len(found) != 1:
        known = ", ".join(row["decision_id"] for row in (found or rows)[:5]) or "none yet"
        raise NotThere(f"{len(found) or 'no'} decisions begin with {decision_id!r}; the newest are: {known}")
    return found[0]


def verify() -> int:
    """Walks the chain from its first record and returns how many records stand in it.

    Raises TamperedRecord that names the first record that was changed, or where one is missing.
    """
    if not lake.exists(TABLE):
        return 0
    rows = lake.read(TABLE).to_pylist()
    for row in rows:
        told = json.loads(row["record"])
        differing = [name for name in (*_SUMMARY, "previous_digest") if told.get(name) != row[name]]
        if _digest(row["record"]) != row["digest"] or differing:
            what = f"columns {', '.join(differing)}" if differing else "record"
            raise TamperedRecord(f"decision {row['decision_id']} was changed after it was written ({what})")
    following = {row["previous_digest"]: row for row in rows}
    walked, digest = 0, ""
    while digest in following:
        digest = following[digest]["digest"]
        walked += 1
    if walked != len(rows):
        raise TamperedRecord(
            f"{len(rows)} decisions but {walked} in the chain: "
            f"one is missing or was put in after {digest[:16] or 'the start'}"
        )
    return walked
