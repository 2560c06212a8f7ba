"""A search answered: what the text finds, what the rules let through, in which order, what is counted, and one page of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from pydantic_core import to_json

from aisle.errors import NotThere
from aisle.settings import Search
from engine.places import Places, ordered
from engine.rules import Rules, had
from engine.state import UserState, epoch
from serving.exposures import Shown
from serving.ladder import hidden, moment
from serving.rulebook import RuleBook
from serving.search_asking import Searched
from serving.search_blend import Preference, blended, preference
from serving.search_index import Matches
from serving.search_pages import Kept, again, page_of
from serving.search_view import SearchView
from serving.telemetry import stage

log = logging.getLogger("aisle.search")


@dataclass(frozen=True)
class Found:
    """A page that was worked out. version: of the release. body: of the answer, without what the service adds; order: item ids of
    all pages, best first. outcome: hits, partial or none.
    """

    version: str
    body: dict[str, Any]
    shown: tuple[Shown, ...]
    order: list[str]
    outcome: str

    @property
    def rung(self) -> str:
        return self.body["rung"]


def search(
    view: SearchView,
    searched: Searched,
    state: UserState,
    book: RuleBook,
    settings: Search,
    depth: int,
    known: bool = True,
    degraded: Sequence[str] = (),
    kept: Kept | None = None,
    matched: Matched | None = None,
    hurried: bool = False,
    last: int | None = None,
) -> Found:
    """One page. state: history and session of who asks. depth: items that pages are made of. kept: the answer that is turned.
    matched: what an earlier try at the same question found, and a later one may use. last: the highest page that may be asked for.

    hurried: there is no time for what the shopper likes. Raises NotThere for a category that no item has.
    """
    number = searched.ask.page
    told = replace(kept.searched, ask=replace(kept.searched.ask, page=number)) if kept else searched
    lost = [*degraded, *(["deadline"] if hurried else [])]
    now, rules = moment(view.view.recommender, state), book.rules(told.ask)
    with stage("match"):
        fitting = (matched or Matched()).of(view, told)
        allowed = fitting.standing & _let_through(view, told, rules, state, now)
    with stage("rank"):
        liked = preference(view, state, now, known, lost, hurried)
        by_text, by_liking = blended(fitting.fits, liked.fits, settings.preference)
        scores = np.where(allowed, by_text + by_liking, -np.inf).astype(np.float32)
        scores = view.assortment.boosted(scores, rules)
        order = ordered(scores, allowed, depth) if kept is None else again(view, kept.order, allowed)
    with stage("pick"):
        places = Places.of(view.assortment, rules, allowed)
        page, rest = page_of(view, places, order, number, told.ask.k, kept)
        facets = view.columns.facets(allowed, settings.facet_values, settings.price_ranges)
    with stage("reasons"):
        ranking = Ranking(view, fitting, liked, scores, by_text, by_liking, {*places.pins.values()})
        start = (number - 1) * told.ask.k + 1
        items = [ranking.item(row, place, told.ask.exact, lost) for place, row in enumerate(page, start)]
    total, unfiltered = int(np.count_nonzero(allowed)), int(np.count_nonzero(fitting.standing))
    body = {
        "rung": liked.rung,
        "degraded": lost,
        **fitting.told(told.query, total, unfiltered),
        "page": number,
        "next_page": number + 1 if rest and (last is None or number < last) else None,
        "facets": facets,
        "items": items,
    }
    source = "browse" if fitting.matches is None else "search"
    shown = tuple(Shown(each["item_id"], each["position"], source, each["score"]) for each in items)
    ids = kept.order if kept else [view.indexed.texts.ids[row] for row in order.tolist()]
    outcome = "none" if not total else "partial" if body["matching"] == "some" else "hits"
    return Found(view.view.version, body, shown, ids, outcome)


@dataclass(frozen=True)
class Fitting:
    """What the text finds. matches, fits: None without a text. fits: (n_items,) float32, 0 for what is not found.
    standing: (n_items,) bool, found and not deleted. rows: of the index' slots that were found.
    """

    matches: Matches | None
    fits: np.ndarray | None
    standing: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, view: SearchView, searched: Searched) -> Fitting:
        if not searched.query.strip():
            return cls(None, None, ~view.assortment.gone, np.empty(0, np.int64))
        matches = view.indexed.index.search(searched.query.strip(), searched.typing)
        rows = view.indexed.rows[matches.slots]
        fits = np.zeros(len(view), np.float32)
        fits[rows[rows >= 0]] = matches.text[rows >= 0]
        return cls(matches, fits, ~view.assortment.gone & (fits > 0), rows)

    def hits(self, row: int) -> list[dict[str, str]]:
        """By which words an item was found, and where."""
        if self.matches is None or self.fits is None or not self.fits[row]:
            return []
        slot = self.matches.slots[np.flatnonzero(self.rows == row)[0]]
        return [
            {"word": hit.word, "as": hit.matched, "how": hit.how, "in": hit.where}
            for hit in self.matches.hits(int(slot))
        ]

    def told(self, query: str, total: int, unfiltered: int) -> dict[str, Any]:
        """What the answer says of the text."""
        matches = self.matches
        return {
            "query": query,
            "corrected": matches.corrected if matches else None,
            "suggestion": matches.suggestion if matches else None,
            "matching": "browse" if matches is None else matches.matching if unfiltered else "none",
            "words": [each._asdict() for each in matches.words] if matches else [],
            "total": total,
            "total_unfiltered": unfiltered,
            "note": note(matches, total, unfiltered),
        }


class Matched:
    """The text's part of one question, kept for a second try at it. May be read while another thread writes it."""

    def __init__(self) -> None:
        self._found: tuple[SearchView, Fitting] | None = None

    def of(self, view: SearchView, searched: Searched) -> Fitting:
        found = self._found
        if found is None or found[0] is not view:
            found = self._found = (view, Fitting.of(view, searched))
        return found[1]


@dataclass(frozen=True)
class Ranking:
    """All that an item of the answer is told from, by row."""

    view: SearchView
    fitting: Fitting
    liked: Preference
    scores: np.ndarray
    by_text: np.ndarray
    by_liking: np.ndarray
    pinned: set[int]

    def item(self, row: int, place: int, explained: bool, lost: list[str]) -> dict[str, Any]:
        """JSON of `search_asking.SearchItem`. lost: told, where its reason could not be made."""
        texts, fits = self.view.indexed.texts, self.fitting.fits
        text = None if fits is None else {"fit": _short(fits[row]), "share": _short(self.by_text[row])}
        return {
            "item_id": texts.ids[row],
            "title": texts.titles[row],
            "price": self.view.price(row),
            "position": place,
            "score": _short(self.scores[row]),
            "text": text,
            "preference": {
                "place": int(self.liked.places[row]),
                "fit": _short(self.liked.fits[row]),
                "share": _short(self.by_liking[row]),
            },
            "matched": self.fitting.hits(row),
            "pinned": row in self.pinned,
            "reason": self._reason(row, lost) if explained else None,
        }

    def _reason(self, row: int, lost: list[str]) -> dict[str, Any] | None:
        try:
            return self.liked.reason(self.view.view, row)
        except Exception:  # the list stands, without its reasons; the log gets the traceback
            log.exception("the reason of an item that was searched failed")
            if "reasons_failed" not in lost:
                lost.append("reasons_failed")
            return None


def _let_through(
    view: SearchView, searched: Searched, rules: Sequence[Rules], state: UserState, now: datetime
) -> np.ndarray:
    """(n_items,) bool: by rules and filters, and without a text by what its user hid. Who asks by a text finds what they hid."""
    category, assortment = searched.ask.category, view.assortment
    if category is not None and category not in assortment.rows.get("categories", {}):
        raise NotThere(f"no item is in category {category!r}; it may be misspelt")
    allowed = assortment.allowed(rules)
    allowed[assortment.rows_of(tuple(had(state, rules, epoch(now))))] = False
    if not searched.query.strip():
        allowed[hidden(view.view.recommender, state, now)] = False
    return allowed


def note(matches: Matches | None, total: int, unfiltered: int) -> str | None:
    """Why there is nothing, and what to do; None where there is something."""
    if total:
        return None
    if unfiltered:
        return f"The filters leave out all {unfiltered} items that were found: ask with fewer of them."
    if matches is None:
        return "No item may be shown: the shop's rules or the filters leave out all."
    if not matches.words:
        return "The text has no word to search for: ask with letters or digits, or without a text to browse."
    if matches.suggestion:
        return f"Nothing fits; the nearest words of this shop are {matches.suggestion!r}."
    return "Nothing in this shop is like any of these words: ask for something else, or without a text to browse."


def _short(value: Any) -> float:
    return round(float(value), 6)


def as_json(head: dict[str, Any], found: Found) -> bytes:
    """JSON of `search_asking.SearchAnswer`."""
    return to_json({**head, **found.body}, inf_nan_mode="null")
