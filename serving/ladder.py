"""The ladder: what an answer goes by, from the best that is known down to what can always be said.

    personalised   the user's own history          related   the item or basket that was asked about
    session        what a visitor just did         popular   what everybody buys
    segment        what their country buys         curated   the shop's own list, then whatever may be shown

A rung that fails, or has nothing that the rules let through, hands down to the next. A list that is short is filled from
the rungs below. While one item may be shown, no list is empty.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from aisle.errors import NotThere
from engine.places import Places, ordered
from engine.recommender import Recommended, Recommender
from engine.rules import Rules, had
from engine.state import DAY, UserState, epoch
from serving.asking import Ask
from serving.rulebook import RuleBook
from serving.rungs import Head, curated, popular, related, trending
from serving.together import Together
from serving.view import View

log = logging.getLogger("aisle.answers")
REPLAY_SECONDS = (
    90 * DAY
)  # an event so long after the end of the model's data was sent to a shop that is replayed
REORDERED = 200  # places that caps and diversity of the recipe give; what follows keeps its order


@dataclass(frozen=True)
class Listing:
    """An ordering that pages are taken from. order: rows, best first; the first `own` are the rung's, the rest filled up.

    allowed: (n_items,) bool, what the rules and the user's own wishes let through.

    degraded: why it has less than it should have.
    """

    view: View
    ask: Ask
    state: UserState
    now: datetime
    head: Head
    order: np.ndarray
    own: int
    places: Places
    allowed: np.ndarray
    degraded: tuple[str, ...] = ()

    @property
    def rung(self) -> str:
        return self.head.rung

    def rows(self, number: int, k: int, taken: frozenset[int] = frozenset()) -> list[int]:
        """Rows of a page, from 1 on. taken: those of the pages before."""
        return self.places.page(self.order, (number - 1) * k, k, taken)

    @cached_property
    def _own(self) -> set[int]:
        return set(self.order[: self.own].tolist())

    def told(self, rows: Sequence[int], exact: bool = False, written: int | None = None) -> list[Recommended]:
        """The rows as recommended items, each with its score and reason. written: see `engine.explain.reasons`."""
        head, recommender = self.head, self.view.recommender
        found: dict[int, Recommended] = {}
        if head.ranked is not None:  # its own are finite; so are pinned ones that it could have shown
            finite = np.isfinite(head.scores[rows]).tolist()
            mine = [row for row, shown in zip(rows, finite, strict=True) if shown]
        else:
            mine = [row for row in rows if row in self._own]
        if head.ranked is not None and mine:
            told = recommender.told(head.ranked, np.array(mine), exact, written)
            recommender.mark(told, mine, self.order)
            if len(mine) == len(rows):
                return told
            found = dict(zip(mine, told, strict=True))
        elif mine:
            ids = recommender.catalogue.item_ids
            for row in mine:
                reason = {"source": head.source, "evidence": head.evidence(row), "parts": {}}
                found[row] = Recommended(ids[row], float(head.scores[row]), reason)
        return [found.get(row) or self._filled(row) for row in rows]

    def _filled(self, row: int) -> Recommended:
        """An item of a lower rung, or a pinned one that this rung does not speak of."""
        country, popularity = self.state.country, self.view.recommender.popularity
        item = self.view.recommender.catalogue.item_ids[row]
        try:
            score = float(self.view.popular_scores(country)[row])
            evidence = {"popular_in": popularity.named(country, row)}
        except Exception:  # popularity is what failed: the item may be shown, that is all
            log.exception("popularity failed, which was to speak for item %s", item)
            return Recommended(item, 0.0, {"source": "curated", "evidence": {"curated": False}, "parts": {}})
        return Recommended(item, score, {"source": "popularity", "evidence": evidence, "parts": {}})


def moment(recommender: Recommender, state: UserState) -> datetime:
    """The time of an answer by the data's own clock: the model's cut, or the user's newest event if later.

    Ages decide on weights, and a shop whose data ends last week must not look as if nobody bought any more. What is sent
    today to a shop whose data ends years ago happens at the end of its data, at no age: else one click would make all
    that its user ever did look forgotten.
    """
    cut = recommender.recipe.cut
    last = cut.timestamp() + REPLAY_SECONDS
    newest = max(state.event_times, default=0)
    if newest > last:
        newest = max((when for when in state.event_times if when <= last), default=0)
    return max(cut, datetime.fromtimestamp(newest, UTC))


def speaks(recommender: Recommender, state: UserState) -> bool:
    """Whether the history has an event that the model gives weight, of an item that it knows."""
    index, weights = recommender.catalogue.index, recommender.recipe.event_weights
    return any(
        item in index and weights.get(kind)
        for item, kind in zip(state.item_ids, state.event_types, strict=True)
    )


def climb(
    view: View,
    ask: Ask,
    state: UserState,
    book: RuleBook = RuleBook(),
    together: Together | None = None,
    known: bool = True,
    depth: int = 500,
    hurried: bool = False,
) -> Listing:
    """The ordering that answers a question. state: history and session of who asks; known: whether the history is the user's.

    hurried: there is no time for the upper rungs. Raises NotThere for an item or category that the release does not know.
    """
    recommender = view.recommender
    now = moment(recommender, state)
    rules = book.rules(ask)
    if ask.category is not None and ask.category not in view.assortment.rows.get("categories", {}):
        raise NotThere(f"no item of the released model is in category {ask.category!r}; it may be misspelt")
    allowed = view.assortment.allowed(rules)
    already = had(state, rules, epoch(now))
    for rows in (view.assortment.rows_of(tuple(already)), hidden(recommender, state, now)):
        if rows:
            allowed[rows] = False
    degraded: list[str] = ["deadline"] if hurried else []
    head, order = _first(
        view, ask, state, now, allowed, rules, together, known, depth, hurried, degraded, book
    )
    own = len(order)
    order = _filled_up(view, order, allowed, state.country, depth, degraded)
    places = Places.of(view.assortment, rules, allowed)
    return Listing(view, ask, state, now, head, order, own, places, allowed, tuple(degraded))


def hidden(recommender: Recommender, state: UserState, now: datetime) -> list[int]:
    """Rows that this user asked not to see again. Where the engine fails on the history, all that they ever hid."""
    never = recommender.recipe.never_again
    if not {*never}.intersection(state.event_types):
        return []
    try:
        return recommender.events([state], now).hidden[1].tolist()
    except Exception:
        log.exception("the engine failed on a history of %d events", len(state.item_ids))
        index = recommender.catalogue.index
        hid = (item for item, kind in zip(state.item_ids, state.event_types, strict=True) if kind in never)
        return [index[item] for item in hid if item in index]


def _first(
    view: View,
    ask: Ask,
    state: UserState,
    now: datetime,
    allowed: np.ndarray,
    rules: Sequence[Rules],
    together: Together | None,
    known: bool,
    depth: int,
    hurried: bool,
    degraded: list[str],
    book: RuleBook,
) -> tuple[Head, np.ndarray]:
    """The first rung that has something to show, and its order."""
    last = None
    for name, rung in _rungs(view, ask, state, now, allowed, together, known, hurried, book):
        try:
            last = rung()
            if last is None:
                continue
            order = _ordered(
                view.recommender, last, view.assortment.boosted(last.scores, rules), allowed, depth
            )
        except NotThere:
            raise
        except Exception:  # a shopper gets an answer whatever one rung does; the log gets the traceback
            log.exception("rung %s failed on a history of %d events", name, len(state.item_ids))
            degraded.append("engine_failed" if name in ("personalised", "session") else f"{name}_failed")
            continue
        if len(order):
            return last, order
    return last or Head("curated", np.full(len(view), -np.inf)), np.empty(0, np.int64)


def _rungs(
    view: View,
    ask: Ask,
    state: UserState,
    now: datetime,
    allowed: np.ndarray,
    together: Together | None,
    known: bool,
    hurried: bool,
    book: RuleBook,
) -> Iterator[tuple[str, Callable[[], Head | None]]]:
    recommender, country = view.recommender, state.country
    if hurried:
        pass
    elif ask.kind == "trending":
        yield "trending", lambda: trending(view, country)
    elif ask.kind in ("similar", "together") or ask.item_id or ask.basket:
        yield "related", lambda: related(view, ask, together or Together())
    if ask.kind == "recommendations" and not hurried and speaks(recommender, state):
        name = "personalised" if known else "session"

        def own() -> Head:
            ranked = view.ranked(state, now, allowed)
            return Head(name, ranked.scores, ranked=ranked)

        yield name, own
    if view.knows_country(country):
        yield "segment", lambda: popular(view, country, "segment")
    yield "popular", lambda: popular(view, None, "popular")
    yield "curated", lambda: curated(view, book)


def _ordered(
    recommender: Recommender, head: Head, scores: np.ndarray, allowed: np.ndarray, depth: int
) -> np.ndarray:
    if head.ranked is None:
        return ordered(scores, allowed, depth)
    if not recommender.recipe.final.reorders:
        stage, order = recommender.last_stage, ordered(scores, allowed, depth)
        return stage.discover(order, np.where(allowed, scores, -np.inf)) if stage.slots else order
    first = recommender.top(np.where(allowed, scores, -np.inf)[None], min(REORDERED, depth))[0]
    first = first[first >= 0]
    rest = ordered(scores, allowed, depth)
    return np.concatenate([first, rest[~np.isin(rest, first)]])[:depth]


def _filled_up(
    view: View, order: np.ndarray, allowed: np.ndarray, country: str | None, depth: int, degraded: list[str]
) -> np.ndarray:
    """With what else is allowed, by popularity in the country, up to `depth` rows."""
    if len(order) >= depth or len(order) == np.count_nonzero(allowed):
        return order
    left = allowed.copy()
    left[order] = False
    try:
        more = view.popular_order(country)
    except Exception:  # popularity is what failed: any order will do
        if "popular_failed" not in degraded:
            log.exception("popularity failed, which was to fill a list up")
            degraded.append("popular_failed")
        more = np.arange(len(allowed))
    more = more[left[more]]
    return np.concatenate([order, more[: depth - len(order)]])
