"""The whole door: a disk that cannot follow, and an API that is killed while a shop is sending."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pyarrow.parquet as pq
import pytest

from aisle import api_keys, ledger
from aisle.lake import landing, project_root
from aisle.settings import Settings
from serving.segments import Segment
from tests.serving.conftest import Kept, Release, asking, running

SERVER = """
import sys
import uvicorn
from aisle import settings as settings_module
from serving.app import create_app
from serving.server import config, listen
from tests.serving.conftest import Kept
settings = settings_module.load()
listener = listen("127.0.0.1", 0)
listener.listen()
print(listener.getsockname()[1], flush=True)
uvicorn.Server(config(settings, create_app(settings, Kept()))).run(sockets=[listener])
"""


def view(event_id: str, **more: str) -> dict[str, str]:
    return {"event_type": "purchase", "session_id": "s", "item_id": "i001", "event_id": event_id, **more}


def test_a_disk_that_cannot_follow_is_told_with_when_to_come_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = settings.model_copy(
        update={"writes": settings.writes.model_copy(update={"queue_rows": 3, "queue_seconds": 0.3})}
    )
    gate, sync = threading.Event(), Segment.sync
    with running(slow, Kept()) as url, asking(url) as client:
        monkeypatch.setattr(Segment, "sync", lambda self: (gate.wait(20), sync(self))[1])
        late = client.post("/v1/events", json=view("late"))
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")
        assert late.json()["type"] == "urn:aisle:problem:busy"
        for number in range(3):
            assert client.post("/v1/events", json=view(f"waits-{number}")).status_code == 503
        full = client.post("/v1/events", json=view("too-many"))
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        assert "queue_rows = 3" in full.json()["detail"]
        gate.set()
        until = time.monotonic() + 20
        while (again := client.post("/v1/events", json=[view("late"), view("too-many")])).status_code == 503:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert (again.status_code, again.json()["accepted"], again.json()["duplicates"]) == (202, 1, 1)

        def broken(self: Segment) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Segment, "sync", broken)
        no_room = client.post("/v1/events", json=view("no-room"))
        assert (no_room.status_code, no_room.headers["retry-after"]) == (503, "30")
        assert no_room.json()["type"] == "urn:aisle:problem:disk-full"
        assert client.get("/healthz").status_code == 200
        monkeypatch.setattr(Segment, "sync", sync)
        assert client.post("/v1/events", json=view("no-room")).json()["accepted"] == 1


@contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The API in a process of its own, ready."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdout=subprocess.PIPE,
        text=True,
        cwd=project_root(),
        env=dict(os.environ),
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        until = time.monotonic() + 90
        while httpx.get(f"{url}/readyz", timeout=90).status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.1)
        yield url, server
    finally:
        server.kill()
        server.wait()


@pytest.mark.faults
def test_what_a_killed_api_acknowledged_is_in_the_answers_and_in_landing(
    settings: Settings, stage_release: Release
) -> None:
    stage_release("1")
    acknowledged: list[str] = []

    def send(url: str, sender: int) -> None:
        with httpx.Client(base_url=url, headers=api_keys.headers(), timeout=5) as client:
            for number in range(10_000):
                event = view(f"{sender}-{number}", session_id=f"s{sender}")
                try:
                    if client.post("/v1/events", json=event).status_code == 202:
                        acknowledged.append(event["event_id"])
                except httpx.TransportError:
                    return

    with served() as (url, server):
        senders = [threading.Thread(target=send, args=(url, sender)) for sender in range(3)]
        for sender in senders:
            sender.start()
        time.sleep(1.5)
        server.send_signal(signal.SIGKILL)
        for sender in senders:
            sender.join()
    assert len(acknowledged) > 10
    with served() as (url, server), httpx.Client(base_url=url, headers=api_keys.headers()) as client:
        answer = client.get("/v1/recommendations", params={"session_id": "s0"}).json()
        assert answer["rung"] != "popular"
        again = client.post("/v1/events", json=[view(each) for each in acknowledged[-50:]])
        assert again.json()["accepted"] == 0
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    ids = [
        row["event_id"]
        for kind, batch in ledger.landed()
        if kind == "events"
        for row in pq.read_table(landing(kind) / batch / "rows.parquet").to_pylist()
    ]
    assert set(acknowledged) <= set(ids)
    assert len(ids) == len(set(ids))
