"""A thin client of Aisle's API, for a shop's backend. One file and the standard library: copy it, or `pip install clients/python`.

    from aisle_client import Aisle

    aisle = Aisle("http://127.0.0.1:8000", key)
    for item in aisle.recommend(user_id="12347", k=5).items:
        print(item.title, item.why)
    aisle.track({"event_type": "view", "user_id": "12347", "item_id": "22423"})

A connection per thread is kept open. When the API says 429 or 503 and when to come back, or a connection breaks, the question is
asked again while `patience_seconds` last; events get an `event_id` first, so that one that was sent twice counts once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

__all__ = ["Aisle", "AisleUnreachable", "Answer", "Hit", "Item", "Refused", "SearchAnswer", "user_token"]
AGAIN = (429, 503)
Row = Mapping[str, Any]


def user_token(secret: str, user_id: str, hours: float = 12.0) -> str:
    """What a page of yours sends as X-User-Token beside its public key, to ask for the user whom you have logged in.

    secret: of `aisle keys user-secret`; it stays on your server. hours: until the page needs another one, at most 720.
    """

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    if not 0 < hours <= 720 or not user_id.strip():
        raise ValueError(f"a token is for a user and up to 720 hours, not for {user_id!r} and {hours:g}")
    body = f"u1.{text(user_id.encode())}.{int(time.time() + hours * 3600)}"
    return f"{body}.{text(hmac.new(bytes.fromhex(secret), body.encode(), hashlib.sha256).digest())}"


class AisleUnreachable(Exception):
    """No answer within the client's patience; `__cause__` says what the last try met."""


class Refused(Exception):
    """The API answered with a problem document (RFC 9457).

    status: of HTTP. kind: the end of its type, such as "invalid-request". errors: every fault, {"where", "detail", "value"}.
    retry_after: seconds, where it said so.
    """

    def __init__(self, status: int, problem: Row, retry_after: float | None = None):
        self.status, self.problem, self.retry_after = status, dict(problem), retry_after
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        self.errors: list[dict[str, Any]] = list(problem.get("errors") or [])
        super().__init__(
            f"{status} {self.kind}: {problem.get('detail', '')} (request {problem.get('request_id')})"
        )


@dataclass(frozen=True)
class Item:
    """An item of a list. why: the reason in words. score: compares within one list only."""

    item_id: str
    title: str
    price: float | None
    position: int
    score: float
    why: str
    reason: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A list. request_id: send it along with impressions and clicks. rung: what the list went by. raw: the whole answer."""

    request_id: str
    model_version: str
    rung: str
    items: list[Item]
    next_page: int | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Answer:
        items = [
            Item(
                each["item_id"],
                each["title"],
                each.get("price"),
                each.get("position", place),
                each["score"],
                each["reason"]["text"],
                each["reason"],
            )
            for place, each in enumerate(raw["items"], 1)
        ]
        return cls(raw["request_id"], raw["model_version"], raw["rung"], items, raw.get("next_page"), raw)


@dataclass(frozen=True)
class Hit:
    """An item that a search found. score: text_share and preference_share. matched: [{"word", "as", "how", "in"}]."""

    item_id: str
    title: str
    price: float | None
    position: int
    score: float
    text_share: float
    preference_share: float
    matched: list[dict[str, str]]


@dataclass(frozen=True)
class SearchAnswer:
    """What a text finds. total: items that were found; facets: counts over all of them. corrected: the text as it was understood,
    where that is another one. suggestion, note: where nothing was found, what may have been meant, and why. raw: the whole answer.
    """

    request_id: str
    model_version: str
    rung: str
    query: str
    corrected: str | None
    suggestion: str | None
    note: str | None
    total: int
    facets: dict[str, Any]
    items: list[Hit]
    next_page: int | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> SearchAnswer:
        items = [
            Hit(
                each["item_id"],
                each["title"],
                each.get("price"),
                each["position"],
                each["score"],
                each["text"]["share"] if each["text"] else 0.0,
                each["preference"]["share"],
                each["matched"],
            )
            for each in raw["items"]
        ]
        names = ("request_id", "model_version", "rung", "query", "corrected", "suggestion", "note", "total")
        return cls(*(raw[name] for name in names), raw["facets"], items, raw.get("next_page"), raw)


class Aisle:
    """url: of the API. key: of `aisle keys`; server keys belong in a backend, never in a page.

    timeout: seconds for one try. patience_seconds: for all tries of one question, waiting included; 0: a single try.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 2.0, patience_seconds: float = 5.0):
        parts = urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http(s) address of an API")
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path
        self._secure = parts.scheme == "https"
        self._key, self.timeout, self.patience_seconds = key, timeout, patience_seconds
        self._held = threading.local()

    # -- lists

    def recommend(self, user_id: str | None = None, session_id: str | None = None, **asked: Any) -> Answer:
        """For a user or session; also item_id, basket, category, country, placement, k, rules, page and request_id."""
        return self._list("recommendations", user_id=user_id, session_id=session_id, **asked)

    def similar(self, item_id: str, **asked: Any) -> Answer:
        return self._list("similar", item_id=item_id, **asked)

    def together(self, item_id: str | None = None, basket: Sequence[str] = (), **asked: Any) -> Answer:
        """What is bought together with an item or a basket."""
        return self._list("together", item_id=item_id, basket=list(basket) or None, **asked)

    def popular(self, **asked: Any) -> Answer:
        return self._list("popular", **asked)

    def trending(self, **asked: Any) -> Answer:
        return self._list("trending", **asked)

    def search(
        self, q: str = "", user_id: str | None = None, session_id: str | None = None, **asked: Any
    ) -> SearchAnswer:
        """Items that a text finds; without one, all that the filters let through, by preference.

        Also category, country, placement, k, typing, rules, page and request_id.
        """
        body = {"q": q, "user_id": user_id, "session_id": session_id, **asked}
        return SearchAnswer.of(self.request("POST", "/v1/search", _given(body)))

    def batch(self, users: Sequence[str], **asked: Any) -> dict[str, Answer]:
        """Lists of many users, by user."""
        found = self.request("POST", "/v1/recommendations/batch", {"users": list(users), **_given(asked)})
        return dict(zip(found["users"], map(Answer.of, found["answers"]), strict=True))

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL query. Raises Refused with the first error's problem where it has errors."""
        found = self.request("POST", "/v1/graphql", {"query": query, "variables": variables})
        if found.get("errors"):
            problem = found["errors"][0].get("extensions", {}).get("problem", {})
            raise Refused(int(problem.get("status", 400)), problem)
        return found["data"]

    # -- what the shop tells

    def track(self, events: Row | Iterable[Row]) -> dict[str, Any]:
        """One event or many: {"accepted", "duplicates", "refused"}."""
        rows = [events] if isinstance(events, Mapping) else list(events)
        named = [{"event_id": uuid.uuid4().hex, **row} for row in rows]
        return self.request("POST", "/v1/events", named)

    def upsert_items(self, items: Iterable[Row]) -> dict[str, Any]:
        return self.request("POST", "/v1/items", list(items))

    def patch_item(self, item_id: str, **changes: Any) -> dict[str, Any]:
        return self.request("PATCH", f"/v1/items/{_part(item_id)}", changes)

    def delete_item(self, item_id: str) -> dict[str, Any]:
        return self.request("DELETE", f"/v1/items/{_part(item_id)}")

    def set_stock(self, stock: Mapping[str, int]) -> dict[str, Any]:
        """Pieces there are, by item."""
        return self.request("POST", "/v1/stock", [{"item_id": item, "stock": n} for item, n in stock.items()])

    def upsert_users(self, users: Iterable[Row]) -> dict[str, Any]:
        return self.request("POST", "/v1/users", list(users))

    def prefer(self, user_id: str, item_id: str, preference: str) -> dict[str, Any]:
        """preference: like, dislike, hide, or undo."""
        row = {"event_id": uuid.uuid4().hex, "item_id": item_id, "preference": preference}
        return self.request("POST", f"/v1/users/{_part(user_id)}/preferences", row)

    def rate(self, user_id: str, item_id: str, value: float, **words: Any) -> dict[str, Any]:
        """What a user thinks of an item now, on the shop's scale; also title and text."""
        row = {"event_id": uuid.uuid4().hex, "value": value, **words}
        return self.request("PUT", f"/v1/items/{_part(item_id)}/reviews/{_part(user_id)}", row)

    def revise(self, user_id: str, item_id: str, **changes: Any) -> dict[str, Any]:
        """What changes of the user's review: value, title, text; None clears a title or text, the rest stays."""
        return self.request("PATCH", f"/v1/items/{_part(item_id)}/reviews/{_part(user_id)}", changes)

    def unrate(self, user_id: str, item_id: str) -> dict[str, Any]:
        """Takes the user's rating of the item back."""
        return self.request("DELETE", f"/v1/items/{_part(item_id)}/reviews/{_part(user_id)}")

    # -- single things

    def item(self, item_id: str) -> dict[str, Any]:
        return self.request("GET", f"/v1/items/{_part(item_id)}")

    def history(self, user_id: str) -> dict[str, Any]:
        return self.request("GET", f"/v1/users/{_part(user_id)}/history")

    def export_user(self, user_id: str) -> dict[str, Any]:
        """All that is known of a person."""
        return self.request("GET", f"/v1/users/{_part(user_id)}/export")

    def erase_user(self, user_id: str) -> dict[str, Any]:
        return self.request("DELETE", f"/v1/users/{_part(user_id)}")

    def ready(self) -> dict[str, Any]:
        return self.request("GET", "/readyz")

    # -- how it is asked

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """JSON of any path. Raises Refused, AisleUnreachable."""
        target = f"{self._prefix}{path}" + (f"?{urlencode(_given(query), doseq=True)}" if query else "")
        sent = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        end, tries = time.monotonic() + self.patience_seconds, 0
        while True:
            tries += 1
            wait = min(0.05 * 2**tries, 1.0)
            try:
                status, again, text = self._once(method, target, sent)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                wait *= random.uniform(0.5, 1.5)
                if time.monotonic() + wait > end:
                    where = f"{self._host}:{self._port or ('443' if self._secure else '80')}"
                    raise AisleUnreachable(f"no answer from {where} after {tries} tries") from error
            else:
                if status < 400:
                    return json.loads(text) if text else None
                wait = (again if again is not None else wait) * random.uniform(1.0, 1.2)
                if status not in AGAIN or time.monotonic() + wait > end:
                    raise Refused(status, _problem(text), again)
            time.sleep(wait)

    def close(self) -> None:
        """Closes this thread's connection; the next question opens another."""
        connection = self._held.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def __enter__(self) -> Aisle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _once(self, method: str, target: str, body: bytes | None) -> tuple[int, float | None, bytes]:
        connection = self._connection()
        headers = {"Accept": "application/json", **({"X-API-Key": self._key} if self._key else {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        again = answer.headers.get("Retry-After", "")
        return answer.status, float(again) if again.isdigit() else None, text

    def _connection(self) -> http.client.HTTPConnection:
        held = getattr(self._held, "connection", None)
        if held is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            held = self._held.connection = kind(self._host, self._port, timeout=self.timeout)
            held.connect()
            held.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return held

    def _list(self, kind: str, **asked: Any) -> Answer:
        return Answer.of(self.request("POST", f"/v1/{kind}", _given(asked)))


def _given(asked: Row) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _part(text: str) -> str:
    """An id as one part of a path."""
    return quote(text, safe="")


def _problem(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"detail": text[:200].decode(errors="replace")}
