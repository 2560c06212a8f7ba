"""Users' histories from the Feast online store, within a deadline: batched, and cached for a moment.

Opening the store may take seconds, so a thread does it while the API is already up. One thread reads the store:
while a read runs, the users that come meanwhile wait together and are read in one call. A store that is
down or slow costs an answer its history, never the answer. A store that is a file at hand is read by who asks, while it is quick.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as TooSlow
from contextlib import suppress
from typing import Any, Protocol

from aisle import features
from aisle.errors import FeatureMismatch, NotThere
from aisle.settings import Settings
from engine.state import UserState
from serving.online import NotPlain, Reader
from serving.promptly import Promptly

log = logging.getLogger("aisle.features")

COLUMNS = ("user_id", "country", "item_ids", "event_types", "event_times", "quantities")
BATCH = 64  # users of one read
WAITING = 1000  # users that may wait; one more is answered without a history
CACHED = 20_000  # states kept
RETRY_SECONDS = 5.0  # between attempts to open a store that is down


class Store(Protocol):
    """Where histories come from."""

    def read(self, service: str, users: Sequence[str]) -> list[UserState]:
        """States of `users`, in their order; an unknown user's history is empty."""
        ...

    def check(self, service: str) -> None:
        """Raises FeatureMismatch where the service cannot be filled; another error where nobody answers."""
        ...


class OnlineStore:
    """The Feast online store: read straight from its files where they are plain (serving.online), else by Feast, whose
    import takes seconds."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._folder = features.folder()
        self._files = not settings.features.online  # as `features.online_store` tells, which takes longer
        self._reader = Reader(self._folder, features.PROJECT)
        self._prompt = Reader(self._folder, features.PROJECT, patience=0)
        self._by_feast: set[str] = set()  # services that need it
        self._lock = threading.Lock()  # a reader is for one thread, and a release is checked in another one
        self._prompt_lock = threading.Lock()

    def _columns(self, service: str, users: Sequence[str]) -> dict[str, list[Any]]:
        if self._files and service not in self._by_feast:
            try:
                with self._lock:
                    return self._reader.read(service, users, COLUMNS)
            except NotPlain as why:
                log.info("Feast itself reads %s: %s", service, why)
                self._by_feast.add(service)
        if not features.published().as_of:  # opening Feast now would write an empty registry and keep it
            raise NotThere("nothing is online yet: run the features DAG, or `aisle run features`")
        return features.online(self.settings, service, [{"user_id": user} for user in users])

    def read(self, service: str, users: Sequence[str]) -> list[UserState]:
        return _states(users, self._columns(service, users))

    def at_once(self, service: str, user_id: str) -> UserState | None:
        """One user, read without waiting for a lock; None where the store is no file that is read here, or where another thread
        reads so just now. Raises what `Reader.read` does: NotLooked where `read` has to look at the store's tables first, sqlite3.OperationalError where Feast writes.
        """
        if not self._files or service in self._by_feast or not self._prompt_lock.acquire(blocking=False):
            return None
        try:
            return _states([user_id], self._prompt.read(service, [user_id], COLUMNS, looked=self._reader))[0]
        finally:
            self._prompt_lock.release()

    def check(self, service: str) -> None:
        try:
            found = self._columns(service, ["check: no such user"])
        except NotThere as error:
            raise FeatureMismatch(f"feature service {service!r} cannot be filled: {error}") from None
        missing = [name for name in COLUMNS if name not in found]
        if missing:
            raise FeatureMismatch(
                f"feature service {service!r} lacks {', '.join(missing)}: "
                "`aisle run features.feast` publishes it, or train a model on the service there is"
            )


def _states(users: Sequence[str], found: dict[str, list[Any]]) -> list[UserState]:
    nothing: list[Any] = [None] * len(users)
    country, *lists = (found.get(name, nothing) for name in COLUMNS[1:])
    return [
        UserState(user, land if isinstance(land, str) else None, *(each or () for each in row))
        for user, land, *row in zip(users, country, *lists, strict=True)
    ]


class Unavailable(Exception):
    """No history within the deadline; `reason` is what the degraded answer is counted under."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Histories:
    """The online store as the request path sees it.

    observe: told the seconds of every read. service: until a released model names one (`follow`).
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        observe: Callable[[float], object] = lambda _: None,
        service: str = "retrieval_v1",
    ):
        self.settings, self.store, self.observe, self.service = settings, store, observe, service
        self.state = "opening"
        self.settled = threading.Event()
        self._at_once = getattr(store, "at_once", None)  # of a store that is at hand
        self._promptly = Promptly(self._at_once) if self._at_once else None
        self._waiting: queue.Queue[tuple[str, Future] | None] = queue.Queue(WAITING)
        self._cache: OrderedDict[str, tuple[float, UserState]] = OrderedDict()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="histories", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def follow(self, service: str) -> None:
        """Reads from the feature service that the released model names."""
        if service != self.service:
            self.service = service
            with self._lock:
                self._cache.clear()

    def take(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The journal's side: what was read of who was erased is kept no longer."""
        if kind == "erasures":
            with self._lock:
                for row in rows:
                    self._cache.pop(row["user_id"], None)

    def held(self, user_id: str) -> UserState | None:
        """A state that was read at most serving.feature_cache_seconds ago."""
        with self._lock:
            held = self._cache.get(user_id)
        fresh = held and time.monotonic() - held[0] < self.settings.serving.feature_cache_seconds
        return held[1] if held and fresh else None

    def at_once(self, user_id: str) -> UserState | None:
        """The state of a user, `held` or read right here, in well under a millisecond; None where `ask` has to be asked instead.

        For one thread, the event loop's. Raises nothing: whether the store is down is for `ask` to say.
        """
        held = self.held(user_id)
        if held is not None or self._promptly is None or self.state != "open":
            return held
        started = time.monotonic()
        found = self._promptly.read(self.service, user_id)
        if found is not None:
            self.observe(time.monotonic() - started)
            self._keep(found)
        return found

    def ask(self, user_id: str) -> Future[UserState]:
        """The state of a user, when it is read. Raises Unavailable, as the future may."""
        if self.state != "open":
            raise Unavailable(f"features_{self.state}")
        asked: Future[UserState] = Future()
        try:
            self._waiting.put_nowait((user_id, asked))
        except queue.Full:
            raise Unavailable("features_overloaded") from None
        return asked

    def of(self, user_id: str) -> UserState:
        """`held`, or what `ask` brings. Raises Unavailable after the deadline."""
        held = self.held(user_id)
        if held is not None:
            return held
        try:
            return self.ask(user_id).result(self.settings.serving.feature_deadline_seconds)
        except TooSlow:
            raise Unavailable("features_slow") from None

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self.state != "open" and not self._open():
                self._stop.wait(RETRY_SECONDS)
                continue
            wanted = self._gather()
            if wanted:
                self._answer(wanted)

    def _open(self) -> bool:
        try:
            self.store.read(self.service, ["warm up: no such user"])
            if self._at_once is not None:
                with suppress(Exception):  # locked just now, say: the read above was answered
                    self._at_once(self.service, "warm up: no such user")
        except Exception as error:  # whatever the store's client raises: it is down until it answers
            if self.state != "down":
                log.warning("the online store does not answer: %s: %s", type(error).__name__, error)
            self.state = "down"
        else:
            log.info("the online store answers")
            self.state = "open"
        self.settled.set()
        return self.state == "open"

    def _gather(self) -> dict[str, list[Future]]:
        """Who waits now, up to a batch; a user asked for twice is read once."""
        wanted: dict[str, list[Future]] = {}
        try:
            found = self._waiting.get(timeout=0.5)
            while True:
                wanted.setdefault(found[0], []).append(found[1])
                if len(wanted) >= BATCH:
                    break
                found = self._waiting.get_nowait()
        except queue.Empty:
            pass
        return wanted

    def _answer(self, wanted: dict[str, list[Future]]) -> None:
        started = time.monotonic()
        try:
            states = self.store.read(self.service, list(wanted))
        except Exception as error:  # the store went away: those who wait are told, and it is opened anew
            log.warning("reading the online store failed: %s: %s", type(error).__name__, error)
            self.state = "down"
            for future in (each for futures in wanted.values() for each in futures):
                with suppress(InvalidStateError):  # who waited has given up
                    future.set_exception(Unavailable("features_down"))
            return
        finally:
            self.observe(time.monotonic() - started)
        for futures, state in zip(wanted.values(), states, strict=True):
            self._keep(state)
            for future in futures:
                with suppress(InvalidStateError):
                    future.set_result(state)

    def _keep(self, state: UserState) -> None:
        with self._lock:
            self._cache[state.user_id] = (time.monotonic(), state)
            self._cache.move_to_end(state.user_id)
            oldest = time.monotonic() - self.settings.serving.feature_cache_seconds
            while self._cache and (len(self._cache) > CACHED or next(iter(self._cache.values()))[0] < oldest):
                self._cache.popitem(last=False)
