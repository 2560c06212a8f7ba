"""The Prometheus figures of the API. With several workers any of them answers for all (PROMETHEUS_MULTIPROC_DIR)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving import unsent

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # set before the workers start, because prometheus_client looks when it is imported
SHARED = "_AISLE_FIGURES"  # the same folder, where we have set it: importing Feast sets FOLDER too


@dataclass(frozen=True)
class Served:
    """What is served, when it is asked. Moments in seconds since 1970; None where there is none.

    released: when the version was released. indexed: when its vectors and index were written. features: when the online
    store was last filled.
    """

    version: str | None = None
    released: float | None = None
    indexed: float | None = None
    features: float | None = None


class Figures:
    """The figures of one app, in a registry of its own; `text` is what /metrics answers."""

    def __init__(self, served: Callable[[], Served] = Served) -> None:
        self.registry = CollectorRegistry()
        self._served = _ServedCollector(served)
        if SHARED not in os.environ:
            ProcessCollector(registry=self.registry)
            self.registry.register(self._served)
        self.answer = Histogram(
            "aisle_answer_seconds",
            "Time to an answer, by rung",
            ["rung"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.stage = Histogram(
            "aisle_stage_seconds",
            "Time in a stage of a request",
            ["stage"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "aisle_request_seconds",
            "Time of a request, waiting included",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.requests = Counter(
            "aisle_requests", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self.shed = Counter(
            "aisle_shed_requests", "Requests turned away with 503, by why", ["why"], registry=self.registry
        )
        self.at_work = Gauge(
            "aisle_requests_at_work", "Requests at work", multiprocess_mode="livesum", registry=self.registry
        )
        self.waiting = Gauge(
            "aisle_requests_waiting",
            "Requests that wait for a place",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.empty = Counter("aisle_empty_answers", "Answers without an item", registry=self.registry)
        self.degraded = Counter(
            "aisle_degraded_answers",
            "Answers with less than they should have, and why",
            ["reason"],
            registry=self.registry,
        )
        self.cache = Counter(
            "aisle_cache_lookups", "Looks into a cache", ["cache", "outcome"], registry=self.registry
        )
        self.features = Histogram(
            "aisle_feature_read_seconds",
            "One batched read of the online store",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.swaps = Counter(
            "aisle_release_swaps", "Looks that found a new release", ["outcome"], registry=self.registry
        )
        self.registry.register(unsent.GIVEN_UP)

        # Finding what belongs to some labels costs more than counting: each is found once.
        self._requests, self._request_seconds, self._stage, self._answer, self._cache = (
            cache(each.labels)
            for each in (self.requests, self.request_seconds, self.stage, self.answer, self.cache)
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts a request. route: its template; such labels are few, and so is what is kept for them."""
        self._requests(route, str(status)).inc()
        self._request_seconds(route).observe(seconds)

    def staged(self, stage: str, seconds: float) -> None:
        """Counts the time of a stage of a request."""
        self._stage(stage).observe(seconds)

    def listed(self, rung: str, seconds: float) -> None:
        """Counts an answer by its rung."""
        self._answer(rung).observe(seconds)

    def cached(self, cache: str, hit: bool) -> None:
        """Counts a look into a cache."""
        self._cache(cache, "hit" if hit else "miss").inc()

    def text(self) -> bytes:
        """In Prometheus' own format, of all workers where there are several."""
        folder = os.environ.get(SHARED)
        if folder is None:
            return generate_latest(self.registry)
        bury(Path(folder))
        every = CollectorRegistry()
        MultiProcessCollector(every, path=folder)
        every.register(self._served)
        return generate_latest(every)


def bury(folder: Path) -> None:
    """Forgets the gauges of workers that are gone; their counts stay, since those requests were answered."""
    for file in folder.glob("gauge_live*.db"):
        found = re.search(r"_(\d+)\.db$", file.name)
        if found and not psutil.pid_exists(int(found[1])):
            mark_process_dead(int(found[1]), path=str(folder))


class _ServedCollector:
    """Version and ages as they are at the moment of the question, from the worker that is asked: all follow one pointer."""

    def __init__(self, served: Callable[[], Served]):
        self.served = served

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found, now = self.served(), time.time()
        info = GaugeMetricFamily("aisle_model_info", "1 for the version that is served", labels=["version"])
        if found.version is not None:
            info.add_metric([found.version], 1)
        yield info
        for name, since, what in (
            ("model", found.released, "the served version was released"),
            ("index", found.indexed, "its vectors and index were written"),
            ("features", found.features, "the online store was last filled"),
        ):
            if since is not None:
                yield GaugeMetricFamily(
                    f"aisle_{name}_age_seconds", f"Since {what}", value=max(0.0, now - since)
                )
