"""Answers that nobody takes cost bounded memory, and only those who do not take them."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import psutil
import pytest

from aisle import api_keys
from aisle import settings as settings_module
from serving import heap, unsent
from tests.serving.conftest import Kept, asking, running, stage
from tests.serving.test_api import PLAIN
from tests.serving.test_limits import head, until_closed
from tests.serving.test_swap import wait_for

BATCH = "/v1/recommendations/batch"
MOST = 20_000_000
USERS = 900  # whose lists are some megabytes: more than the system takes for a caller who reads nothing
BODY = json.dumps({"users": [f"u{number:03d}" for number in range(USERS)], "k": 40}).encode()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API that lets callers take their time, but keeps little for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("unsent")))
        patch.setenv("AISLE_SERVING__LIMITS__MAX_UNSENT_BYTES", str(MOST))
        patch.setenv("AISLE_ANSWERS__BATCH_USERS", str(USERS))
        patch.setattr(unsent, "SETTLE_SECONDS", 0.2)
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), Kept()) as found:
            wait_for(lambda: httpx.get(f"{found}/readyz").status_code == 200)
            yield found
    settings_module.load.cache_clear()


def slow(url: str, times: int = 1) -> socket.socket:
    """A connection of somebody who asks for batches and reads nothing."""
    client, parts = socket.socket(), httpx.URL(url)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    client.settimeout(60)
    client.connect((parts.host, parts.port))
    client.sendall((head(f"Content-Length: {len(BODY)}", path=BATCH) + BODY) * times)
    return client


def figure(url: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def batches(url: str) -> float:
    return figure(url, f'aisle_requests_total{{route="{BATCH}",status="200"}}')


def given_up(url: str) -> float:
    return figure(url, 'aisle_untaken_answers_total{why="full"}')


def whole(url: str) -> int:
    """The size of an answer that is taken; the lists are kept from then on."""
    with asking(url) as client:
        answer = client.post(BATCH, content=BODY, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    return len(answer.content)


def test_many_who_take_nothing_cost_bounded_memory(url: str) -> None:
    size = whole(url)
    many, before, gone = 24, psutil.Process().memory_info().rss, given_up(url)
    assert many * size > 6 * MOST
    held: list[socket.socket] = []
    try:
        for number in range(many):
            done = batches(url)
            held.append(slow(url))
            wait_for(lambda done=done: batches(url) > done)
            if number % 6 == 5:
                assert psutil.Process().memory_info().rss - before < 3 * MOST, number
        assert many - MOST / size <= given_up(url) - gone < many
        with asking(url) as client:
            assert client.get(PLAIN).status_code == 200
        assert whole(url) == size
        assert len(until_closed(held[0])) < size
        found = b""  # the last one has its answer still, should it want it after all
        while len(found) < size:
            part = held[-1].recv(1_000_000)
            assert part
            found += part
        assert found.startswith(b"HTTP/1.1 200 ")
    finally:
        for each in held:
            each.close()
    wait_for(lambda: psutil.Process().memory_info().rss - before < 3 * MOST, 20)


def test_an_answer_above_the_limit_alone_is_given_up_and_nobody_else_is(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it held goes back to the system, once for all that were given up within a while."""
    whole(url)
    gone = given_up(url)
    trimmed: list[float] = []
    monkeypatch.setattr(heap, "trim", lambda: trimmed.append(time.monotonic()))
    (server,) = [each for each in unsent._of.values() if each.most == MOST]
    monkeypatch.setattr(server, "most", 1_000_000)
    with asking(url) as other:
        assert other.get(PLAIN).status_code == 200
        with closing(slow(url)) as client, closing(slow(url)) as another:
            wait_for(lambda: given_up(url) == gone + 2)
            until_closed(client)
            until_closed(another)
        assert other.get(PLAIN).status_code == 200
    assert server.total == 0
    wait_for(lambda: bool(trimmed))
    assert len(trimmed) <= 2


def test_nothing_is_worked_out_for_who_has_not_taken_the_answer_before(url: str) -> None:
    size, done = whole(url), batches(url)
    with closing(slow(url, times=4)) as client:
        wait_for(lambda: batches(url) > done)
        with asking(url) as other:
            for _ in range(20):
                assert other.get(PLAIN).status_code == 200
        assert batches(url) == done + 1
        found = b""
        while found.count(b"HTTP/1.1 200 OK") < 4 or len(found) < 4 * size:
            part = client.recv(1_000_000)
            assert part
            found += part
    wait_for(lambda: batches(url) == done + 4)
    ids = re.findall(rb"\r\nx-request-id: (\w+)\r\n", found)
    assert len(set(ids)) == 4


def test_who_reads_slowly_gets_all_of_it(url: str) -> None:
    size = whole(url)
    with closing(slow(url)) as client:
        found = bytearray()
        while len(found.partition(b"\r\n\r\n")[2]) < size:
            part = client.recv(60_000)
            assert part
            found += part
    answer = json.loads(found.partition(b"\r\n\r\n")[2])
    assert len(answer["users"]) == len(answer["answers"]) == USERS
    assert api_keys.plain_keys()["server"].encode() not in found
