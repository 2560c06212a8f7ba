"""A search from a question to what goes out: who asks, within the deadline, counted and logged.

Of a query's text the server logs nothing. It is kept with the answer in the exposure log (column `query` of landing/exposures), as
what was shown for it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from aisle.errors import Overloaded, ServiceFailed
from aisle.settings import Settings
from engine.recommender import Recommender
from engine.state import UserState
from serving.asking import Ask
from serving.exposures import Exposure
from serving.features import Unavailable
from serving.figures import BUCKETS
from serving.live import Loaded
from serving.search_answers import Found, Matched, as_json, search
from serving.search_asking import Searched
from serving.search_pages import Kept, Turning
from serving.search_view import SearchView, SearchViews
from serving.shedding import parked
from serving.telemetry import stage

log = logging.getLogger("aisle.search")
LEFT_FOR_WORK = 0.5  # of the deadline, whatever the features take
HURRIED_SECONDS = 0.25  # beyond the deadline, for an answer by the text alone


@dataclass(frozen=True)
class Logged:
    """A search in the exposure log: the answer's row, and the text."""

    exposure: Exposure
    query: str

    def row(self) -> dict[str, Any]:
        return {**self.exposure.row(), "query": self.query}


@dataclass(frozen=True)
class Answer:
    """What goes out."""

    head: dict[str, Any]
    found: Found

    @property
    def body(self) -> bytes:
        return as_json(self.head, self.found)

    @property
    def plain(self) -> dict[str, Any]:
        return {**self.head, **self.found.body}


class Searching:
    """What the routes ask. service: settings, live, histories, sessions, rulebook, answers (its views), overlay, exposures, figures."""

    def __init__(self, settings: Settings, service: Any):
        self.settings, self.service = settings, service
        self.views = SearchViews(settings.search, service.overlay)
        self.turning = Turning(settings.answers.kept_pages, settings.answers.page_seconds)
        self.figures = SearchFigures(service.figures.registry)
        self._workers = ThreadPoolExecutor(settings.answers.workers, thread_name_prefix="search")
        self._hurried = ThreadPoolExecutor(1, thread_name_prefix="search-hurried")

    def take(self, kind: str, rows: Sequence[Any]) -> None:
        """The journal's side: called after the overlay's own."""
        self.views.take(kind, rows)

    def prepare(self, recommender: Recommender, first: bool) -> None:
        """Before a release is served. The first one does not wait for its index: until that is made, searches do."""
        if first:
            threading.Thread(target=self._prepare, args=(recommender,), name="search", daemon=True).start()
        else:
            self._prepare(recommender)

    def _prepare(self, recommender: Recommender) -> None:
        try:
            self.views.prepare(recommender)
        except Exception:  # lists are answered all the same; the first search tries again
            log.exception("the search index could not be made")

    def stop(self) -> None:
        for each in (self._workers, self._hurried):
            each.shutdown(wait=False, cancel_futures=True)

    async def ask(self, searched: Searched, answer_id: str) -> Answer:
        """Logged and counted. Raises ServiceFailed before the first release, NotThere for a category or a page that is not there,
        AnotherQuestion for a page of another question, Overloaded where not even a hurried answer came in time.
        """
        started = time.perf_counter()
        loaded = self.service.live.serving_for(searched.ask.user_id or searched.ask.session_id)
        standing = self.service.sessions.standing(searched.ask.user_id, searched.ask.session_id)
        kept = self.turning.of(searched, standing) if searched.ask.page > 1 else None
        state, known, degraded = await self._who(searched.ask)
        run = partial(self._run, loaded, searched, state, known, degraded, kept, Matched())
        found = await self._in_time(run, started)
        if searched.ask.page == 1:
            first = [each["item_id"] for each in found.body["items"]]
            self.turning.keep(answer_id, searched, found.order, first, standing)
        return self._out(loaded, searched, answer_id, found, started)

    def now(self, searched: Searched) -> Answer:
        """At once, in the caller's thread, neither logged nor kept: for our own page."""
        loaded = self.service.live.serving_for(searched.ask.user_id or searched.ask.session_id)
        state, known, degraded = self.service.answers.state_now(searched.ask)
        found = self._run(loaded, searched, state, known, degraded, None, Matched())
        return Answer(self._head(loaded, found, ""), found)

    async def _who(self, ask: Ask) -> tuple[UserState, bool, tuple[str, ...]]:
        """History and session of who asks; whether the history is the user's own; why it is less than it should be."""
        held, degraded = UserState(ask.user_id or "", ask.country), ()
        if ask.user_id is not None:
            limit = self.settings.answers.deadline_seconds * (1 - LEFT_FOR_WORK)
            seconds = min(self.settings.serving.feature_deadline_seconds, limit)
            try:
                held = self.service.histories.at_once(ask.user_id)
                if held is None:
                    with stage("features"), parked():
                        asked = asyncio.wrap_future(self.service.histories.ask(ask.user_id))
                        held = await asyncio.wait_for(asked, seconds)
            except Unavailable as why:
                held, degraded = UserState(ask.user_id, ask.country), (why.reason,)
            except TimeoutError:
                held, degraded = UserState(ask.user_id, ask.country), ("features_slow",)
        known = len(held.item_ids) > 0
        if ask.user_id is not None or ask.session_id is not None:
            held = self.service.sessions.merged(held, ask.user_id, ask.session_id)
        if held.country is None and ask.country:  # a user's own counts, and one that was cleared is none
            held = replace(held, country=ask.country)
        return held, known, degraded

    def _run(
        self,
        loaded: Loaded,
        searched: Searched,
        state: UserState,
        known: bool,
        degraded: tuple[str, ...],
        kept: Kept | None,
        matched: Matched,
        hurried: bool = False,
    ) -> Found:
        view = self._view(loaded, hurried)
        book, limits = self.service.rulebook.current().book, self.settings.answers
        settings, depth, last = self.settings.search, limits.page_items, limits.max_pages
        return search(
            view, searched, state, book, settings, depth, known, degraded, kept, matched, hurried, last
        )

    def _view(self, loaded: Loaded, hurried: bool) -> SearchView:
        """hurried: what there is, without waiting for what changed a moment ago. Raises ServiceFailed where there is nothing yet."""
        if not hurried:
            return self.views.of(self.service.answers.views.of(loaded))
        found = self.views.lately(loaded.pointer.version)
        if found is None:
            raise ServiceFailed("the search index of the release is being made: ask again in a few seconds")
        return found

    async def _in_time(self, run: Callable[..., Found], started: float) -> Found:
        """What `run` finds within the deadline, else what it finds by the text alone: in a thread of its own, since the event loop is
        everybody's, and without matching the text again where that was done. Raises Overloaded.
        """
        loop, left = asyncio.get_running_loop(), self.settings.answers.deadline_seconds
        left = max(left - (time.perf_counter() - started), 0.0)
        for workers, seconds, hurried in (
            (self._workers, left, False),
            (self._hurried, HURRIED_SECONDS, True),
        ):
            here = contextvars.copy_context()  # for the stages of this request
            with suppress(TimeoutError):
                working = loop.run_in_executor(workers, partial(here.run, run, hurried=hurried))
                return await asyncio.wait_for(working, seconds)
        raise Overloaded("a search took longer than it may; ask again", retry_after=1)

    def _head(self, loaded: Loaded, found: Found, answer_id: str) -> dict[str, Any]:
        version = self.service.rulebook.current().version
        return {
            "request_id": answer_id,
            "model_version": found.version,
            "variant": loaded.variant,
            "rules_version": version,
        }

    def _out(
        self, loaded: Loaded, searched: Searched, answer_id: str, found: Found, started: float
    ) -> Answer:
        ask = searched.ask
        answer_id = str(ask.request_id) if ask.page > 1 else answer_id
        for reason in found.body["degraded"]:
            self.service.figures.degraded.labels(reason).inc()
        self.figures.told(found.outcome, time.perf_counter() - started, self.views)
        who = (ask.user_id, ask.session_id)
        shown: Any = (answer_id, time.time(), *who, found.version, loaded.variant, found.rung)
        exposure = Exposure(*shown, ask.placement, "search", found.shown)
        self.service.exposures.log(Logged(exposure, found.body["query"].strip()))
        return Answer(self._head(loaded, found, answer_id), found)


class SearchFigures:
    """Of /metrics."""

    def __init__(self, registry: CollectorRegistry):
        self.searches = Counter(
            "aisle_searches",
            "Searches: hits, partial (no item has all words), none",
            ["outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "aisle_search_seconds", "Time to an answer", buckets=BUCKETS, registry=registry
        )
        self.items = Gauge(
            "aisle_search_items", "Items in the search index", registry=registry, multiprocess_mode="livemax"
        )

    def told(self, outcome: str, seconds: float, views: SearchViews) -> None:
        self.searches.labels(outcome).inc()
        self.seconds.observe(seconds)
        newest = views.newest()
        if newest:
            self.items.set(len(newest))
