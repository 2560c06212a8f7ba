"""The release in memory: follows the pointer, loads the new bundle beside the old, swaps one reference."""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from aisle.errors import AisleError, BundleRejected, ServiceFailed
from engine import compiled
from engine.pauses import resting
from engine.recommender import Recommender
from serving import release
from serving.release import Pointer

log = logging.getLogger("aisle.release")
RETRY_SECONDS = (
    5.0  # before a refused release is tried again: it may have been staged anew, or memory be free
)
SHARE = 0.25  # of the time that a release is worked on while another one answers
SWITCH_SECONDS = (
    0.0001  # so long a request waits for the interpreter then, each of the many times that it wants it
)


@dataclass(frozen=True)
class Loaded:
    """A release that answers. Never changed: a request that holds it goes on with it through a swap.

    variant: "a" or "b" where two releases stand side by side, else "". files: of the bundle, as `release.written` has them; it is
    used where it lies on disk.
    """

    pointer: Pointer
    recommender: Recommender
    variant: str = ""
    files: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

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


class _Beside:
    """How many threads work beside requests, and how the interpreter switched between threads before the first of them."""

    lock = threading.Lock()
    count = 0
    before = 0.0


@contextmanager
def beside_requests(after: float = 0.0) -> Iterator[None]:
    """For work of this thread that takes a second or more while requests are answered: with rests, and on short notice.

    after: as `engine.pauses.resting` has it.
    """
    with _Beside.lock:
        if not _Beside.count:
            _Beside.before = sys.getswitchinterval()
            sys.setswitchinterval(min(_Beside.before, SWITCH_SECONDS))
        _Beside.count += 1
    try:
        with resting(SHARE, after):
            yield
    finally:
        with _Beside.lock:
            _Beside.count -= 1
            if not _Beside.count:
                sys.setswitchinterval(_Beside.before)


def place_of(who: str) -> float:
    """Where somebody stands between 0 and 1: always at the same place, evenly spread, whatever the versions are.

    >>> place_of("12347") == place_of("12347")
    True
    """
    return (
        int.from_bytes(
            hashlib.blake2b(f"beside\n{who}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        )
        / 2**64
    )


class LiveRelease:
    """`current` and `second` are read by requests without a lock. `fault` says why a newer release is not served.

    second: a release beside the current one, and the share of shoppers that it answers.

    accepts: called with a release before it is swapped in; raises an AisleError to refuse it. undisturbed: around its loading,
    see serving.heap.
    """

    def __init__(
        self, every: float, accepts: Callable[[Loaded], None], swapped: Callable[[Loaded | None], object]
    ):
        self.undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext
        self.dropped: Callable[[], object] = lambda: None  # a second release was loaded and answers no more
        self.every, self.accepts, self.swapped = every, accepts, swapped
        self.current: Loaded | None = None
        self.second: tuple[Loaded, float] | None = None
        self._beside: tuple[release.Beside | None, float] = (
            None,
            0.0,
        )  # looked at last, and when it was refused
        self._beside_fault: str | None = None
        self.fault: dict | None = None
        self._instead_of: Pointer | None = None  # refused at the start, so that the one before it answers
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
        """The release to answer with. Raises ServiceFailed before the first, or where none can be loaded."""
        if self.current is None:
            way_out = "run the train and publish DAGs (`make demo`), or see /readyz"
            if self.fault:
                version = self.fault["version"]
                refused = f"version {version} was refused: " if version else ""
                way_out = f"{refused}{self.fault['detail']}; see /readyz"
            raise ServiceFailed(f"no release is loaded: {way_out}")
        return self.current

    def serving_for(self, who: str | None) -> Loaded:
        """The release that answers `who`: a user, else a session. Raises ServiceFailed before the first."""
        first, second = self.serving(), self.second
        if second is None:
            return first
        return second[0] if who is not None and place_of(who) < second[1] else replace(first, variant="a")

    def _follow(self) -> None:
        try:
            compiled.warm()  # ten seconds where it never was, and no release waits for it once another one answers
        except Exception:  # a full disk, say
            log.exception("the loops could not be compiled")
        while not self._stop.is_set():
            try:
                self.look()
                self.look_beside()
            except Exception as error:  # this thread must outlive whatever a bundle or a disk does to it
                log.exception("looking at the release pointer failed")
                self.fault = {"version": None, "at": None, "detail": f"{type(error).__name__}: {error}"}
            self.looked.set()
            self._stop.wait(self.every)

    def look(self) -> bool:
        """One look at the pointer; True where another release was swapped in."""
        pointer = release.current()
        if pointer is None or (self.current and pointer == self.current.pointer):
            self.fault = self._altered()
            return False
        before, when = self._tried
        if pointer == before and self.fault and time.monotonic() - when < RETRY_SECONDS:
            return False
        self._tried = (pointer, time.monotonic())
        try:
            loaded = self._loaded(pointer)
            if release.current() != pointer:  # rolled back, or a newer one came, meanwhile
                raise BundleRejected(f"version {pointer.version} was withdrawn while it was loaded")
        except (AisleError, OSError, MemoryError) as error:
            self._refuse(pointer, error)
            return self.current is None and self._stand_in(pointer, error)
        self.fault = self._instead_of = None
        self._swap(loaded)
        return True

    def _swap(self, loaded: Loaded) -> None:
        left, self.current = self.current, loaded
        version = loaded.pointer.version
        log.info("version %s is served", version, extra={"model_version": version})
        self.swapped(loaded)
        if left:
            with beside_requests():
                left.recommender.unload()  # whoever answers with it still brings back what they read

    def _stand_in(self, refused: Pointer, why: Exception) -> bool:
        """At a start whose release is refused, the newest one before it that loads answers; the pointer is looked at still."""
        for pointer in release.earlier(refused):
            try:
                loaded = self._loaded(pointer)
            except (AisleError, OSError, MemoryError) as error:
                log.error("nor can version %s answer: %s", pointer.version, error)
                continue
            if release.current() != refused:
                return False  # it moved meanwhile, and where to is looked at next
            self._instead_of = refused
            self._swap(loaded)
            self._tell(refused, why)
            return True
        return False

    def look_beside(self) -> None:
        """One look at the second release. One that is refused answers nobody, and the first answers all."""
        found = self._wanted_beside()
        before, refused = self._beside
        if found == before and (not refused or time.monotonic() - refused < RETRY_SECONDS):
            return
        self._beside, self._beside_fault = (found, 0.0), None
        if found is None or self.current is None:
            if self.second:
                self.second = None
                self.dropped()
            self._beside = (None, 0.0)
            return
        if self.second and self.second[0].pointer == found.pointer:
            self.second = (self.second[0], found.share)
            return
        try:
            second = self._loaded(found.pointer, "b")
            service = second.recommender.recipe.feature_service
            if service != self.current.recommender.recipe.feature_service:
                raise BundleRejected(
                    f"it reads feature service {service!r}, and the first release another one"
                )
        except (AisleError, OSError, MemoryError) as error:
            log.error("version %s is not served beside: %s", found.pointer.version, error)
            self.second, self._beside, self._beside_fault = None, (found, time.monotonic()), str(error)
            self.dropped()
            return
        self.second = (second, found.share)
        log.info("version %s is served beside, to %.3f of all", found.pointer.version, found.share)

    def _wanted_beside(self) -> release.Beside | None:
        """The second release as it is set; None where it was barred or is the first one by now."""
        found = release.beside()
        first = self.current.pointer.version if self.current else None
        if found and (found.pointer.version == first or release.barred(found.pointer.version)):
            return None
        return found

    def told_beside(self) -> dict | None:
        """For /readyz: the second release with the share that it answers, or why the one that is set answers nobody."""
        (refused, _), fault, second = self._beside, self._beside_fault, self.second
        if refused and fault:
            pointer, share = refused.pointer, refused.share
        elif second:
            pointer, share = second[0].pointer, second[1]
        else:
            return None
        return {"version": pointer.version, "at": pointer.at, "share": share, "fault": fault}

    def _loaded(self, pointer: Pointer, variant: str = "") -> Loaded:
        """A release that is ready to answer. The first one comes as fast as it can, another one beside the requests."""
        with self.undisturbed(), beside_requests() if self.current else nullcontext():
            bundle = Path(pointer.path)
            files = release.written(bundle) if bundle.is_dir() else {}
            found = Loaded(pointer, load(pointer), variant, files)
            self.accepts(found)
            found.recommender.unload()
            return found

    def _altered(self) -> dict | None:
        """A fault where somebody writes into files that a release is answered from, in place of staging another version."""
        for each in (self.current, self.second[0] if self.second else None):
            names = release.altered(Path(each.pointer.path), each.files) if each else []
            if each and names:
                told = (
                    f"{', '.join(names)} of {each.pointer.path} were written to while they are served: answers cannot be "
                    f"trusted; `aisle promote {each.pointer.version}` stages them again, then restart the API"
                )
                if self.fault is None:
                    log.error("version %s: %s", each.pointer.version, told)
                return {"version": each.pointer.version, "at": each.pointer.at, "detail": told}
        return None

    def _refuse(self, pointer: Pointer, error: Exception) -> None:
        kept = self.current.pointer.version if self.current else "none"
        log.error("version %s is refused, %s goes on: %s", pointer.version, kept, error)
        self._tell(pointer, error)
        self.swapped(None)

    def _tell(self, refused: Pointer, error: Exception) -> None:
        detail = str(error)
        if self.current and self._instead_of == refused:
            detail += (
                f"; version {self.current.pointer.version}, released before it, answers in its place: `aisle rollback` "
                f"leaves it at that, `aisle promote {refused.version}` stages version {refused.version} again"
            )
        self.fault = {"version": refused.version, "at": refused.at, "detail": detail}
