"""What one caller may take: too much, too deep, too slow and too often is refused, at a bounded cost."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import psutil
import pytest

from aisle import api_keys
from aisle import settings as settings_module
from aisle.errors import BodyTooLarge, Overloaded, TooDeep, TooMany, TooSlow
from aisle.settings import Limits, Settings
from serving import limits
from serving.keys import Caller
from serving.limits import Bodies, Buckets, Rates, depth
from tests.serving.conftest import Kept, asking, running, stage
from tests.serving.test_api import PLAIN, refused
from tests.serving.test_swap import wait_for

QUICK = {
    "header_seconds": 1.5,
    "send_seconds": 0.8,
    "body_seconds": 0.8,
    "max_body_bytes": 200_000,
    "max_connections": 60,
}
EVENTS = "/v1/events"
PATIENCE = (
    60  # seconds until a client of ours holds that the API never gives up; many times every limit above
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An API with little patience."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("limits")))
        for name, value in QUICK.items():
            patch.setenv(f"AISLE_SERVING__LIMITS__{name.upper()}", str(value))
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), Kept()) as found:
            wait_for(lambda: httpx.get(f"{found}/readyz").status_code == 200)
            yield found
    settings_module.load.cache_clear()


def raw(url: str) -> socket.socket:
    parts = httpx.URL(url)
    return socket.create_connection((parts.host, parts.port), timeout=PATIENCE)


def head(*lines: str, path: str = EVENTS) -> bytes:
    key = api_keys.plain_keys()["server"]
    start = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"X-API-Key: {key}",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*start, *lines, "", ""]).encode()


def until_closed(client: socket.socket) -> bytes:
    """What comes until the API closes the connection. Raises TimeoutError where it never does."""
    found = b""
    try:
        while part := client.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def test_a_large_body_is_refused_before_it_is_read(url: str) -> None:
    with closing(raw(url)) as client:
        client.sendall(head("Content-Length: 99999999999"))
        found = until_closed(client)
    assert b" 413 " in found.split(b"\r\n")[0]
    assert b"urn:aisle:problem:too-large" in found


def test_a_large_body_of_unknown_length_is_refused(url: str) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    with asking(url) as client, suppress(httpx.WriteError):  # it closed while we were still sending
        refused(client.post(EVENTS, content=parts()), 413)


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 20_000, '[{"a":' * 1000 + "1" + "}]" * 1000])
def test_a_deep_body_is_refused(url: str, body: str) -> None:
    with asking(url) as client:
        assert "deeper" in refused(client.post(EVENTS, content=body), 400)["detail"]


def test_a_body_in_whose_strings_are_brackets_is_not_deep(url: str) -> None:
    event = {"event_type": "search", "session_id": "s", "query": '[{"' * 60 + "\\"}
    with asking(url) as client:
        assert client.post(EVENTS, json=event).status_code < 300


def test_a_slow_body_is_given_up(url: str) -> None:
    with closing(raw(url)) as client:
        client.sendall(head("Content-Length: 1000"))
        client.sendall(b"[")
        found = until_closed(client)
    assert b" 408 " in found.split(b"\r\n")[0]


def test_slow_and_endless_headers_are_given_up(url: str) -> None:
    with closing(raw(url)) as client:
        client.sendall(b"GET / HT")
        assert until_closed(client) == b""
    with closing(raw(url)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        sent = 0
        try:
            while (
                sent < 20_000_000
            ):  # what it takes before it closes is the kernel's to buffer, some millions at most
                sent += client.send(b"X-A: " + b"a" * 990 + b"\r\n")
        except OSError:
            pass
        assert sent < 20_000_000
    for many in ({f"X-{number}": "a" for number in range(120)}, {"X-Long": "a" * 40_000}):
        answer = httpx.get(url + PLAIN, headers={**api_keys.headers(), **many})
        assert answer.status_code == 431


def test_what_is_no_http_is_told_so(url: str) -> None:
    for text in (
        b"BLAH\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\x00\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ):
        with closing(raw(url)) as client:
            client.sendall(text)
            found = until_closed(client)
        assert found.startswith(b"HTTP/1.1 400 "), text
        assert json.loads(found.partition(b"\r\n\r\n")[2])["type"] == "urn:aisle:problem:bad-request"


def test_a_second_slow_request_on_a_connection_is_given_up_too(url: str) -> None:
    with closing(raw(url)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in client.recv(65_536)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        until_closed(client)


def test_one_connection_too_many_is_told_to_come_back(url: str) -> None:
    held = [raw(url) for _ in range(QUICK["max_connections"] + 5)]
    try:
        answers = [until_closed(each) for each in reversed(held)]
        found = next(each for each in answers if each)
        assert found.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in found
        assert json.loads(found.partition(b"\r\n\r\n")[2])["status"] == 503
    finally:
        for each in held:
            each.close()
    wait_for(lambda: httpx.get(f"{url}/healthz").status_code == 200)


def typical_seconds(url: str) -> float:
    """The median of twenty answers, one after the other."""
    times = []
    with asking(url) as client:
        for _ in range(20):
            started = time.monotonic()
            assert client.get(PLAIN, timeout=PATIENCE).status_code == 200
            times.append(time.monotonic() - started)
    return sorted(times)[10]


def test_slow_senders_cost_bounded_memory_and_hold_nobody_up(url: str) -> None:
    alone = typical_seconds(url)
    before = psutil.Process().memory_info().rss
    held = [raw(url) for _ in range(40)]
    try:
        for each in held:
            each.sendall(head("Content-Length: 190000") + b"[" + b" " * 150_000)
        assert typical_seconds(url) < max(10 * alone, QUICK["body_seconds"] / 10)
        assert psutil.Process().memory_info().rss - before < 60_000_000
        assert all(b" 408 " in until_closed(each)[:20] for each in held)
    finally:
        for each in held:
            each.close()


def idle(url: str) -> bool:
    figures = httpx.get(f"{url}/metrics").text
    return "aisle_requests_at_work 0.0" in figures and "aisle_requests_waiting 0.0" in figures


def test_broken_clients_leave_no_place_taken(url: str) -> None:
    for ending in (b"[", b'[{"event_type":', b""):
        for _ in range(30):
            with closing(raw(url)) as client:
                client.sendall(head("Content-Length: 500") + ending)
    for _ in range(30):
        with closing(raw(url)) as client:
            client.sendall(head("Content-Length: 0", path=PLAIN).replace(b"POST", b"GET"))
    wait_for(lambda: idle(url))
    with asking(url) as client:
        assert client.get(PLAIN).status_code == 200


def callers() -> set[int]:
    """Ports whose connections the API, which runs in this process, holds."""
    held = psutil.Process().net_connections("tcp4")
    return {each.raddr.port for each in held if each.raddr and each.status == psutil.CONN_ESTABLISHED}


def test_who_does_not_take_an_answer_is_given_up(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Batches of megabytes for somebody who reads nothing: the connection goes, and all that was kept for it."""
    body = json.dumps({"users": [f"u{number:03d}" for number in range(60)], "k": 40}).encode()
    parts = httpx.URL(url)
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect((parts.host, parts.port))
        client.sendall((head(f"Content-Length: {len(body)}", path="/v1/recommendations/batch") + body) * 16)
        mine = client.getsockname()[1]
        wait_for(lambda: mine not in callers())
        with asking(url) as other:
            assert other.get(PLAIN).status_code == 200
        wait_for(lambda: idle(url))
        sent = len(until_closed(client))
    with asking(url) as other:
        whole = other.post(
            "/v1/recommendations/batch",
            content=body,
            headers={"Content-Type": "application/json"},
            timeout=30,
        )
    assert whole.status_code == 200
    assert sent < 16 * len(whole.content) - 100_000
    assert "Traceback" not in caplog.text


def test_who_asks_too_often_is_told_when_to_come_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"KEY_RATE": "0.2", "ADDRESS_RATE": "0.1", "BURST_SECONDS": "20"}.items():
        monkeypatch.setenv(f"AISLE_SERVING__LIMITS__{name}", value)
    settings_module.load.cache_clear()
    stage("1")
    with running(settings_module.load(), Kept()) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        with asking(url) as client:
            found = [client.get(PLAIN) for _ in range(5)]
            assert [each.status_code for each in found] == [200] * 4 + [429]
            problem = refused(found[-1], 429)
            assert problem["type"] == "urn:aisle:problem:too-many"
            assert int(found[-1].headers["retry-after"]) >= 1
            time.sleep(int(found[-1].headers["retry-after"]))
            assert client.get(PLAIN).status_code == 200
        one, other = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in (1, 2))
        guesses = [
            httpx.get(url + PLAIN, headers={**one, "X-API-Key": "guess"}).status_code for _ in range(4)
        ]
        assert guesses == [401, 401, 429, 429]
        assert httpx.get(url + PLAIN, headers={**other, "X-API-Key": "guess"}).status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_buckets_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEPT", 100)
    buckets = Buckets(1.0, 1.0)
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets._held) == 100


def test_a_server_key_is_not_bounded_by_its_address(settings: Settings) -> None:
    narrow = settings.serving.limits.model_copy(update={"address_rate": 1.0, "burst_seconds": 1.0})
    rates, client = Rates(narrow), ("192.0.2.1", 1)
    for _ in range(50):
        rates.take(Caller("shop", "a", trusted=True), client)
    rates.take(Caller("front", "b"), client)
    with pytest.raises(TooMany):
        rates.take(Caller("front", "b"), client)


@pytest.mark.parametrize("size", [10, 100, 1000])
def test_depth_is_that_of_json(size: int) -> None:
    value: object = 1
    for number in range(size):
        value = [value, "]]["] if number % 2 else {'a"[': value}
    assert depth(json.dumps(value).encode(), 5000) == size
    assert depth(json.dumps(value).encode(), 5) == 6


def test_bodies_are_given_back_whatever_happens(settings: Settings) -> None:
    few = settings.serving.limits.model_copy(
        update={"max_body_bytes": 100, "max_bodies_bytes": 150, "body_seconds": 0.05, "max_json_depth": 3}
    )
    bodies = Bodies(few)

    async def read(*parts: bytes, ends: str = "http.request") -> bytes:
        left = list(parts)

        async def receive() -> dict:
            if left:
                return {
                    "type": "http.request",
                    "body": left.pop(0),
                    "more_body": bool(left) or ends != "http.request",
                }
            if ends == "never":
                await asyncio.sleep(10)
            return {"type": ends}

        return await bodies.read({}, receive)

    assert asyncio.run(read(b"ab", b"cd")) == b"abcd"
    bodies.done(4)
    for parts, ends, error in (
        ((b"a" * 60, b"a" * 60), "http.request", BodyTooLarge),
        ((b"[[[[",), "http.request", TooDeep),
        ((b"a",), "never", TooSlow),
        ((b"a",), "http.disconnect", TooSlow),
    ):
        with pytest.raises(error):
            asyncio.run(read(*parts, ends=ends))
        assert bodies.held == 0
    asyncio.run(read(b"a" * 90))
    with pytest.raises(Overloaded):
        asyncio.run(read(b"a" * 90))
    assert bodies.held == 90


def test_limits_are_settings(settings: Settings) -> None:
    assert isinstance(settings.serving.limits, Limits)
    assert settings.serving.limits.max_headers == 100
