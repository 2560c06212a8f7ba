"""Answers: a question, what is known of who asks, the ladder, a page of it, the log; within a deadline, and from memory where it can be.

`Answers.ask` is for the event loop: it waits for features and for the work beside it, and when either takes too long the
answer comes from the rung below. `serving.alone` is the same without any of that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from aisle.errors import NotThere
from aisle.settings import Settings
from engine.recommender import Recommender
from engine.state import UserState
from serving.asking import Ask
from serving.cached import Asked, Lru, etag_of, key_of, matches
from serving.exposures import Exposure
from serving.features import Unavailable
from serving.live import Loaded
from serving.making import Answered, Made, work
from serving.rulebook import EMPTY, Version
from serving.shedding import parked
from serving.telemetry import stage
from serving.turning import Turned
from serving.view import View, Views
from serving.workers import Workers

LEFT_FOR_WORK = 0.5  # of the deadline, whatever the features take


class Answers:
    """What the routes ask. service: settings, live, histories, figures, rulebook, together, exposures, overlay, sessions."""

    def __init__(self, settings: Settings, service: Any):
        limits = settings.answers
        self.settings, self.limits, self.service = settings, limits, service
        self.views = Views(service)
        self.lists: Lru[Made] = Lru(limits.cached, limits.cache_seconds)
        self.shared = getattr(service, "shared", None)  # lists of all workers, where serving.cache is Redis
        self.turned = Turned(limits.kept_pages, limits.page_seconds)
        self.asked = Asked()
        self._workers = Workers(limits.workers, "answers", limits.loop_seconds)

    def warm(self, recommender: Recommender) -> None:
        """Works out a list before a release is served: what is made at the first use is made now."""
        view = self.views.prepare(recommender)
        bought = [each.item_id for each in recommender.popular(None, 3)]
        kind = max(recommender.recipe.event_weights.items(), key=lambda each: each[1])[0]
        times = [int(recommender.recipe.cut.timestamp()) - 86_400] * len(bought)
        work(view, Ask(), UserState("warm up", None, bought, [kind] * len(bought), times), EMPTY)
        work(view, Ask("similar", item_id=bought[0]), UserState(""), EMPTY)

    def stop(self) -> None:
        self._workers.stop()

    # -- from the event loop

    async def ask(
        self, ask: Ask, request_id: str, if_none_match: str | None = None, tagged: bool = False
    ) -> Answered | str:
        """The answer, logged and counted; or its entity tag, where the caller says that they have it. tagged: whether it has one.

        Raises ServiceFailed before the first release, NotThere for what the release or the kept pages do not know, AnotherQuestion
        for a further page of another question.
        """
        started = time.perf_counter()
        loaded = self.service.live.serving_for(ask.user_id or ask.session_id)
        standing = self._standing(ask)
        if ask.page > 1:
            state, _, _ = await self._state(ask)
            view, rules = await self.view(loaded), self.service.rulebook.current()
            turn = partial(self.turned.page, view, rules, self.service.together, ask, state, standing)
            turned = await self._in_time(turn, started, here=False)
            return self._out(loaded, ask, str(ask.request_id), turned, started, None)
        state, known, degraded = await self._state(ask)
        view, rules = await self.view(loaded), self.service.rulebook.current()
        key = self._key(ask, state, view, rules, degraded)
        etag = self._etag(key, view, rules) if tagged and not degraded and ask.request_id is None else None
        if etag and matches(if_none_match, etag):
            return etag
        found = self.lists.get(key)
        self.service.figures.cached("lists", found is not None)
        shared = self.shared.key(key, view, rules, ask) if self.shared and found is None else None
        if shared is not None:
            found = await self.shared.get(shared, state)
            if found is not None:
                self.lists.put(key, found)
        if found is None:
            depth, together = self.limits.page_items, self.service.together
            run = partial(work, view, ask, state, rules, together, known, depth, degraded)
            sort = ask.kind, bool(ask.basket), len(state.item_ids) > 0
            found = await self._in_time(run, started, sort, here=not ask.exact)
            if not found.pool.degraded:
                self.lists.put(key, found)
                if shared is not None:
                    self.shared.put(shared, found)
        if ask.user_id is None and ask.session_id is None:
            self.asked.count(replace(ask, request_id=None))
        self.turned.keep(request_id, ask, found, standing)
        return self._out(loaded, ask, request_id, found, started, etag if not found.pool.degraded else None)

    def _standing(self, ask: Ask) -> tuple[int, bool]:
        sessions = getattr(self.service, "sessions", None)
        return sessions.standing(ask.user_id, ask.session_id) if sessions else (0, True)

    async def _state(self, ask: Ask) -> tuple[UserState, bool, tuple[str, ...]]:
        """What is known of who asks; whether it is the user's own history; why it is less than it should be."""
        if ask.user_id is None:
            return *self._merged(UserState("", ask.country), ask), ()
        try:
            held = self.service.histories.at_once(ask.user_id)
            if held is None:
                seconds = min(
                    self.settings.serving.feature_deadline_seconds,
                    self.limits.deadline_seconds * (1 - LEFT_FOR_WORK),
                )
                with stage("features"), parked():  # who waits for the store is not at work
                    held = await asyncio.wait_for(
                        asyncio.wrap_future(self.service.histories.ask(ask.user_id)), seconds
                    )
        except Unavailable as why:
            return *self._merged(UserState(ask.user_id, ask.country), ask), (why.reason,)
        except TimeoutError:
            return *self._merged(UserState(ask.user_id, ask.country), ask), ("features_slow",)
        return *self._merged(held, ask), ()

    def _merged(self, held: UserState, ask: Ask) -> tuple[UserState, bool]:
        """With the events that came since. The first says whether the history alone has something to say."""
        state, sessions = held, getattr(self.service, "sessions", None)
        if sessions is not None and (ask.user_id is not None or ask.session_id is not None):
            state = sessions.merged(held, ask.user_id, ask.session_id)
        if state.country is None and ask.country:  # a user's own counts, and one that was cleared is none
            state = replace(state, country=ask.country)
        return state, len(held.item_ids) > 0

    def _key(
        self, ask: Ask, state: UserState, view: View, rules: Version, degraded: tuple[str, ...]
    ) -> tuple:
        """`key_of`, and for what is bought together the orders that it was counted in, which change between releases."""
        orders = self.service.together.version if ask.kind == "together" or ask.basket else None
        return (*key_of(ask, state, view.key, rules.version, degraded), orders)

    def _etag(self, key: tuple, view: View, rules: Version) -> str | None:
        """Of what every process knows alike: versions and texts on disk, not how often something changed since one of them
        started. None while the view is older than what was told.
        """
        told = getattr(self.service, "told", None)
        if told is None:
            return etag_of(key)
        named = told.of(view)
        return etag_of((named, rules.digest, key[0][:2], *key[2:])) if named else None

    async def view(self, loaded: Loaded) -> View:
        """Made in a thread, where it need be made: no other request waits for it."""
        found = self.views.ready(loaded)
        if found is not None:
            return found
        return await asyncio.get_running_loop().run_in_executor(None, self.views.of, loaded)

    async def _in_time(
        self, run: Callable[..., Made], started: float, sort: Hashable = "", here: bool = True
    ) -> Made:
        """What `run` makes within the deadline, else what it makes when it is hurried. sort, here: see `Workers.within`."""
        left = self.limits.deadline_seconds - (time.perf_counter() - started)
        with suppress(TimeoutError):
            return await self._workers.within(left, run, sort, here)
        await asyncio.sleep(0)  # many may be late together, and others wait for the loop
        return run(hurried=True)

    def _out(
        self, loaded: Loaded, ask: Ask, request_id: str, found: Made, started: float, etag: str | None
    ) -> Answered:
        """Counts and logs."""
        figures, version = self.service.figures, loaded.pointer.version
        for reason in found.pool.degraded:
            figures.degraded.labels(reason).inc()
        if not found.shown and ask.page == 1:
            figures.empty.inc()
        figures.listed(found.rung, time.perf_counter() - started)
        variant = loaded.variant
        exposure = Exposure(
            request_id,
            time.time(),
            ask.user_id,
            ask.session_id,
            version,
            variant,
            found.rung,
            ask.placement,
            ask.kind,
            found.shown,
        )
        self.service.exposures.log(exposure)
        rules, last = self.service.rulebook.current().version, self.limits.max_pages
        return Answered(request_id, version, variant, rules, ask.page, last, found, etag)

    # -- elsewhere

    def state_now(self, ask: Ask) -> tuple[UserState, bool, tuple[str, ...]]:
        """As `_state`, in the caller's thread."""
        state = UserState(ask.user_id or "", ask.country)
        degraded: tuple[str, ...] = ()
        if ask.user_id is not None:
            try:
                state = self.service.histories.of(ask.user_id)
            except Unavailable as why:
                degraded = (why.reason,)
        return *self._merged(state, ask), degraded

    def now(self, ask: Ask, loaded: Loaded | None = None) -> Answered:
        """The answer at once, in the caller's thread, neither logged nor kept: for our pages and what is prepared."""
        loaded = loaded or self.service.live.serving_for(ask.user_id or ask.session_id)
        state, known, degraded = self.state_now(ask)
        view, rules = self.views.of(loaded), self.service.rulebook.current()
        key = self._key(ask, state, view, rules, degraded)  # before the work: a list may be younger
        found = work(view, ask, state, rules, self.service.together, known, self.limits.page_items, degraded)
        if not found.pool.degraded:
            self.lists.put(key, found)
            if self.shared:
                self.shared.put(self.shared.key(key, view, rules, ask), found)
        last = self.limits.max_pages
        return Answered("", loaded.pointer.version, loaded.variant, rules.version, 1, last, found)


def known(recommender: Recommender, item_id: str) -> dict:
    """title, price (None where unknown) and categories of an item. Raises NotThere."""
    try:
        found = recommender.item(item_id)
    except KeyError:
        raise NotThere(
            f"no item {item_id!r} in the released model; it may be new, deleted or misspelt"
        ) from None
    price, categories = found.get("price"), found.get("categories")
    return {
        "title": str(found.get("title") or item_id),
        "price": float(price) if price is not None and np.isfinite(price) else None,
        "categories": [str(each) for each in categories if each] if categories is not None else [],
    }
