"""One user's scores, the way of every request: the same numbers as the batch path, without its passes over the catalogue.

What a request costs are calls and passes: sums of a history are made once for all sources, each source's scores are made
comparable in the row where they stay, the best of all sources are found together, and features are read for those pairs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.blend import Weights
from engine.cold import SPEAK_FOR_THEMSELVES
from engine.interactions import Events
from engine.ranking import DEPTH, HALF_LIVES, Candidates, Things, different_days, names_of
from engine.sources.neighbours import Taste
from engine.vector_sources import query_of

if TYPE_CHECKING:
    from engine.index import Indexed
    from engine.recommender import Recommender


@dataclass(frozen=True)
class OneUser(Events):
    """Events of one question, whose sums every source asks for: each is made once. Nobody changes them in place."""

    kept: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def over(cls, events: Events) -> OneUser:
        return cls(**{each.name: getattr(events, each.name) for each in fields(Events)})

    def among(self, n_items: int) -> OneUser:
        found = self.kept.get(("among", n_items))
        if found is None:
            plain = Events(**{each.name: getattr(self, each.name) for each in fields(Events)})
            found = self.kept["among", n_items] = OneUser.over(plain.among(n_items))
        return found

    @cached_property
    def _items(self) -> tuple[np.ndarray, np.ndarray]:
        """Different items, ascending int32, and the place of each event's item among them."""
        return np.unique(self.item, return_inverse=True)

    def matrix(self, half_life_days: float | None = None) -> Any:
        key = "matrix", half_life_days
        if key not in self.kept:
            items, place = self._items
            age = self.age
            weight = self.weight if half_life_days is None else self.weight * 0.5 ** (age / half_life_days)
            self.kept[key] = Taste(
                items, np.bincount(place, weight, len(items)).astype(np.float32), self.n_items
            )
        return self.kept[key]

    def tastes(self, half_life_days: float | None = None) -> Any:
        if half_life_days not in self.kept:
            whole = self.matrix(half_life_days)
            some = whole.data > 0
            found = Taste(whole.indices[some], np.log1p(whole.data[some]), self.n_items)
            self.kept[half_life_days] = found
        return self.kept[half_life_days]

    def owned(self) -> Any:
        if "owned" not in self.kept:
            items, place = self._items
            mine = items[np.bincount(place[self.weight > 0], minlength=len(items)) > 0]
            self.kept["owned"] = Taste(mine, np.ones(len(mine), np.float32), self.n_items)
        return self.kept["owned"]

    def days(self) -> Any:
        if "days" not in self.kept:
            items, place = self._items
            positive = self.weight > 0
            days = different_days(place[positive], self.day[positive], len(items)).astype(np.float32)
            self.kept["days"] = Taste(items[days > 0], days[days > 0], self.n_items)
        return self.kept["days"]


@dataclass(frozen=True)
class Behind:
    """A source behind an index. row: of its scores. query: the user's vector."""

    row: int
    items: Indexed
    query: np.ndarray

    def scores(self, items: np.ndarray) -> np.ndarray:
        """Exact standard scores of item rows."""
        return self.items.standard(self.query, self.items.index.vectors[items] @ self.query)


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

    names, cold, owned = tuple(model.sources), model.cold, events.owned().indices
    rows = np.empty((len(names), events.n_items), np.float32)
    behind: list[Behind] = []
    for row, (name, source) in enumerate(model.sources.items()):
        if name in model.indexed:
            behind.append(Behind(row, model.indexed[name], query_of(source, events)))
            rows[row] = 0.0
            continue
        rows[row] = source.scores(events)
        if cold is not None and len(cold.items) and name not in SPEAK_FOR_THEMSELVES:
            cold.fill_one(rows[row])
    if not compiled.standardise(rows):
        return None
    sheet = Sheet(names, rows, tuple(behind))
    for each in behind:
        if not np.isfinite(each.query).all():
            return None
        items, products = each.items.index.search(each.query, DEPTH + len(owned), allowed)
        found = each.items.standard(each.query, products)
        rows[each.row] = found.min(initial=0.0)  # who was not found is no better than who was
        rows[each.row, items] = found
    return sheet


def blended(sheet: Sheet, weights: Weights, owned: np.ndarray) -> np.ndarray:
    """As `blend.combine` of one user. owned: item rows."""
    from engine import compiled

    again, new = (
        np.array([each.get(name, 0.0) for name in sheet.names], np.float32)
        for each in (weights.again, weights.new)
    )
    return compiled.blend(sheet.rows, again, new, np.float32(weights.offset), owned)


def best_rows(
    rows: np.ndarray, owned: np.ndarray, repeat: bool, allowed: np.ndarray | None = None
) -> np.ndarray:
    """Item rows, ascending, as `ranking.union` of one user: each source's DEPTH best, once among all and once among those that
    are not `owned`; with `repeat` all that are. allowed: (n_items,) bool, among which alone the best are looked for."""
    if allowed is not None:
        kept = np.flatnonzero(allowed)
        place = np.full(len(allowed), -1, np.int32)
        place[kept] = np.arange(len(kept), dtype=np.int32)
        mine = place[owned]
        if not len(kept):
            return kept
        # `take`, not rows[:, kept]: its rows lie as `compiled.warm` compiled for.
        return kept[best_rows(np.take(rows, kept, axis=1), mine[mine >= 0], repeat)]
    from engine import compiled

    chosen = np.zeros(rows.shape[1], bool)
    chosen[owned] = repeat
    compiled.mark_best(rows, owned, DEPTH, repeat, chosen)
    return np.flatnonzero(chosen)


def described(
    events: OneUser, item: np.ndarray, sheet: Sheet, things: Things, sources: Sequence[str]
) -> Candidates:
    """As `ranking.described` of one user."""
    from engine import compiled

    own, days, positive = events.owned().indices, events.days().data, events.weight > 0
    halved = 0.5 ** (events.age / np.array(HALF_LIVES)[:, None])
    pair = compiled.past(own, days, events.item, positive, events.age, events.weight * halved)
    names, rows = names_of(sources), {name: row for row, name in enumerate(sheet.names)}
    features = np.empty((len(names), len(item)), np.float32)
    compiled.describe(
        item,
        sheet.rows,
        np.array([rows.get(name, -1) for name in sources], np.int64),
        own,
        pair,
        _person(events, len(own), positive),
        things.features,
        things.price,
        things.price[events.item].sum() / max(len(events.item), 1),
        features,
    )
    return Candidates(np.zeros(len(item), np.int64), item, features.T, names)


def _person(events: OneUser, items: int, positive: np.ndarray) -> np.ndarray:
    """(USER,) float64 as `ranking._people`, of somebody with an event. items: how many different ones they had."""
    lines, days = float(np.count_nonzero(positive)), float(len(set(events.day[positive].tolist())))
    newest, oldest = events.age.min(), events.age.max()
    gap = (oldest - newest) / max(days - 1, 1)
    return np.array(
        [len(events.item), days, newest, oldest, gap, items, 1 - items / max(lines, 1), lines / max(days, 1)]
    )


def scored(model: Recommender, events: OneUser, allowed: np.ndarray | None = None) -> Scores | None:
    """None where the batch path has to answer: no event counts, or a score is not finite.

    allowed: (n_items,) bool of what a rule lets through, where it lets through so little that candidates have to be looked for
    there; the scores of all else are of no use then.
    """
    if not len(events.item):
        return None
    sheet = sheet_of(model, events, allowed)
    if sheet is None:
        return None
    owned, repeat = events.owned().indices, model.recipe.repeat is not False
    item = best_rows(sheet.rows, owned, repeat, allowed) if model.ranker or sheet.behind else owned
    sheet.fill(item)
    scores = blended(sheet, model.recipe.weights, owned)
    if not repeat:
        scores[owned] = -np.inf
    if model.ranker is None:
        return Scores(scores, sheet)
    found = described(events, item, sheet, model.things, model.ranker.sources)
    if len(item):
        ranked, leaves = model.quick(found)
        scores -= scores.max() - ranked.min() + np.float32(1.0)
        scores[item] = ranked
        return Scores(scores, sheet, found, leaves)
    return Scores(scores, sheet, found)
