"""Lists that are made before they are asked for: after a release was swapped in, after the rules changed, and every
`answers.prepared_seconds` while what is told of items changes.

The questions of strangers that came most, the popular pages of every country, and the busiest users' own lists, in this
order. It takes a fifth of a core at most, and begins again when something newer comes.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from aisle import clock, features, lake
from aisle.settings import Settings
from serving.answers import Answers
from serving.asking import Ask

log = logging.getLogger("aisle.prepared")
ASKED = 200  # questions of strangers that are made again
SHARE = 0.2  # of the time that is worked, so that requests find the interpreter free
LOOK_SECONDS = 1.0  # between looks at the versions of rules and items


class Prepared:
    """`refresh` when there is another release."""

    def __init__(self, settings: Settings, service: Any, answers: Answers, registry: CollectorRegistry):
        self.settings, self.service, self.answers = settings, service, answers
        self.made = Counter(
            "aisle_prepared_lists", "Lists that were made before they were asked for", registry=registry
        )
        self._stop, self._wanted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="prepared", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wanted.set()
        self._thread.join(timeout=10)

    def refresh(self) -> None:
        self._wanted.set()

    def _follow(self) -> None:
        rules, items, began = 0, 0, -math.inf
        while not self._stop.is_set():
            self._wanted.wait(LOOK_SECONDS)
            found = self.service.rulebook.current().version, self.service.overlay.version
            rested = time.monotonic() - began >= self.settings.answers.prepared_seconds
            due = self._wanted.is_set() or found[0] != rules or (found[1] != items and rested)
            if not due or self.service.live.current is None:
                continue
            self._wanted.clear()
            (rules, items), began = found, time.monotonic()
            try:
                self._prepare()
            except Exception:  # what is not prepared is made when it is asked for
                log.exception("lists could not be prepared")

    def _prepare(self) -> None:
        for ask in self.questions():
            started = time.monotonic()
            self.answers.now(ask)
            self.made.inc()
            took = time.monotonic() - started
            if self._stop.wait(took * (1 - SHARE) / SHARE) or self._wanted.is_set():
                return

    def questions(self) -> Iterator[Ask]:
        k, model = self.settings.serving.k, self.service.live.serving().recommender
        yield from self.answers.asked.most_common(ASKED)
        for country in (None, *model.countries):
            yield Ask(k=k, country=country)
            yield Ask("popular", k=k, country=country)
        for user in busiest(self.settings.answers.prepared_users):
            yield Ask(k=k, user_id=user)


def busiest(count: int) -> list[str]:
    """Users with the most events at the newest built point, the busiest first."""
    built = features.built()
    if built is None or not count:
        return []
    at: list[tuple[str, str, object]] = [("as_of", "=", clock.parse(built.as_of))]
    found = lake.read("gold.user_stats", columns=["user_id", "n_events"], filters=at)
    return found.sort_by([("n_events", "descending"), ("user_id", "ascending")])["user_id"].to_pylist()[
        :count
    ]
