"""The Python client against the API itself, and against one that is busy, slow or away."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from aisle import api_keys

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients" / "python"))
from aisle_client import Aisle, AisleUnreachable, Refused


@pytest.fixture
def shop(api: httpx.Client) -> Iterator[Aisle]:
    with Aisle(str(api.base_url), api_keys.plain_keys()["server"], timeout=10) as found:
        yield found


def test_lists(shop: Aisle) -> None:
    answer = shop.recommend("u001", k=3)
    assert answer.rung == "personalised"
    assert len(answer.items) == 3
    assert all(item.title and item.why for item in answer.items)
    assert [item.position for item in answer.items] == [1, 2, 3]
    second = shop.recommend("u001", k=3, page=2, request_id=answer.request_id)
    assert not {item.item_id for item in answer.items} & {item.item_id for item in second.items}
    first = answer.items[0].item_id
    without = shop.recommend("u001", k=3, rules={"exclude": [first]})
    assert first not in {item.item_id for item in without.items}
    assert "i001" not in {item.item_id for item in shop.similar("i001", k=4).items}
    for found in (shop.popular(k=2), shop.trending(k=2), shop.together(basket=["i001", "i002"], k=2)):
        assert len(found.items) == 2
    assert set(shop.batch(["u001", "u002"], k=2)) == {"u001", "u002"}
    assert shop.graphql("query($k: Int) { popular(k: $k) { items { itemId } } }", k=2)["popular"]["items"]


def test_what_the_shop_tells(shop: Aisle) -> None:
    view = {"event_type": "view", "session_id": "s-client", "item_id": "i002", "event_id": "client-1"}
    assert shop.track(view)["accepted"] == 1
    assert shop.track([view, {**view, "event_id": "client-2"}])["duplicates"] == 1
    assert shop.upsert_items([{"item_id": "new/1", "title": "New"}])["accepted"] == 1
    assert shop.patch_item("new/1", price=3.5)["accepted"] == 1
    assert shop.set_stock({"new/1": 3, "i003": 0})["accepted"] == 2
    assert shop.delete_item("new/1")["accepted"] == 1
    assert shop.upsert_users([{"user_id": "cl 1", "country": "France"}])["accepted"] == 1
    assert shop.prefer("cl 1", "i004", "hide")["accepted"] == 1
    assert shop.rate("cl 1", "i003", 4.5, text="Bright")["accepted"] == 1
    assert [each["event_type"] for each in shop.history("cl 1")["events"]] == ["rating", "hide"]
    assert shop.revise("cl 1", "i003", text=None)["accepted"] == 1
    assert shop.unrate("cl 1", "i003")["accepted"] == 1
    assert [each["event_type"] for each in shop.history("cl 1")["events"]] == ["hide"]
    assert shop.export_user("cl 1")["user_id"] == "cl 1"
    assert shop.erase_user("cl 1")["user_id"] == "cl 1"
    assert shop.item("i005")["item_id"] == "i005"
    assert shop.history("u001")["events"]
    assert shop.ready()["status"] == "ready"


def test_a_refusal_tells_every_fault(shop: Aisle) -> None:
    with pytest.raises(Refused) as refused:
        shop.recommend("", k=0)
    assert refused.value.status == 422
    assert refused.value.kind == "invalid-request"
    assert len(refused.value.errors) == 2
    with pytest.raises(Refused, match="not-there"):
        shop.item("none")
    with pytest.raises(Refused, match="no-key"):
        Aisle(f"http://{shop._host}:{shop._port}", "wrong").popular()
    with pytest.raises(Refused, match="not-there"):
        shop.graphql('{ item(itemId: "none") { title } }')


def test_many_threads_have_a_connection_each(shop: Aisle) -> None:
    found: list[str] = []

    def ask(user: str) -> None:
        found.extend(shop.recommend(user, k=1).rung for _ in range(5))

    threads = [threading.Thread(target=ask, args=(f"u00{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20


Answering = Callable[[int], tuple[int, dict[str, str], object]]


@pytest.fixture
def busy() -> Iterator[Callable[[Answering], tuple[str, list[bytes]]]]:
    """Starts a server that answers the n-th request as a function of n says: status, headers, body; status 0 hangs up."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(answer: Answering) -> tuple[str, list[bytes]]:
        seen: list[bytes] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                seen.append(self.rfile.read(int(self.headers["content-length"])))
                status, headers, body = answer(len(seen))
                if not status:
                    self.connection.close()
                    return
                text = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", seen

    yield start
    for server in servers:
        server.shutdown()


def test_it_comes_back_when_told_to(busy) -> None:
    url, seen = busy(lambda n: (503, {"Retry-After": "1"}, {}) if n < 3 else (202, {}, {"accepted": 1}))
    started = time.monotonic()
    assert Aisle(url).track({"event_type": "view"})["accepted"] == 1
    assert 2.0 <= time.monotonic() - started < 4
    assert len({json.loads(body)[0]["event_id"] for body in seen}) == 1


def test_it_does_not_wait_beyond_its_patience(busy) -> None:
    url, seen = busy(lambda n: (429, {"Retry-After": "60"}, {"type": "urn:aisle:problem:too-many"}))
    with pytest.raises(Refused) as refused:
        Aisle(url).popular()
    assert (refused.value.kind, refused.value.retry_after, len(seen)) == ("too-many", 60.0, 1)


def test_what_is_wrong_is_not_asked_twice(busy) -> None:
    for status in (400, 401, 403, 404, 422, 500):
        url, seen = busy(lambda n, status=status: (status, {}, ["no problem document"]))
        with pytest.raises(Refused):
            Aisle(url).popular()
        assert len(seen) == 1


def test_a_broken_connection_is_opened_anew(busy) -> None:
    url, seen = busy(lambda n: (0, {}, None) if n < 3 else (202, {}, {"accepted": 1}))
    assert Aisle(url).track({"event_type": "view"})["accepted"] == 1
    assert len(seen) == 3


def test_who_does_not_answer_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(AisleUnreachable, match=r"127\.0\.0\.1:9"):
        Aisle("http://127.0.0.1:9", patience_seconds=0.5).popular()
    assert time.monotonic() - started < 3
    with pytest.raises(ValueError, match="no http"):
        Aisle("shop.example")
