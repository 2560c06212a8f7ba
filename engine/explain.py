"""Why an item is in a list: from the sources' own evidence, never made up afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.blend import Weights
from engine.interactions import Catalogue, Events
from engine.ranker import PARTS, Ranker
from engine.ranking import SCORE
from engine.sources.base import Source
from engine.state import DAY, UserState, epoch

SPEAKS_FOR = {
    "again": "personal",
    "rhythm": "personal",
    "trend": "popularity",
}  # parts that are no source's own
DEEDS = (
    "purchase",
    "cart",
    "like",
    "rating",
    "click",
    "view",
)  # what a reason tells of a user, most telling first


def reason(
    sources: Mapping[str, Source], parts: Mapping[str, float], events: Events, item: int, catalogue: Catalogue
) -> dict[str, Any]:
    """source, evidence and parts of one item for the one user of `events`.

    parts: what each source added to the score, and what else did (`blend_parts`, `Ranker.parts`); they sum to the
    score. source: the one that added most and has evidence, with the parts of SPEAKS_FOR counted to theirs.
    evidence, by source: {'event_type', 'times', 'days_ago'} of what the user did with the item itself (see `deed`);
    {'item_id', 'title', 'share', 'event_type'} of the history's item that spoke loudest, with 'alike' where its words
    did; {'popular_in'} the user's country where the item is bought more than elsewhere, else None; {'taste': True,
    'event_type'} for the two-tower.
    """
    loudness = {name: parts[name] for name in sources if name in parts}
    for part, name in SPEAKS_FOR.items():
        if name in loudness:
            loudness[name] += parts.get(part, 0.0)
    told: tuple[str, dict] = ("popularity", {"popular_in": None})
    for name in sorted(loudness, key=loudness.__getitem__, reverse=True):
        evidence = sources[name].evidence(events, item)
        if evidence is not None:
            told = (name, _named(evidence, catalogue, events))
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


@dataclass(frozen=True)
class Paths:
    """What a ranker's score owes to which feature, along the paths of its trees: each step from a node to its child moves
    the node's mean to the child's, and belongs to the feature that was asked. Saabas, Interpreting random forests (2014).

    Adds up to the score as TreeSHAP does, in a tenth of its time; of features that say the same it favours the one asked
    first. owners: names of the parts. table: (leaves of all trees, owners) float64. start: (trees,) first leaf of each.
    """

    ranker: Ranker
    owners: tuple[str, ...]
    table: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, ranker: Ranker) -> Paths:
        owner_of = [PARTS.get(name, name.removeprefix(SCORE)) for name in ranker.names]
        owners = tuple(dict.fromkeys([*owner_of, "base"]))
        column = np.array([owners.index(name) for name in owner_of])
        leaves: list[np.ndarray] = []
        start = []
        for tree in ranker.described()["tree_info"]:
            root, found = tree["tree_structure"], np.zeros((tree["num_leaves"], len(owners)))
            base = np.zeros(len(owners))
            base[-1] = root.get("internal_value", root.get("leaf_value", 0.0))
            _walk(root, base, column, found)
            start.append(sum(map(len, leaves)))
            leaves.append(found)
        return cls(ranker, owners, np.vstack(leaves), np.array(start))

    def parts(self, features: np.ndarray) -> list[dict[str, float]]:
        """As `Ranker.parts`."""
        reached = np.asarray(self.ranker.model.predict(features, pred_leaf=True, num_threads=1), np.int64)
        return self.parts_of(reached.reshape(len(features), -1))

    def parts_of(self, reached: np.ndarray) -> list[dict[str, float]]:
        """As `parts`, of the leaves that rows reached: (n, trees) LightGBM's numbers."""
        from engine import compiled

        rows = compiled.sums_of(self.table, self.start, reached)
        return [
            {name: value for name, value in zip(self.owners, row, strict=True) if value}
            for row in rows.tolist()
        ]


def _walk(node: dict[str, Any], so_far: np.ndarray, column: np.ndarray, found: np.ndarray) -> None:
    """Fills `found` with the parts of the leaves under a node, whose own are `so_far`."""
    if "leaf_value" in node:
        found[node.get("leaf_index", 0)] = so_far
        return
    for child in (node["left_child"], node["right_child"]):
        step = so_far.copy()
        step[column[node["split_feature"]]] += (
            child.get("leaf_value", child.get("internal_value")) - node["internal_value"]
        )
        _walk(child, step, column, found)


def _named(evidence: dict, catalogue: Catalogue, events: Events) -> dict:
    """The row under 'item' as id and title, and what the user did with it, from their own events."""
    state = events.states[0]
    if "item" not in evidence:
        return {**evidence, "event_type": _kind(state.event_types)} if evidence.get("taste") else evidence
    row = evidence.pop("item")
    item_id = catalogue.item_ids[row]
    if evidence.pop("own", False):
        return deed(state, item_id, epoch(events.now))
    places = _places(state.item_ids, item_id)
    kind = _kind([state.event_types[place] for place in places])
    return {"item_id": item_id, "title": catalogue.value("title", row), **evidence, "event_type": kind}


def deed(state: UserState, item_id: str, now: float) -> dict[str, Any]:
    """{'event_type', 'times', 'days_ago'}: the most telling thing a user did with an item, on how many days, and how long
    ago last. now: epoch seconds.

    >>> state = UserState("u", None, ["a", "b", "a", "a"], ["view", "view", "purchase", "purchase"], [9 * 86_400, 0, 1, 0])
    >>> deed(state, "a", 10 * 86_400.0), deed(state, "b", 0.0)["event_type"]
    ({'event_type': 'purchase', 'times': 1, 'days_ago': 10.0}, 'view')
    """
    places = _places(state.item_ids, item_id)
    kind = _kind([state.event_types[place] for place in places])
    times = [state.event_times[place] for place in places if state.event_types[place] == kind]
    days = {int(time // DAY) for time in times}
    ago = max(now - max(times), 0.0) / DAY if times else 0.0
    return {"event_type": kind, "times": len(days), "days_ago": round(float(ago), 1)}


def _places(item_ids: Sequence[str], item_id: str) -> list[int]:
    """Where an item stands in a history; by `index`, which takes half the time of a comprehension."""
    ids = item_ids if isinstance(item_ids, list | tuple) else list(item_ids)
    found: list[int] = []
    try:
        while True:
            found.append(ids.index(item_id, found[-1] + 1 if found else 0))
    except ValueError:
        return found


def _kind(kinds: Sequence[str]) -> str:
    """The first of DEEDS that is there; another kind, where a shop gave weight to it; '' where there is nothing."""
    found = set(kinds)
    return next((kind for kind in DEEDS if kind in found), next(iter(kinds), ""))
