"""From an ordering to what goes out: the items of a page with title, price, place and reason, as plain values and as JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import orjson

from engine.discovery import MARK
from engine.places import Places
from engine.recommender import Recommended
from engine.state import UserState
from serving import reasons
from serving.asking import Ask
from serving.cached import Named, Pool
from serving.exposures import Shown
from serving.ladder import climb
from serving.rulebook import Version
from serving.rungs import Head
from serving.telemetry import stage
from serving.view import View

log = logging.getLogger("aisle.answers")


@dataclass(frozen=True)
class Made:
    """A list that was worked out. json: the items as they are shown; shown: for the log. Thousands are kept: of the items nothing
    else is held."""

    pool: Pool
    json: bytes
    shown: tuple[Shown, ...]
    more: bool

    @property
    def items(self) -> list[dict[str, Any]]:
        """As they are shown, read anew each time."""
        found: list[dict[str, Any]] = orjson.loads(self.json)
        return found

    @property
    def rung(self) -> str:
        return self.pool.rung


@dataclass(frozen=True)
class Answered:
    """What goes out. last: the highest page that may be asked for. etag: None where the answer must not be held to be the right
    one next time."""

    request_id: str
    version: str
    variant: str
    rules: int
    page: int
    last: int
    made: Made
    etag: str | None = None

    @property
    def head(self) -> dict[str, Any]:
        """All but the items."""
        return {
            "request_id": self.request_id,
            "model_version": self.version,
            "variant": self.variant,
            "rules_version": self.rules,
            "rung": self.made.rung,
            "degraded": list(self.made.pool.degraded),
            "page": self.page,
            "next_page": self.page + 1 if self.made.more and self.page < self.last else None,
        }

    @property
    def body(self) -> bytes:
        """JSON of `schemas.Recommendations`."""
        return orjson.dumps(self.head)[:-1] + b',"items":' + self.made.json + b"}"


def work(
    view: View,
    ask: Ask,
    state: UserState,
    rules: Version,
    together: Any = None,
    known: bool = True,
    depth: int = 500,
    degraded: Sequence[str] = (),
    hurried: bool = False,
) -> Made:
    """The first page of an answer. Raises NotThere, see `climb`."""
    with stage("rank"):
        listing = climb(view, ask, state, rules.book, together, known, depth, hurried)
    with stage("pick"):
        rows = listing.rows(1, ask.k)
    lost: list[str] = []
    try:
        with stage("reasons"):
            told = listing.told(rows, ask.exact, reasons.DIGITS)
    except Exception:  # the list stands, without its reasons
        log.exception("the reasons of rung %s failed", listing.rung)
        told = replace(listing, own=0, head=Head(listing.rung, np.empty(0))).told(rows)
        lost.append("reasons_failed")
    pool = Pool(
        listing.rung,
        Named(view.recommender.catalogue.item_ids, listing.order),
        listing.head.scores[listing.order],
        listing.own,
        state,
        listing.now,
        (*degraded, *listing.degraded, *lost),
    )
    left = len(listing.order) > len(rows) or any(place >= ask.k for place in listing.places.pins)
    return made(view, pool, rows, told, listing.places, 0, left)


def made(
    view: View,
    pool: Pool,
    rows: Sequence[int],
    told: Sequence[Recommended],
    places: Places,
    start: int,
    more: bool,
) -> Made:
    """A page as it goes out. start: places before it."""
    pinned = set(places.pins.values())
    items, sources, titles, prices = [], [], view.titles, view.prices
    scores = np.array([each.score for each in told])
    rounded = np.where(np.isfinite(scores), scores, 0.0).round(6).tolist()
    for place, row, (item_id, _, reason), score in zip(count(start + 1), rows, told, rounded, strict=False):
        item: dict[str, Any] = {
            "item_id": item_id,
            "title": titles[row],
            "price": prices[row],
            "position": place,
            "score": score,
            "reason": reasons.written(reason),
        }
        if row in pinned:
            item["pinned"] = True
        items.append(item)
        sources.append(MARK if MARK in reason["evidence"] and row not in pinned else reason["source"])
    shown = tuple(map(Shown, [each.item_id for each in told], count(start + 1), sources, rounded))
    return Made(pool, orjson.dumps(items, option=orjson.OPT_SERIALIZE_NUMPY), shown, more)
