"""From an ordering to what goes out: the items of a page with title, price, place and reason, as plain values and as JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic_core import to_json

from engine.places import Places
from engine.recommender import Recommended
from engine.state import UserState
from serving import reasons
from serving.asking import Ask
from serving.cached import Pool
from serving.exposures import Shown
from serving.ladder import Head, climb
from serving.rulebook import Version
from serving.telemetry import stage
from serving.view import View

log = logging.getLogger("aisle.answers")


@dataclass(frozen=True)
class Made:
    """A list that was worked out. items: plain, as they are shown; json: the same; shown: for the log."""

    pool: Pool
    items: list[dict[str, Any]]
    json: bytes
    shown: tuple[Shown, ...]
    more: bool

    @property
    def rung(self) -> str:
        return self.pool.rung


@dataclass(frozen=True)
class Answered:
    """What goes out. etag: None where the answer must not be held to be the right one next time."""

    request_id: str
    version: str
    variant: str
    rules: int
    page: int
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
            "next_page": self.page + 1 if self.made.more else None,
        }

    @property
    def body(self) -> bytes:
        """JSON of `schemas.Recommendations`."""
        return to_json(self.head)[:-1] + b',"items":' + self.made.json + b"}"


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
            told = listing.told(rows, ask.exact)
    except Exception:  # the list stands, without its reasons
        log.exception("the reasons of rung %s failed", listing.rung)
        told = replace(listing, own=0, head=Head(listing.rung, np.empty(0))).told(rows)
        lost.append("reasons_failed")
    ids = view.recommender.catalogue.item_ids
    pool = Pool(
        listing.rung,
        [ids[row] for row in listing.order.tolist()],
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
    items = []
    for place, (row, each) in enumerate(zip(rows, told, strict=True), start + 1):
        score = float(each.score) if np.isfinite(each.score) else 0.0
        item: dict[str, Any] = {
            "item_id": each.item_id,
            "title": view.titles[row],
            "price": view.prices[row],
            "position": place,
            "score": round(score, 6),
            "reason": reasons.plain(each.reason),
        }
        if row in pinned:
            item["pinned"] = True
        items.append(item)
    shown = tuple(
        Shown(each["item_id"], each["position"], each["reason"]["source"], each["score"]) for each in items
    )
    return Made(pool, items, to_json(items, inf_nan_mode="null"), shown, more)
