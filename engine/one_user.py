"""One user's scores, the way of every request: the same numbers as the batch path, without its passes over the catalogue.

What a request costs are calls and passes: sums of a history are made once for all sources, each source's scores are made
comparable in the row where they stay, the best of all sources are found together, and features are read for those pairs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engine.cold import SPEAK_FOR_THEMSELVES
from engine.history import OneUser
from engine.ranking import DEPTH, Candidates, Things, names_of
from engine.sources.base import put
from engine.sources.neighbours import arrays_of
from engine.vector_sources import query_of

if TYPE_CHECKING:
    from engine.index import Indexed
    from engine.recommender import Recommender


@dataclass(frozen=True)
class Plan:
    """What is the same for every user of a model.

    names: of its sources. cold: (sources,) bool, those of which items without a buyer take what the items say that they read like:
    speakers has these items (c,) and CSR arrays (c, n_items) of who speaks for them. again, new: (sources,) float32 weights of the blend.
    read: (sources that the ranker reads,) int64 rows of theirs, -1 for none; features: their names.
    """

    names: tuple[str, ...]
    cold: np.ndarray
    speakers: tuple[np.ndarray, ...]
    again: np.ndarray
    new: np.ndarray
    read: np.ndarray
    features: tuple[str, ...]

    @classmethod
    def of(cls, model: Recommender) -> Plan:
        names, weights, cold = tuple(model.sources), model.recipe.weights, model.cold
        some = cold is not None and len(cold.items) > 0
        spoken_for = [some and name not in (*SPEAK_FOR_THEMSELVES, *model.indexed) for name in names]
        speakers = (cold.items.astype(np.int64), *arrays_of(cold.alike)) if cold is not None and some else ()
        sources = model.ranker.sources if model.ranker else ()
        return cls(
            names,
            np.array(spoken_for, bool),
            speakers,
            np.array([weights.again.get(name, 0.0) for name in names], np.float32),
            np.array([weights.new.get(name, 0.0) for name in names], np.float32),
            np.array([names.index(name) if name in names else -1 for name in sources], np.int64),
            names_of(sources),
        )


@dataclass(frozen=True)
class Behind:
    """A source behind an index. row: of its scores. query: the user's vector."""

    row: int
    items: Indexed
    query: np.ndarray

    @cached_property
    def of_all(self) -> tuple[float, float]:
        """Mean and spread of all items' products."""
        return self.items.moments.of_query(self.query)

    def scores(self, items: np.ndarray) -> np.ndarray:
        """Exact standard scores of item rows."""
        return self.standard(self.items.index.vectors[items] @ self.query)

    def standard(self, products: np.ndarray) -> np.ndarray:
        return self.items.standard(self.query, products, self.of_all)


@dataclass(frozen=True)
class Sheet(Mapping[str, np.ndarray]):
    """Standard scores by source, (1, n_items) each. rows: (sources, n_items) float32.

    behind: sources whose items are behind an index. Their rows hold the exact scores of what was found by any source, and for all
    others the mean, 0, or the least that was found where that is below it.
    """

    names: tuple[str, ...]
    rows: np.ndarray
    behind: tuple[Behind, ...] = ()

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            place = self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
        return self.rows[place : place + 1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def fill(self, items: np.ndarray) -> None:
        """Puts in the exact scores of items, in place."""
        for each in self.behind:
            self.rows[each.row, items] = each.scores(items)


@dataclass(frozen=True)
class Scores:
    """scores: (n_items,) float32, candidates by the ranker and all others below them. leaves: (candidates, trees) that the ranker reached."""

    scores: np.ndarray
    sheet: Sheet
    candidates: Candidates | None = None
    leaves: np.ndarray | None = None


def sheet_of(model: Recommender, events: OneUser, allowed: np.ndarray | None = None) -> Sheet | None:
    """None where a score is not finite: the batch path knows what to do then. allowed: see `scored`."""
    from engine import compiled  # where it is asked for: a job that answers nobody need not load a compiler

    names, cold = tuple(model.sources), model.cold
    rows = np.empty((len(names), events.n_items), np.float32)
    behind = [
        Behind(names.index(name), items, query_of(model.sources[name], events))
        for name, items in model.indexed.items()
    ]
    if not all(np.isfinite(each.query).all() for each in behind):
        return None
    # An index is looked through first: it is larger than all that comes after, which then stays in the cache.
    found = [each.items.index.search(each.query, DEPTH + events.owned().nnz, allowed) for each in behind]
    for row, (name, source) in enumerate(model.sources.items()):
        if name in model.indexed:
            rows[row] = 0.0
        else:
            put(source, events, rows[row])
    if cold is not None and len(cold.items):
        compiled.speak_for(rows, model.plan.cold, *model.plan.speakers)
    if not compiled.standardise(rows):
        return None
    for each, (items, products) in zip(behind, found, strict=True):
        scores = each.standard(products)
        rows[each.row] = scores.min(initial=0.0)  # who was not found is no better than who was
        rows[each.row, items] = scores
    return Sheet(names, rows, tuple(behind))


def best_rows(
    rows: np.ndarray,
    owned: np.ndarray,
    repeat: bool,
    allowed: np.ndarray | None = None,
    bought: np.ndarray | None = None,
) -> np.ndarray:
    """Item rows, ascending, as `ranking.union` of one user: each source's DEPTH best among those that are not `owned`, which the
    best of all are too, or they are owned; and those that are, but for what was `bought` unless `repeat`. allowed: (n_items,) bool,
    among which alone the best are looked for. bought: rows, None for all that are owned."""
    if allowed is not None:
        kept = np.flatnonzero(allowed)
        place = np.full(len(allowed), -1, np.int32)
        place[kept] = np.arange(len(kept), dtype=np.int32)
        mine, taken = place[owned], place[owned if bought is None else bought]
        if not len(kept):
            return kept
        # `take`, not rows[:, kept]: its rows lie as `compiled.warm` compiled for.
        among = np.take(rows, kept, axis=1)
        return kept[best_rows(among, mine[mine >= 0], repeat, bought=taken[taken >= 0])]
    from engine import compiled

    chosen = np.zeros(rows.shape[1], bool)
    chosen[owned] = True
    if not repeat:
        chosen[owned if bought is None else bought] = False
    compiled.mark_best(rows, owned, DEPTH, chosen)
    return np.flatnonzero(chosen)


def described(events: OneUser, item: np.ndarray, sheet: Sheet, things: Things, plan: Plan) -> Candidates:
    """As `ranking.described` of one user."""
    from engine import compiled

    items, place = events.places
    days = events.days_of_places
    pair = compiled.past(place, events.positive, events.weight, events.age, days)
    order_days = float(len(set(events.day[events.positive].tolist())))
    features = np.empty((len(plan.features), len(item)), np.float32)
    compiled.describe(
        item,
        sheet.rows,
        plan.read,
        items,
        pair,
        compiled.person(events.positive, events.age, order_days, float(events.owned().nnz)),
        things.features,
        things.price,
        things.price[events.item].sum() / max(len(events.item), 1),
        features,
    )
    return Candidates(np.zeros(len(item), np.int64), item, features.T, plan.features)


def scored(model: Recommender, events: OneUser, allowed: np.ndarray | None = None) -> Scores | None:
    """None where the batch path has to answer: no event counts, or a score is not finite.

    allowed: (n_items,) bool of what a rule lets through, where it lets through so little that candidates have to be looked for
    there; the scores of all else are of no use then.
    """
    from engine import compiled

    if not len(events.item):
        return None
    sheet = sheet_of(model, events, allowed)
    if sheet is None:
        return None
    owned, repeat = events.owned().indices, model.recipe.repeat is not False
    bought = events.bought().indices
    item = best_rows(sheet.rows, owned, repeat, allowed, bought) if model.ranker or sheet.behind else owned
    sheet.fill(item)
    plan = model.plan
    scores = compiled.blend(sheet.rows, plan.again, plan.new, np.float32(model.recipe.weights.offset), owned)
    if not repeat:
        scores[bought] = -np.inf
    if model.ranker is None:
        return Scores(scores, sheet)
    found = described(events, item, sheet, model.things, plan)
    if len(item):
        ranked, leaves = model.quick(found)
        compiled.lift(scores, item, ranked)
        return Scores(scores, sheet, found, leaves)
    return Scores(scores, sheet, found)
