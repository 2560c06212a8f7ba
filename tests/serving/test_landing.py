"""The journal: nothing acknowledged is lost, nothing is counted twice, and it lands as an import would."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from aisle import ledger
from aisle.errors import DiskFull, TooBusy
from aisle.lake import landing, project_root
from aisle.settings import Settings
from serving import segments
from serving.landing import Landing
from serving.segments import CLOSED, OPEN, Segment
from serving.told import Row


class Heard:
    """A follower that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Row]] = []

    def __call__(self, kind: str, rows: list[Row]) -> None:
        self.rows += [(kind, row) for row in rows]

    def ids(self) -> list[str]:
        return [row["event_id"] for kind, row in self.rows if kind == "events"]


def event(number: int | str, **more: str) -> Row:
    return {
        "event_id": f"e{number}",
        "event_type": "view",
        "event_time": "2026-11-25T08:30:00.000000+00:00",
        "user_id": "u1",
        "item_id": "i1",
        **more,
    }


def tuned(settings: Settings, **limits: float) -> Settings:
    return settings.model_copy(update={"writes": settings.writes.model_copy(update=limits)})


def wait_for(check: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def landed(kind: str = "events") -> list[Row]:
    return [
        row
        for each, batch in ledger.landed()
        if each == kind
        for row in pq.read_table(landing(kind) / batch / "rows.parquet").to_pylist()
    ]


def test_what_was_written_lands_as_an_import_would(settings: Settings) -> None:
    heard = Heard()
    log = Landing(settings, [heard])
    log.start()
    assert log.append("events", [event(1), event(2, query='a\n"b" ü')]).result(5) == [True, True]
    assert log.append("items", [{"item_id": "i1", "title": "A"}]).result(5) == [True]
    assert heard.ids() == ["e1", "e2"]
    log.stop()
    rows = landed()
    assert [row["event_id"] for row in rows] == ["e1", "e2"]
    assert rows[1]["query"] == 'a\n"b" ü'
    assert [row["row_number"] for row in rows] == [1, 2]
    assert landed("items")[0]["updated_at"]
    kind, batch = next(pair for pair in ledger.landed() if pair[0] == "events")
    manifest = ledger.manifest(kind, batch)
    assert (manifest["rows"], manifest["ids"], manifest["oldest"]) == (
        2,
        "sender",
        "2026-11-25T08:30:00.000000+00:00",
    )
    assert not ledger.strays()


def test_an_id_counts_once_within_a_commit_across_commits_and_across_a_restart(settings: Settings) -> None:
    log = Landing(settings, [])
    log.start()
    assert log.append("events", [event(1), event(1)]).result(5) == [True, False]
    assert log.append("events", [event(1), event(2)]).result(5) == [False, True]
    log.stop()
    heard = Heard()
    again = Landing(settings, [heard])
    again.start()
    assert heard.ids() == ["e1", "e2"]
    assert again.append("events", [event(2), event(3)]).result(5) == [False, True]
    again.stop()
    assert sorted(row["event_id"] for row in landed()) == ["e1", "e2", "e3"]


def test_many_senders_at_once_lose_and_double_nothing(settings: Settings) -> None:
    heard = Heard()
    log = Landing(tuned(settings, rotate_rows=300), [heard])
    log.start()

    def send(sender: int) -> int:
        fresh = [log.append("events", [event(f"{sender}-{n}"), event(n)]).result(20) for n in range(50)]
        return sum(sum(each) for each in fresh)

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(send, range(20))) == 20 * 50 + 50
    log.stop()
    ids = [row["event_id"] for row in landed()]
    assert len(ids) == len(set(ids)) == 1050
    assert sorted(ids) == sorted(heard.ids())
    assert len(ledger.landed()) >= 3  # rotated


def test_a_segment_is_closed_after_a_while(settings: Settings) -> None:
    log = Landing(tuned(settings, rotate_seconds=0.2), [])
    log.start()
    log.append("events", [event(1)]).result(5)
    wait_for(lambda: len(landed()) == 1)
    log.append("events", [event(2)]).result(5)
    wait_for(lambda: len(landed()) == 2)
    log.stop()
    assert not [path for path in segments.segments("events") if path.suffix == OPEN]


def test_another_process_hears_of_it_within_a_second(settings: Settings) -> None:
    one, two = Heard(), Heard()
    first, second = Landing(settings, [one]), Landing(settings, [two])
    first.start()
    second.start()
    started = time.monotonic()
    first.append("events", [event(1)]).result(5)
    wait_for(lambda: two.ids() == ["e1"])
    assert time.monotonic() - started < 1
    assert second.append("events", [event(1), event(2)]).result(5) == [False, True]
    wait_for(lambda: one.ids() == ["e1", "e2"])
    first.stop()
    second.stop()
    assert sorted(row["event_id"] for row in landed()) == ["e1", "e2"]
    assert two.ids() == ["e1", "e2"]


def test_a_full_queue_turns_away_and_keeps_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    sync = Segment.sync
    monkeypatch.setattr(Segment, "sync", lambda self: (gate.wait(10), sync(self))[1])
    log = Landing(tuned(settings, queue_rows=10), [])
    log.start()
    first = log.append("events", [event(0)])
    wait_for(lambda: not log._queue)
    waiting = log.append("events", [event(n) for n in range(1, 11)])
    with pytest.raises(TooBusy, match="queue_rows = 10") as turned:
        log.append("events", [event(11)])
    assert turned.value.retry_after == 1
    assert not log.offer("exposures", [{"request_id": "r"}])
    gate.set()
    assert first.result(5) == [True]
    assert waiting.result(5) == [True] * 10
    assert log.append("events", [event(11)]).result(5) == [True]
    log.stop()
    assert len(landed()) == 12


def test_a_full_disk_is_told_and_leaves_no_half_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    log = Landing(settings, [heard])
    log.start()
    log.append("events", [event(1)]).result(5)
    write = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) > 20:
            return write(file, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(segments.os, "write", full)
    with pytest.raises(DiskFull, match="No space left"):
        log.append("events", [event(2)]).result(5)
    monkeypatch.setattr(segments.os, "write", write)
    assert log.append("events", [event(2)]).result(5) == [True]  # it was not kept: its id is free
    log.stop()
    assert [row["event_id"] for row in landed()] == heard.ids() == ["e1", "e2"]


def test_a_disk_that_refuses_to_sync_acknowledges_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    log = Landing(settings, [heard])
    log.start()
    sync = Segment.sync

    def broken(self: Segment) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Segment, "sync", broken)
    with pytest.raises(DiskFull):
        log.append("events", [event(1)]).result(5)
    monkeypatch.setattr(Segment, "sync", sync)
    log.append("events", [event(2)]).result(5)
    log.stop()
    assert [row["event_id"] for row in landed()] == heard.ids() == ["e2"]


def test_a_follower_that_fails_stops_nothing(settings: Settings) -> None:
    def fails(kind: str, rows: list[Row]) -> None:
        raise RuntimeError("no")

    heard = Heard()
    log = Landing(settings, [fails, heard])
    log.start()
    assert log.append("events", [event(1)]).result(5) == [True]
    log.stop()
    assert heard.ids() == ["e1"]


def test_old_segments_are_forgotten_and_what_lasts_is_not(settings: Settings) -> None:
    log = Landing(settings, [])
    log.start()
    log.append("events", [event(1)]).result(5)
    log.append("items", [{"item_id": "i1", "title": "A"}]).result(5)
    log.stop()
    for kind in ("events", "items"):
        (path,) = segments.segments(kind)
        path.rename(path.with_name(f"{0:013d}-1-old{CLOSED}"))
    heard = Heard()
    log = Landing(settings, [heard])
    log.start()
    wait_for(lambda: not segments.segments("events"))
    log.stop()
    assert [kind for kind, _ in heard.rows] == ["items", "events"]
    assert len(landed()) == 1


@pytest.mark.parametrize("last", [True, False])
def test_a_landing_that_is_cut_off_is_completed_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    """Before its rename the batch is not there; after it, and before the segment's own, it is not landed twice."""
    log = Landing(settings, [])
    log.start()
    log.append("events", [event(1)]).result(5)
    rename = os.rename

    def cut_off(old: Path, new: Path) -> None:
        if str(new).endswith(CLOSED) == last and not str(new).endswith(OPEN):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(old, new)

    monkeypatch.setattr(segments.os, "rename", cut_off)
    log.stop()
    assert [path.suffix for path in segments.segments("events")] == [OPEN]
    assert len(landed()) == last
    monkeypatch.setattr(segments.os, "rename", rename)
    for segment in log.journal.to_close:
        segment.let_go()  # as its process's end does
    again = Landing(settings, [])
    again.start()
    wait_for(lambda: [path.suffix for path in segments.segments("events")] == [CLOSED])
    again.stop()
    assert [row["event_id"] for row in landed()] == ["e1"]
    assert not list(landing("events").glob(".importing-*"))


def test_a_segment_that_cannot_be_landed_holds_up_no_other(settings: Settings) -> None:
    log = Landing(tuned(settings, rotate_rows=1), [])
    log.start()
    log.append("exposures", [{"request_id": "r1", "rank": 1}]).result(5)
    wait_for(lambda: any(path.suffix == CLOSED for path in segments.segments("exposures")))
    log.append("exposures", [{"request_id": "r2", "rank": 1}, {"request_id": "r3", "rank": "first"}]).result(
        5
    )
    log.append("events", [event(1)]).result(5)
    wait_for(lambda: len(landed()) == 1)
    log.stop()
    assert sorted(path.suffix for path in segments.segments("exposures")) == sorted([CLOSED, OPEN])


SENDER = """
import sys
from aisle import settings
from serving.landing import Landing
log = Landing(settings.load(), [])
log.start()
print("up", flush=True)
for n in range(1_000_000):
    log.append("events", [{"event_id": f"{sys.argv[1]}-{n}", "event_type": "view", "user_id": "u", "item_id": "i",
                           "event_time": "2026-11-25T08:30:00.000000+00:00"}]).result(10)
    print(f"{sys.argv[1]}-{n}", flush=True)
"""


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.7])
def test_a_kill_loses_nothing_that_was_acknowledged(settings: Settings, seconds: float) -> None:
    """Two processes are killed in the middle; a third one completes what they left."""
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, name],
            stdout=subprocess.PIPE,
            text=True,
            cwd=project_root(),
            env={**os.environ, "AISLE_WRITES__ROTATE_ROWS": "40", "AISLE_WRITES__FOLLOW_SECONDS": "0.02"},
        )
        for name in ("a", "b")
    ]
    for sender in senders:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "up\n"
    time.sleep(seconds)
    for sender in senders:
        sender.send_signal(signal.SIGKILL)
    acknowledged = [
        line.strip()
        for sender in senders
        for line in sender.communicate()[0].splitlines(True)
        if line.endswith("\n")
    ]
    heard = Heard()
    log = Landing(settings, [heard])
    log.start()
    log.append("events", [event(1)]).result(5)
    log.stop()
    ids = [row["event_id"] for row in landed()]
    assert len(ids) == len(set(ids))
    assert set(acknowledged) <= set(ids)
    assert set(ids) == set(heard.ids())
    assert acknowledged
    assert all(path.suffix == CLOSED for path in segments.segments("events"))
