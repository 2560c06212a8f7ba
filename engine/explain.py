"""Why an item is in a list: from the sources' own evidence, never made up afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.blend import Weights
from engine.interactions import Catalogue, Events
from engine.sources.base import Source

SPEAKS_FOR = {
    "again": "personal",
    "rhythm": "personal",
    "trend": "popularity",
}  # parts that are no source's own


def reason(
    sources: Mapping[str, Source], parts: Mapping[str, float], events: Events, item: int, catalogue: Catalogue
) -> dict[str, Any]:
    """source, evidence and parts of one item for the one user of `events`.

    parts: what each source added to the score, and what else did (`blend_parts`, `Ranker.parts`); they sum to the
    score. source: the one that added most and has evidence, with the parts of SPEAKS_FOR counted to theirs.
    evidence, by source: {'times', 'days_ago'} of the user's own purchases; {'item_id', 'title', 'share'} of
    the history's item that spoke loudest, with 'alike' where its words did; {'popular_in'} the user's country where
    the item is bought more than elsewhere, else None; {'taste': True} for the two-tower.
    """
    loudness = {name: parts[name] for name in sources if name in parts}
    for part, name in SPEAKS_FOR.items():
        if name in loudness:
            loudness[name] += parts.get(part, 0.0)
    told: tuple[str, dict] = ("popularity", {"popular_in": None})
    for name in sorted(loudness, key=loudness.__getitem__, reverse=True):
        evidence = sources[name].evidence(events, item)
        if evidence is not None:
            told = (name, _named(evidence, catalogue))
            break
    return {"source": told[0], "evidence": told[1], "parts": dict(parts)}


def blend_parts(
    weights: Weights, normalised: Mapping[str, np.ndarray], events: Events, item: int
) -> dict[str, float]:
    """What each source added to the one user's blended score, and the offset as 'again' where they had the item."""
    had = bool(((events.item == item) & (events.weight > 0)).any())
    used = weights.again if had else weights.new
    parts = {
        name: float(used[name] * scores[0, item]) for name, scores in normalised.items() if used.get(name)
    }
    if had and weights.offset:
        parts["again"] = float(weights.offset)
    return parts


def _named(evidence: dict, catalogue: Catalogue) -> dict:
    """The row under 'item' as id and title."""
    if "item" not in evidence:
        return evidence
    row = evidence.pop("item")
    return {"item_id": catalogue.item_ids[row], "title": catalogue.value("title", row), **evidence}
