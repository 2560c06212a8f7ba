"""What the API accepts goes to disk first: the journal, group commit, and the way from there into landing.

One thread writes. What waits together is written together and made durable by one fdatasync a kind; then whoever reads the
log (`followers`: sessions, overlay) is told, and only then is the sender. A second thread looks after the journal (serving.journal).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from aisle.columns import EVENT_ID, UPDATED_AT
from aisle.errors import DiskFull, TooBusy
from aisle.settings import Settings
from serving import segments
from serving.journal import LAZY, Folded, Journal
from serving.segments import Segment
from serving.told import Row

log = logging.getLogger("aisle.landing")

TICK = 0.25  # seconds between looks at the age of the open segments
GROUP = 5_000  # rows of one commit

Follower = Callable[[str, list[Row]], None]


@dataclass
class _Waiting:
    """Rows of one sender. texts: as lines of JSON. done: for each row, whether it is new (False: its id was there already)."""

    kind: str
    rows: list[Row]
    texts: list[bytes]
    done: Future[list[bool]] = field(default_factory=Future)
    fresh: list[bool] = field(default_factory=list)


class Seen:
    """Ids of the newest events, so many at most. Its hash stands for an id: 64 bits, 100 bytes each."""

    def __init__(self, most: int):
        self.most, self._held = most, OrderedDict[int, None]()

    def add(self, event_id: str) -> bool:
        """Whether it is new; it is not afterwards."""
        key = hash(event_id)
        if key in self._held:
            return False
        self._held[key] = None
        if len(self._held) > self.most:
            self._held.popitem(last=False)
        return True

    def forget(self, event_ids: Iterable[str]) -> None:
        for each in event_ids:
            self._held.pop(hash(each), None)


class Figures:
    """What the writing tells of itself."""

    def __init__(self, registry: CollectorRegistry):
        make = {"registry": registry}
        self.rows = Counter(
            "aisle_rows_written", "Rows that came in, by what became of them", ["kind", "outcome"], **make
        )
        self.commit = Histogram("aisle_commit_seconds", "One group commit, to disk and into memory", **make)
        self.waiting = Gauge(
            "aisle_rows_waiting", "Rows that wait for the disk", multiprocess_mode="livesum", **make
        )
        self.landed = Counter("aisle_batches_landed", "Batches put into landing", ["kind"], **make)


class Landing:
    """See the module. followers: called by one thread at a time, with a kind and rows as written, in order.

    A row is a dict of texts by column of `bronze.<kind>`; `at` (epoch microseconds, rising) is added, and to
    items and users `updated_at`.
    """

    def __init__(
        self,
        settings: Settings,
        followers: Sequence[Follower],
        registry: CollectorRegistry | None = None,
        folded: Folded | None = None,
    ):
        self.limits, self.followers = settings.writes, followers
        self.figures = Figures(registry or CollectorRegistry())
        self.journal = Journal(settings, self._tell, self._landed, folded)
        self.seen = Seen(self.limits.remember_rows)
        self._queue: deque[_Waiting] = deque()
        self._rows = 0  # in the queue
        self._wake = threading.Condition()
        self._told = threading.Lock()  # one follower call at a time
        self._last = 0
        self._open: dict[str, Segment] = {}
        self._stopping = threading.Event()
        self._writer = threading.Thread(target=self._write, name="landing", daemon=True)
        self._follower = threading.Thread(target=self._follow, name="journal", daemon=True)

    # -- the sender's side

    def append(self, kind: str, rows: list[Row]) -> Future[list[bool]]:
        """Accepts rows; the future tells, once they are on disk and in memory, which were new.

        Raises TooBusy where the queue is full. The future raises DiskFull or TooBusy: then nothing was kept.
        """
        waiting = _Waiting(kind, rows, [segments.encoded(row) for row in rows])
        waiting.done.set_running_or_notify_cancel()  # from here on nobody can take it back
        with self._wake:
            if self._stopping.is_set() or self._rows + len(rows) > self.limits.queue_rows:
                self.figures.rows.labels(kind, "turned_away").inc(len(rows))
                raise TooBusy(
                    f"{self._rows} rows wait for the disk (writes.queue_rows = {self.limits.queue_rows}): "
                    "send these again in a second; with the same event_id nothing is counted twice",
                    retry_after=1,
                )
            self._queue.append(waiting)
            self._rows += len(rows)
            self._wake.notify()
        return waiting.done

    def offer(self, kind: str, rows: list[Row]) -> bool:
        """As `append`, for what must hold up nobody: False where half of the queue is full, which is counted."""
        if self._rows + len(rows) > self.limits.queue_rows // 2:
            self.figures.rows.labels(kind, "turned_away").inc(len(rows))
            return False
        try:
            self.append(kind, rows)
        except TooBusy:
            return False
        return True

    # -- life

    def start(self) -> None:
        """Reads back what is remembered, then begins to write. Blocks for the reading, about 1 s for 100,000 events."""
        self._last = self.journal.read_back()
        self._writer.start()
        self._follower.start()

    def stop(self) -> None:
        """Writes what waits, closes the open segments into landing."""
        self._stopping.set()
        with self._wake:
            self._wake.notify()
        self._writer.join(timeout=30)
        self._follower.join(timeout=30)

    def _tell(self, kind: str, rows: list[Row]) -> None:
        if not rows:
            return
        with self._told:
            if kind == "events":
                for row in rows:
                    self.seen.add(row[EVENT_ID])
            for follower in self.followers:
                try:
                    follower(kind, rows)
                except (
                    Exception
                ):  # the log is the truth and has the rows; what is made of it must not stop the writing
                    log.exception("a follower of the journal failed on %d rows of %s", len(rows), kind)

    # -- the writer

    def _write(self) -> None:
        while True:
            group = self._gather()
            if group:
                try:
                    with self.figures.commit.time():
                        self._commit(group)
                except (
                    Exception
                ) as error:  # a defect costs this group its answer, and not all later ones theirs
                    log.exception("a group of %d senders failed", len(group))
                    for waiting in group:
                        if not waiting.done.done():
                            self.seen.forget(
                                row[EVENT_ID] for row in waiting.rows if waiting.kind == "events"
                            )
                            waiting.done.set_exception(error)
            for kind, segment in list(self._open.items()):
                if self._due(segment):
                    self.journal.to_close.append(self._open.pop(kind))
            if self._stopping.is_set() and not group:
                self.journal.to_close.extend(self._open.values())
                self._open.clear()
                return

    def _due(self, segment: Segment) -> bool:
        return segment.rows >= self.limits.rotate_rows or (
            segment.rows > 0 and time.monotonic() - segment.opened >= self.limits.rotate_seconds
        )

    def _gather(self) -> list[_Waiting]:
        with self._wake:
            if not self._queue and not self._stopping.is_set():
                self._wake.wait(TICK)
            group, rows = [], 0
            while self._queue and rows < GROUP:
                group.append(self._queue.popleft())
                rows += len(group[-1].rows)
            self._rows -= rows
            self.figures.waiting.set(self._rows)
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        """All of it on disk, told and acknowledged, or nothing of it."""
        new: dict[str, tuple[list[Row], list[bytes]]] = {}
        for waiting in group:
            waiting.fresh = [waiting.kind != "events" or self.seen.add(row[EVENT_ID]) for row in waiting.rows]
            rows, lines = new.setdefault(waiting.kind, ([], []))
            for row, text, fresh in zip(waiting.rows, waiting.texts, waiting.fresh, strict=True):
                if fresh:
                    stamp = self._stamp(waiting.kind)
                    rows.append({**stamp, **row})
                    lines.append(segments.encoded(stamp)[:-2] + b"," + text[1:])
        new = {kind: written for kind, written in new.items() if written[0]}
        try:
            self._to_disk({kind: lines for kind, (_, lines) in new.items()})
        except OSError as error:
            self.seen.forget(row[EVENT_ID] for row in new.get("events", ([], []))[0])
            self._fail(group, error)
            return
        for kind, (rows, _) in new.items():
            self._tell(kind, rows)
            self.figures.rows.labels(kind, "written").inc(len(rows))
        for waiting in group:
            if not all(waiting.fresh):
                self.figures.rows.labels(waiting.kind, "duplicate").inc(waiting.fresh.count(False))
            waiting.done.set_result(waiting.fresh)

    def _stamp(self, kind: str) -> Row:
        """When a row is accepted: rising, so that no two updates of an item have one time."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        if kind not in ("items", "users"):
            return {"at": self._last}
        moment = datetime.fromtimestamp(self._last / 1e6, UTC)
        return {"at": self._last, UPDATED_AT: moment.isoformat(timespec="microseconds")}

    def _to_disk(self, lines: dict[str, list[bytes]]) -> None:
        """Raises OSError, with the segments as they were."""
        before: list[tuple[Segment, int, int]] = []
        try:
            for kind, written in lines.items():
                if kind not in self._open:
                    self._open[kind] = Segment(kind)
                    self.journal.own(self._open[kind])
                segment = self._open[kind]
                before.append((segment, segment.rows, segment.size))
                segment.write(written)
            for kind in lines:
                if kind not in LAZY:
                    self._open[kind].sync()
        except OSError:
            for segment, rows, size in before:
                self._back(segment, rows, size)
            raise

    def _back(self, segment: Segment, rows: int, size: int) -> None:
        """What was written without being acknowledged goes; a segment that even refuses that is written no more."""
        try:
            segment.take_back(rows, size)
        except OSError:
            log.exception("%s cannot be cut back; it is closed as it is", segment.path)
            self.journal.to_close.append(self._open.pop(segment.kind))

    def _fail(self, group: list[_Waiting], error: OSError) -> None:
        log.error("%d rows could not be written: %s", sum(len(each.rows) for each in group), error)
        told = DiskFull(
            f"the journal cannot be written ({error.strerror}), nothing of this was kept: free room under AISLE_HOME, then send it again"
        )
        for waiting in group:
            self.figures.rows.labels(waiting.kind, "failed").inc(len(waiting.rows))
            waiting.done.set_exception(told)

    def _landed(self, kind: str) -> None:
        self.figures.landed.labels(kind).inc()

    def _follow(self) -> None:
        while True:
            last = not self._writer.is_alive()
            try:
                self.journal.look()
            except Exception:  # a full disk or a strange file must not end this thread: it looks again
                log.exception("following the journal failed")
            if last:
                return
            if self._stopping.wait(self.limits.follow_seconds):
                self._writer.join(timeout=30)
