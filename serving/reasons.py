"""A reason in words, from the source that spoke for an item and its evidence.

Used by the API, the page and the console.
"""

from __future__ import annotations

from typing import Any

from serving.schemas import Reason


def of(reason: dict[str, Any]) -> Reason:
    """The engine's reason with its words. `evidence` keys are those of engine.sources."""
    return Reason(**plain(reason))


def plain(reason: dict[str, Any]) -> dict[str, Any]:
    """As `of`, for who writes JSON of it."""
    evidence = reason.get("evidence") or {}
    parts = {source: round(float(part), 4) for source, part in (reason.get("parts") or {}).items()}
    return {"source": reason["source"], "evidence": evidence, "parts": parts, "text": words(evidence)}


def words(evidence: dict[str, Any]) -> str:
    """One line for a shopper.

    times, days_ago: of their own purchases. item_id, title: what was bought with it. popular_in: a country.
    """
    if evidence.get("with"):
        return f"Customers who bought what you are looking at, such as {evidence['title']}, bought it too"
    if "trending" in evidence:
        return "Bought more and more lately"
    if "curated" in evidence:
        return "Chosen by the shop" if evidence["curated"] else "From our range"
    if "times" in evidence:
        return _again(int(evidence["times"]), evidence.get("days_ago"))
    if evidence.get("item_id") and evidence.get("alike"):
        return f"Like {evidence.get('title') or evidence['item_id']}, which you bought"
    if evidence.get("item_id"):
        return f"Customers who bought {evidence.get('title') or evidence['item_id']} bought it too"
    if evidence.get("popular_in"):
        return f"Popular in {evidence['popular_in']}"
    if evidence.get("taste"):
        return "Like what you bought before"
    return "Popular with everybody"


def _again(times: int, days_ago: float | None) -> str:
    often = "once" if times == 1 else f"{times} times"
    if days_ago is None:
        return f"You bought it {often}"
    when = "today" if days_ago < 1 else f"{days_ago:.0f} day{'s' if round(days_ago) != 1 else ''} ago"
    return f"You bought it {often}, last {when}"
