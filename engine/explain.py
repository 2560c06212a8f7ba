"""Why an item is in a list: from the sources' own evidence, never made up afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.blend import Weights
from engine.interactions import Catalogue, Events
from engine.sources.base import Source


def reason(
    sources: Mapping[str, Source],
    normalised: Mapping[str, np.ndarray],
    weights: Weights,
    events: Events,
    item: int,
    catalogue: Catalogue,
) -> dict[str, Any]:
    """source, evidence and parts of one item for the one user of `events`.

    parts: what each source added to the score, and the offset as 'again' where the user had the item; they
    sum to the score. source: the one that added most and has evidence; the offset speaks for 'personal'.
    evidence, by source: {'times', 'days_ago'} of the user's own purchases; {'item_id', 'title', 'share'} of
    the history's item that spoke loudest; {'popular_in'} the user's country where the item is bought more than
    elsewhere, else None; {'taste': True} for the two-tower.
    """
    had = bool(((events.item == item) & (events.weight > 0)).any())
    used = weights.again if had else weights.new
    parts = {name: float(used[name] * normalised[name][0, item]) for name in sources if used.get(name)}
    loudness = {
        name: part + (weights.offset if had and name == "personal" else 0.0) for name, part in parts.items()
    }
    told: tuple[str, dict] = ("popularity", {"popular_in": None})
    for name in sorted(loudness, key=loudness.__getitem__, reverse=True):
        evidence = sources[name].evidence(events, item)
        if evidence is not None:
            told = (name, _named(evidence, catalogue))
            break
    if had and weights.offset:
        parts["again"] = float(weights.offset)
    return {"source": told[0], "evidence": told[1], "parts": parts}


def _named(evidence: dict, catalogue: Catalogue) -> dict:
    """The row under 'item' as id and title."""
    if "item" not in evidence:
        return evidence
    row = evidence.pop("item")
    return {"item_id": catalogue.item_ids[row], "title": catalogue.value("title", row), **evidence}
