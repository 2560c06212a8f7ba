"""What goes over a connection, byte by byte: what clients send that is not quite HTTP, and what they are told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest

from aisle import api_keys
from aisle import settings as settings_module
from serving.protocol import LINE, PIPELINED
from tests.serving.conftest import Kept, asking, running, stage
from tests.serving.test_api import PLAIN
from tests.serving.test_ladder import Slow, api_over
from tests.serving.test_limits import raw, until_closed
from tests.serving.test_swap import wait_for

SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "vary": "Origin",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("wire")))
        patch.setenv("AISLE_SERVING__LIMITS__MAX_CONNECTIONS", "50")
        patch.setenv("AISLE_ANSWERS__DEADLINE_SECONDS", "5")
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), Kept()) as found:
            wait_for(lambda: httpx.get(f"{found}/readyz").status_code == 200)
            yield found
    settings_module.load.cache_clear()


def got(line: bytes, *headers: bytes) -> bytes:
    key = b"X-API-Key: " + api_keys.plain_keys()["server"].encode()
    return b"\r\n".join([line, b"Host: 127.0.0.1", key, *headers, b"", b""])


def answer_of(client: socket.socket) -> tuple[int, dict[str, str], dict]:
    """One answer with a length; what comes after it is left for the next."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = client.recv(1)
        assert part, found
        found += part
    first, *lines = found.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines if each)}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += client.recv(int(headers["content-length"]) - len(body))
    return int(first.split()[1]), headers, json.loads(body)


@pytest.mark.parametrize("cut", [None, 22, 25, 60])
def test_a_url_may_have_its_letters_as_they_are(url: str, cut: int | None) -> None:
    """`curl '…?q=café'` sends bytes that no URL has; they stand for what their percent-encoding is."""
    asked = got("GET /v1/search?q=café&user_id=naïve&k=1 HTTP/1.1".encode(), "X-Shop: Käse".encode())
    with closing(raw(url)) as client:
        client.sendall(asked[:cut])
        if cut:
            client.sendall(asked[cut:])
        status, _, body = answer_of(client)
        assert (status, body["query"]) == (200, "café")
        client.sendall(got("GET /v1/items/tête-à-tête HTTP/1.1".encode()))
        status, _, body = answer_of(client)
        assert (status, body["instance"]) == (404, f"/v1/items/{quote('tête-à-tête')}")
        assert "'tête-à-tête'" in body["detail"]
        client.sendall(got(b"GET /v1/items/caf\xe9%2F\xff?\x80=\xfe HTTP/1.1"))
        status, _, body = answer_of(client)
        assert status in (404, 422)
        event = json.dumps(
            {"event_type": "search", "session_id": "é", "query": "ü"}, ensure_ascii=False
        ).encode()
        typed = (b"Content-Type: application/json", b"Content-Length: %d" % len(event))
        client.sendall(got(b"POST /v1/events HTTP/1.1", *typed) + event)
        assert answer_of(client)[0] in (200, 202)


def test_what_is_said_before_there_is_a_request_is_a_problem_like_all_others(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    long = b"GET /healthz HTTP/1.1\r\n" + b"X-A: " + b"a" * 40_000
    beyond = "é".encode() * LINE
    ids = set()
    for sent, status, kind in (
        (b"BLAH\r\n\r\n", 400, "bad-request"),
        (b"GET /" + beyond + b" HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"\xff\xfe\x00", 400, "bad-request"),
        (long, 431, "too-many-headers"),
    ):
        with closing(raw(url)) as client:
            client.sendall(sent)
            told, headers, body = answer_of(client)
            assert until_closed(client) == b""
        assert (told, body["status"], body["type"]) == (status, status, f"urn:aisle:problem:{kind}")
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert headers["x-request-id"] == body["request_id"]
        assert SECURITY.items() <= headers.items()
        assert set(body) == {"type", "title", "status", "detail", "instance", "request_id"}
        ids.add(body["request_id"])
    assert len(ids) == 4
    assert not [each for each in caplog.records if each.name.startswith("uvicorn")]


def test_who_asks_for_another_protocol_is_answered_in_this_one(url: str) -> None:
    for more in ((b"Connection: Upgrade", b"Upgrade: websocket"), (b"Connection: Upgrade", b"Upgrade: h2c")):
        with closing(raw(url)) as client:
            client.sendall(got(b"GET /v1/popular?k=1 HTTP/1.1", *more))
            status, _, body = answer_of(client)
        assert (status, len(body["items"])) == (200, 1)


def test_one_connection_too_many_has_the_usual_headers(url: str) -> None:
    held = [raw(url) for _ in range(60)]
    try:
        status, headers, body = answer_of(held[-1])
        assert (status, body["type"], headers["retry-after"]) == (503, "urn:aisle:problem:overloaded", "2")
        assert SECURITY.items() <= headers.items()
    finally:
        for each in held:
            each.close()
    wait_for(lambda: httpx.get(f"{url}/healthz").status_code == 200)


def test_requests_that_wait_on_a_connection_are_bounded(url: str) -> None:
    """Each would be kept until those before it are answered: thousands of them come in one packet."""
    asked = got(b"GET /v1/popular?k=1 HTTP/1.1")
    with closing(raw(url)) as client:
        client.sendall(asked * (PIPELINED + 1))
        assert [answer_of(client)[0] for _ in range(PIPELINED + 1)] == [200] * (PIPELINED + 1)
    before = psutil.Process().memory_info().rss
    flood = b"GET /x HTTP/1.1\r\n\r\n" * 12_000
    held = [raw(url) for _ in range(20)]
    try:
        for client in held:
            try:
                client.sendall(flood)
            except OSError:  # it closed while we were still sending
                continue
        for client in held:
            until_closed(client)
        assert psutil.Process().memory_info().rss - before < 60_000_000
        with asking(url) as other:
            assert other.get(PLAIN).status_code == 200
    finally:
        for client in held:
            client.close()
    with closing(raw(url)) as client:
        client.sendall(got(b"GET /v1/popular?k=1 HTTP/1.1") * (PIPELINED + 2))
        found = until_closed(client)
    assert b"urn:aisle:problem:too-many" in found


class Broken:
    """Answers that fail in a way that nobody foresaw."""

    async def ask(self, *_: object, **__: object) -> None:
        raise LookupError("the moon is full")


PAGE = "https://shop.example"


@pytest.mark.parametrize("origin", [None, PAGE])
@pytest.mark.parametrize(
    "line",
    [b"GET /v1/popular?k=1 HTTP/1.1", b"GET /v1/recommendations?k=1 HTTP/1.1", b"POST /v1/popular HTTP/1.1"],
)
def test_after_a_defect_the_connection_goes_on(
    aisle_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    line: bytes,
    origin: str | None,
) -> None:
    more = [f"Origin: {origin}".encode()] if origin else []
    body = b'{"k": 1}' if line.startswith(b"POST") else b""
    more += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)] if body else []
    with (
        api_over(Slow(), monkeypatch, SERVING__CORS_ORIGINS=json.dumps([PAGE])) as (api, app),
        closing(raw(str(api.base_url))) as client,
    ):
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(app.state.service.answers, "ask", Broken().ask)
                caplog.clear()
                client.sendall(got(line, b"X-Request-ID: mine-1", *more) + body)
                status, headers, told = answer_of(client)
            assert (status, told["type"], told["request_id"]) == (
                500,
                "urn:aisle:problem:defect",
                "mine-1",
            )
            assert headers["content-type"] == "application/problem+json"
            assert headers["x-request-id"] == "mine-1"
            assert SECURITY.items() <= headers.items()
            assert headers.get("access-control-allow-origin") == origin
            assert "connection" not in headers
            assert "moon" not in json.dumps(told)
            whole = [each for each in caplog.records if each.exc_info and "moon" in str(each.exc_info[1])]
            assert [each.name for each in whole] == ["aisle.api"]
            client.sendall(got(line, *more) + body)
            status, headers, told = answer_of(client)
            assert (status, len(told["items"])) == (200, 1)
            assert headers["x-request-id"] != "mine-1"


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Basic \xff",
        b"Authorization: Basic \xc3\xa9",
        b"Authorization: Basic /w==",
        b"Authorization: Bearer \xff",
        b"X-API-Key: \xff",
        b"Cookie: aisle_page=\xff",
    ],
)
@pytest.mark.parametrize("path", [PLAIN, "/", "/metrics"])
def test_a_key_of_any_bytes_is_no_key(url: str, header: bytes, path: str) -> None:
    for host in (b"127.0.0.1", b"aisle.example"):
        with closing(raw(url)) as client:
            client.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (path.encode(), host, header))
            found = client.recv(65_536)
        assert found.split()[1] in (b"200", b"401", b"403"), found
        if path == PLAIN:
            assert found.split()[1] == b"401"
