"""`aisle status`: the sum of every imported row, what runs, what is served, what was last decided. Without Spark."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from typing import Any

from aisle import api_keys, lake, ledger
from aisle.columns import KINDS
from aisle.settings import Settings

COUNTS = ("rows_in", "silver", "duplicates", "quarantined", "set_aside")


def show(settings: Settings, as_json: bool = False) -> str:
    """Everything as text or as one JSON object: rows, batches, services, release, what the API answers with, decision."""
    running = services()
    found = {
        "rows": rows(),
        "batches": batches(),
        "services": running,
        "keys": api_keys.summary(),
        "release": release(),
        "api": answering(str(running.get("api", {}).get("url", ""))),
        "decision": decision(),
    }
    return json.dumps(found, default=str, ensure_ascii=False) if as_json else text(found)


def rows() -> dict[str, dict[str, Any]]:
    """Per kind: rows in, and where they went, over all batches that are done; with the reasons of what is not in silver."""
    found: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        done = [
            row for row in ledger.latest().values() if row["kind"] == kind and row["status"] == ledger.SILVER
        ]
        reasons: dict[str, Counter] = {"quarantined": Counter(), "set_aside": Counter()}
        for row in done:
            for why, counts in reasons.items():
                counts.update(row["reasons"].get(why, {}))
        sums = {name: sum(row[name] or 0 for row in done) for name in COUNTS}
        found[kind] = {
            **sums,
            "reasons": {why: dict(counts.most_common()) for why, counts in reasons.items()},
        }
    return found


def batches() -> dict[str, int]:
    """Batches by state; landed ones that no run has seen are 'landed'."""
    known = ledger.latest()
    states = Counter(row["status"] for row in known.values())
    states["landed"] = sum(batch not in known for _, batch in ledger.landed())
    return {state: n for state, n in sorted(states.items()) if n}


def services() -> dict[str, dict[str, Any]]:
    """What `aisle up` started and is alive, with its address."""
    from aisle import processes

    return {
        name: {"url": each.url, "pid": each.pid}
        for name, each in processes.read().items()
        if processes.process_of(each)
    }


def release() -> dict[str, Any] | None:
    """The release pointer; where it cannot be read, `version` says so, since all else can be shown."""
    pointer = lake.home() / "releases" / "current.json"
    if not pointer.exists():
        return None
    try:
        found = json.loads(pointer.read_text())
        return {"version": found["version"], **found}
    except (ValueError, TypeError, KeyError):
        return {"version": f"unreadable: {pointer} is torn; `aisle promote V` writes it anew"}


def answering(url: str) -> dict[str, Any] | None:
    """What /readyz of the API at `url` says: version, fault, beside and more. None where none answers."""
    if not url:
        return None
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/readyz", timeout=2) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:  # 503: no release is loaded
        try:
            return dict(json.load(error))
        except (ValueError, TypeError):
            return None
    except (OSError, ValueError):
        return None


def decision() -> dict[str, Any] | None:
    """The last record of ops.decisions, without its body."""
    if not lake.exists("ops.decisions"):
        return None
    names = ["decision_id", "kind", "verdict", "challenger", "champion", "decided_by", "decided_at"]
    found = lake.read("ops.decisions", columns=names).sort_by("decided_at").to_pylist()
    return found[-1] if found else None


def text(found: dict[str, Any]) -> str:
    """For a terminal; the sum stands as a sum, so that a missing row would show."""
    lines = ["rows"]
    for kind, row in found["rows"].items():
        lines.append(
            f"  {kind:<7} {row['rows_in']:>9,} in = {row['silver']:,} silver + {row['duplicates']:,} duplicates "
            f"+ {row['quarantined']:,} quarantined + {row['set_aside']:,} set aside"
        )
        for why, reasons in row["reasons"].items():
            lines += [
                f"            {n:>9,} {why.replace('_', ' ')}: {reason}" for reason, n in reasons.items()
            ]
    states = ", ".join(f"{n} {state}" for state, n in found["batches"].items())
    lines.append(f"batches   {states or 'none: aisle import events FILE'}")
    running = ", ".join(found["services"])
    lines.append(f"services  {running or 'none: aisle up'}")
    lines += [
        f"          {name:<14} {each['url']}" for name, each in found["services"].items() if each["url"]
    ]
    if found["keys"]:
        where = f"; the first ones in {found['keys']['plain']}" if found["keys"]["plain"] else ""
        lines.append(f"keys      {found['keys']['active']} active{where}: aisle keys list")
    served = found["release"]
    lines.append(
        f"release   {'version ' + str(served['version']) if served else 'none yet: the DAGs make the first one'}"
    )
    lines += [f"          {told}" for told in answers(served, found["api"])]
    last = found["decision"]
    if last:
        lines.append(
            f"decision  {last['kind']} {last['verdict']} ({last['decision_id']}): aisle decisions {last['decision_id']}"
        )
    return "\n".join(lines)


def answers(released: dict[str, Any] | None, api: dict[str, Any] | None) -> list[str]:
    """What of the API's answers the release alone does not say.

    >>> answers({"version": "2"}, {"version": "1", "fault": {"detail": "spoilt"}, "beside": {"version": "3", "share": 0.1}})
    ['the API answers with version 1: spoilt', 'beside it version 3 for 10.0% of the shoppers']
    """
    if not released or not api:
        return []
    fault, second, told = api.get("fault"), api.get("beside"), []
    if fault or api.get("version") != released["version"]:
        why = f": {fault['detail']}" if fault else ""
        version = api.get("version")
        told.append(f"the API answers with {f'version {version}' if version else 'no version'}{why}")
    if second and not second.get("fault"):
        told.append(f"beside it version {second['version']} for {second['share']:.1%} of the shoppers")
    return told
