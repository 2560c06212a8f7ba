"""A reason in words, from the source that spoke for an item and its evidence.

Used by the API, the page and the console.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from serving.schemas import Reason

DIGITS = 4  # of a part of a score, after the point


def of(reason: dict[str, Any]) -> Reason:
    """The engine's reason with its words. `evidence` keys are those of engine.sources."""
    return Reason(**plain(reason))


def plain(reason: dict[str, Any]) -> dict[str, Any]:
    """As `of`, for who writes JSON of it."""
    evidence = reason.get("evidence") or {}
    parts = {name: round(float(part), DIGITS) for name, part in (reason.get("parts") or {}).items()}
    return {"source": reason["source"], "evidence": evidence, "parts": parts, "text": words(evidence)}


def written(reason: dict[str, Any]) -> dict[str, Any]:
    """As `plain`, for `orjson.dumps`: of a reason whose parts are JSON already, in DIGITS, or are none."""
    evidence, parts = reason["evidence"], reason["parts"]
    parts = orjson.Fragment(parts) if parts else {}
    return {"source": reason["source"], "evidence": evidence, "parts": parts, "text": words(evidence)}


DID = {
    "purchase": "bought",
    "cart": "put into your cart",
    "like": "liked",
    "rating": "rated",
    "fair_rating": "rated",
    "click": "looked at",
    "view": "looked at",
}


OTHERS_DID = {  # of what counts as the shop's goal: of ratings the good ones
    "purchase": "bought",
    "rating": "liked",
    "like": "liked",
    "cart": "wanted",
    "click": "looked at",
    "view": "looked at",
}


def words(evidence: dict[str, Any]) -> str:
    """One line for a shopper.

    event_type: what they did, with the item itself (`times`, on so many days, `days_ago` last) or with another one of their
    history (`item_id`, `title`), or with most of it (`taste` without one). same: labels that both items have. popular_in: a country.
    goal: what others did, where it is no purchase.
    """
    did = DID.get(evidence.get("event_type", ""), "came across")
    if "times" in evidence:
        return _again(did, int(evidence["times"]), evidence.get("days_ago"))
    if "popular_in" in evidence:
        country = evidence["popular_in"]
        return f"Popular in {country}" if country else "Popular with everybody"
    did_too = OTHERS_DID.get(evidence.get("goal", "purchase"), "chose")
    others = f"{'People' if 'goal' in evidence else 'Customers'} who {did_too}"
    if evidence.get("with"):
        return f"{others} what you are looking at, such as {evidence['title']}, {did_too} it too"
    if evidence.get("item_id"):
        name = evidence.get("title") or evidence["item_id"]
        if not (evidence.get("alike") or evidence.get("taste")):
            return f"{others} {name} {did_too} it too"
        same = _same(evidence.get("same", ()))
        return f"Like {name}, which you {did}{same}" if "event_type" in evidence else f"Like {name}{same}"
    if "trending" in evidence:
        return f"{did_too.capitalize()} more and more lately"
    if "curated" in evidence:
        return "Chosen by the shop" if evidence["curated"] else "From our range"
    if evidence.get("taste"):
        return f"Like what you {did} before"
    return "Popular with everybody"


def _same(labels: Sequence[str]) -> str:
    """
    >>> _same(["colour=red", "tag:summer"]), _same([])
    (': same colour (red), tagged summer', '')
    """
    told = [label.partition("=") for label in labels]
    parts = [
        f"same {name} ({value})" if mark else f"tagged {name.removeprefix('tag:')}"
        for name, mark, value in told
    ]
    return f": {', '.join(parts)}" if parts else ""


def _again(did: str, times: int, days_ago: float | None) -> str:
    """
    >>> _again("bought", 3, 2.3), _again("put into your cart", 1, 0.2)
    ('You bought it 3 times, last 2 days ago', 'You put it into your cart today')
    """
    what = "You " + (did.replace("put", "put it", 1) if did.startswith("put") else f"{did} it")
    when = ""
    if days_ago is not None:
        when = "today" if days_ago < 1 else f"{days_ago:.0f} day{'s' if round(days_ago) != 1 else ''} ago"
    if times > 1:
        return f"{what} {times} times" + (f", last {when}" if when else "")
    return f"{what} {when}".rstrip()
