"""The exposure log: every answer with what was shown where, why and by which model, on its way to `ops.recommendations`.

An answer waits for nobody: it is put into a bounded queue, and a thread turns what waits into rows of the journal's kind
`exposures`, which lands as the events do. A row that finds no room is dropped and counted. Served is not seen: impressions
say seen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry, Counter

log = logging.getLogger("aisle.exposures")
KIND = "exposures"
GROUP = 1000  # answers of one offer to the journal
EVERY = 0.2  # seconds between offers


class Shown(NamedTuple):
    """One item as it was shown. source: of its reason, or "discovery" for what stands in a slot that it was not the best for (see
    engine.discovery). propensity: of its being there; 1.0 where nothing was left to chance, as in such a slot."""

    item_id: str
    position: int
    source: str
    score: float
    propensity: float = 1.0


class Exposure(NamedTuple):
    """One answer. at: epoch seconds; kind: what was asked."""

    request_id: str
    at: float
    user_id: str | None
    session_id: str | None
    model_version: str
    variant: str
    rung: str
    placement: str | None
    kind: str
    items: Sequence[Shown]
    experiments: dict[str, str] = {}

    def row(self) -> dict[str, Any]:
        """Texts all, as in every landed row; what there is none of is empty, so that every file has the same columns."""
        return {
            "request_id": self.request_id,
            "served_at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="microseconds"),
            "user_id": self.user_id or "",
            "session_id": self.session_id or "",
            "model_version": self.model_version,
            "variant": self.variant,
            "experiments": orjson.dumps(self.experiments).decode() if self.experiments else "{}",
            "rung": self.rung,
            "placement": self.placement or "",
            "kind": self.kind,
            "items": orjson.dumps(list(map(_told, self.items)), option=orjson.OPT_SERIALIZE_NUMPY).decode(),
        }


def _told(shown: Shown) -> dict[str, Any]:
    """As `_asdict`, in a quarter of its time."""
    item_id, position, source, score, propensity = shown
    return {
        "item_id": item_id,
        "position": position,
        "source": source,
        "score": score,
        "propensity": propensity,
    }


class Exposures:
    """offer: takes a kind and rows, False where there is no room (serving.landing.Landing.offer)."""

    def __init__(
        self, most: int, offer: Callable[[str, list[dict[str, Any]]], bool], registry: CollectorRegistry
    ):
        self.most, self.offer = most, offer
        make: Any = {"registry": registry}
        self.logged = Counter(
            "aisle_exposures_logged", "Answers that were handed to the exposure log", **make
        )
        self.dropped = Counter(
            "aisle_exposures_dropped", "Answers that found no room in the exposure log", **make
        )
        self._queue: deque[Exposure] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="exposures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Hands on what waits; called before the journal stops."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def log(self, exposure: Exposure) -> None:
        if len(self._queue) >= self.most:
            self.dropped.inc()
            return
        self._queue.append(exposure)

    def _write(self) -> None:
        while not self._stop.wait(EVERY):
            self._hand_on()
        self._hand_on()

    def _hand_on(self) -> None:
        while self._queue:
            group = [self._queue.popleft() for _ in range(min(GROUP, len(self._queue)))]
            try:
                taken = self.offer(KIND, [each.row() for each in group])
            except Exception:  # the log must not end an API that answers
                log.exception("%d answers could not be logged", len(group))
                taken = False
            (self.logged if taken else self.dropped).inc(len(group))
            if not taken:
                time.sleep(EVERY)
