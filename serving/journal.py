"""The journal as one process of the API follows it: what others wrote, what is to be landed, what may be forgotten."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from aisle import erasures
from aisle.lake import home
from aisle.settings import Settings
from serving import segments
from serving.segments import CLOSED, OPEN, Segment
from serving.told import Row

log = logging.getLogger("aisle.journal")

KINDS = ("users", "items", "erasures", "events", "exposures")
LASTING = ("items", "users", "erasures")  # kept until they are folded; the others for writes.remember_hours
FOLDED = ("items", "users")
LAZY = ("exposures",)  # nobody waits for them, and nothing is made of them here
FORGET_SECONDS = 60.0
RETRY_SECONDS = 2.0
HIDDEN_SECONDS = 3600.0
FOLD_BYTES, FOLD_FILES = 32 * 2**20, 300  # closed segments of a kind that are worth being made one

Tell = Callable[[str, list[Row]], None]
Folded = Callable[[str], list[Row]]


class Journal:
    """tell: gets rows of a kind, in their order. landed: told of each closed segment's kind. folded: all that is known of a kind."""

    def __init__(
        self, settings: Settings, tell: Tell, landed: Callable[[str], None], folded: Folded | None = None
    ):
        self.limits, self.tell, self.landed, self.folded = settings.writes, tell, landed, folded
        self.to_close: deque[Segment] = deque()  # of this process, due
        self._own: set[str] = set()
        self._read: dict[tuple[str, str], int] = {}  # kind and segment -> bytes that were read; -1: all
        self._forgotten = 0.0
        self._erased = False  # since users were folded
        self._again: dict[str, float] = {}  # when to try again what could not be landed, by segment

    def own(self, segment: Segment) -> None:
        """A segment that this process writes is not read by it."""
        self._erased |= segment.kind == "erasures"
        self._own.add(segment.path.stem)
        self._read[segment.kind, segment.path.stem] = -1

    def read_back(self) -> int:
        """Tells all that is remembered, of events the newest writes.remember_rows. Returns the newest row's `at`."""
        newest = 0
        for kind in KINDS:
            segments.folder(kind).mkdir(parents=True, exist_ok=True)
            left = None if kind in LASTING else self.limits.remember_rows
            found: list[list[Row]] = []
            for path in reversed(segments.segments(kind)) if kind not in LAZY else ():
                if left is not None and left <= 0:
                    self._read[kind, path.stem] = -1
                    continue
                rows, self._read[kind, path.stem] = segments.whole_lines(path)
                left = None if left is None else left - len(rows)
                found.append(rows)
            for rows in reversed(found):
                self.tell(kind, rows)
                newest = max(newest, max((row["at"] for row in rows), default=0))
        return newest

    def look(self) -> None:
        """Tells what others wrote, lands what is due or was left by the dead, forgets what is old."""
        for kind in KINDS:
            if kind not in LAZY:
                self._hear(kind)
        self._close()
        if time.monotonic() - self._forgotten > FORGET_SECONDS:
            self._forgotten = time.monotonic()
            self._forget()

    def _hear(self, kind: str) -> None:
        for path in segments.segments(kind):
            offset = self._read.get((kind, path.stem), 0)
            if offset < 0:
                continue
            rows, offset = segments.whole_lines(path, offset)
            self._read[kind, path.stem] = -1 if path.suffix == CLOSED else offset
            if rows:
                self._erased |= kind == "erasures"
                self.tell(kind, rows)

    def _close(self) -> None:
        for segment in list(self.to_close):
            if self._land(segment.path, segment.kind):
                self.to_close.remove(segment)
                segment.let_go()
        for kind in KINDS:
            for path in segments.segments(kind):
                if path.suffix == OPEN and path.stem not in self._own:
                    with segments.taken(path) as left_by_the_dead:
                        if left_by_the_dead:
                            self._land(path, kind)

    def _land(self, path: Path, kind: str) -> bool:
        """Whether it is done. One that cannot be landed now, such as on a full disk, is tried again, and holds up no other."""
        if time.monotonic() < self._again.get(path.stem, 0.0):
            return False
        try:
            segments.close(path, kind, erasures.read())
        except (OSError, ValueError):  # Arrow's errors are of these
            log.exception("%s cannot be landed yet", path)
            self._again[path.stem] = time.monotonic() + RETRY_SECONDS
            return False
        self._again.pop(path.stem, None)
        self.landed(kind)
        return True

    def _forget(self) -> None:
        """Closed segments that no restart reads back any more."""
        oldest = f"{int((time.time() - self.limits.remember_hours * 3600) * 1000):013d}"
        for kind in KINDS:
            for path in segments.folder(kind).glob(
                ".*"
            ):  # of who was killed between making a file and naming it
                with suppress(FileNotFoundError):  # it got its name meanwhile
                    if time.time() - path.stat().st_mtime > HIDDEN_SECONDS:
                        path.unlink()
            closed = [path for path in segments.segments(kind) if path.suffix == CLOSED]
            if (
                kind in FOLDED
                and closed
                and (self._worth_folding(closed) or (kind == "users" and self._erased))
            ):
                self._fold(kind, closed)
            for path in closed if kind not in LASTING else ():
                if path.stem < oldest:
                    self._remove(path, kind)

    def _worth_folding(self, closed: list[Path]) -> bool:
        try:
            return len(closed) > FOLD_FILES or sum(path.stat().st_size for path in closed) > FOLD_BYTES
        except FileNotFoundError:
            return False  # another process is at it

    def _fold(self, kind: str, closed: list[Path]) -> None:
        """One segment that says what these say together. Who has not read them reads it; what is told twice is told once."""
        if self.folded is None or any(self._read.get((kind, path.stem), 0) >= 0 for path in closed):
            return
        try:
            with FileLock(home() / "journal" / ".folding", timeout=0):
                rows = self.folded(kind)
                made = (
                    segments.folder(kind)
                    / f"{time.time_ns() // 1_000_000:013d}-0-{secrets.token_hex(4)}{CLOSED}"
                )
                hidden = made.with_name(f".{made.name}")
                with hidden.open("wb") as file:
                    file.write(b"".join(segments.encoded(row) for row in rows))
                    file.flush()
                    os.fsync(file.fileno())
                self._read[kind, made.stem] = -1
                os.rename(hidden, made)
                segments.sync_folder(made.parent)
                for path in closed:
                    self._remove(path, kind)
                self._erased &= kind != "users"
                log.info("%d segments of %s are one of %d rows", len(closed), kind, len(rows))
        except Timeout:
            return  # another process is at it

    def _remove(self, path: Path, kind: str) -> None:
        path.unlink(missing_ok=True)
        self._read.pop((kind, path.stem), None)
        self._own.discard(path.stem)
