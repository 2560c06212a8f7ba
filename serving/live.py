"""The release in memory: follows the pointer, loads the new bundle beside the old, swaps one reference."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aisle.errors import AisleError, BundleRejected, ServiceFailed
from engine.recommender import Recommender
from serving import release
from serving.release import Pointer

log = logging.getLogger("aisle.release")
RETRY_SECONDS = (
    5.0  # before a refused release is tried again: it may have been staged anew, or memory be free
)


@dataclass(frozen=True)
class Loaded:
    """A release that answers. Never changed: a request that holds it goes on with it through a swap."""

    pointer: Pointer
    recommender: Recommender

    @property
    def released_at(self) -> float:
        return datetime.fromisoformat(self.pointer.at).timestamp()


def load(pointer: Pointer) -> Recommender:
    """Loads a release's bundle and makes it answer once. Raises BundleRejected."""
    bundle = Path(pointer.path)
    found = release.digest(bundle)
    if found != pointer.digest:
        raise BundleRejected(
            f"{bundle} has manifest digest {found[:12]}…, the release pointer says {pointer.digest[:12]}…: "
            f"it was changed after its smoke check; `aisle promote {pointer.version}` stages it again"
        )
    recommender = Recommender.load(bundle)
    faults = recommender.faults()
    if faults:
        raise BundleRejected(f"{bundle}: {'; '.join(faults)}; release another version")
    if not recommender.popular(None, 1):
        raise BundleRejected(
            f"{bundle} loads but has nothing popular to answer with; release another version"
        )
    return recommender


class LiveRelease:
    """`current` is read by requests without a lock. `fault` says why a newer release is not served.

    accepts: called with a recommender before it is swapped in; raises an AisleError to refuse it.
    """

    def __init__(
        self, every: float, accepts: Callable[[Recommender], None], swapped: Callable[[Loaded | None], object]
    ):
        self.every, self.accepts, self.swapped = every, accepts, swapped
        self.current: Loaded | None = None
        self.fault: dict | None = None
        self.looked = threading.Event()
        self._tried: tuple[Pointer | None, float] = (None, 0.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="release", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def serving(self) -> Loaded:
        """The release to answer with. Raises ServiceFailed before the first."""
        if self.current is None:
            raise ServiceFailed(
                "no release is loaded: run the train and publish DAGs (`make demo`), or see /readyz"
            )
        return self.current

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # this thread must outlive whatever a bundle or a disk does to it
                log.exception("looking at the release pointer failed")
                self.fault = {"version": None, "at": None, "detail": f"{type(error).__name__}: {error}"}
            self.looked.set()
            self._stop.wait(self.every)

    def look(self) -> bool:
        """One look at the pointer; True where another release was swapped in."""
        pointer = release.current()
        if pointer is None or (self.current and pointer == self.current.pointer):
            self.fault = None
            return False
        before, when = self._tried
        if pointer == before and self.fault and time.monotonic() - when < RETRY_SECONDS:
            return False
        self._tried = (pointer, time.monotonic())
        try:
            recommender = load(pointer)
            self.accepts(recommender)
        except (AisleError, OSError, MemoryError) as error:
            self._refuse(pointer, error)
            return False
        self.current, self.fault = Loaded(pointer, recommender), None
        log.info("version %s is served", pointer.version, extra={"model_version": pointer.version})
        self.swapped(self.current)
        return True

    def _refuse(self, pointer: Pointer, error: Exception) -> None:
        kept = self.current.pointer.version if self.current else "none"
        log.error("version %s is refused, %s goes on: %s", pointer.version, kept, error)
        self.fault = {"version": pointer.version, "at": pointer.at, "detail": str(error)}
        self.swapped(None)
