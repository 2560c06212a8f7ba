"""The straight way of a question says what FastAPI says, to the byte where it can be: answers, problems, headers and log lines."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from aisle import settings as settings_module
from aisle.checked import of_sound
from serving.asking import bodies
from serving.straight import Straight, ways

ASK = "/v1/recommendations"
STRAIGHT = {"content-type": "application/json"}
BY_FASTAPI = {"content-type": "application/json;charset=utf-8"}  # the same said in more words
BY_ITS_PATH = {**STRAIGHT, "origin": "https://elsewhere.test"}  # what a page asks has no short cut

BODIES: list[tuple[str, bytes]] = [
    (ASK, b'{"user_id": "u001", "k": 3}'),
    (ASK, b'{"user_id": "u001", "k": 3, "rules": {"in_stock": true, "price": {"max": 12}}}'),
    (ASK, b'{"session_id": "s", "country": "France"}'),
    (ASK, b'{"user_id": "u001", "k": 3, "k": 4}'),
    (ASK, '{"user_id": "u001", "country": "Österreich \U0001f6d2"}'.encode()),
    (ASK, '{"user_id": "u001"}'.encode("utf-16")),
    (ASK, b"\xef\xbb\xbf{}"),
    (ASK, b"{}"),
    (ASK, b""),
    (ASK, b" "),
    (ASK, b"null"),
    (ASK, b"[]"),
    (ASK, b'"text"'),
    (ASK, b"{"),
    (ASK, b'{"k": 3,}'),
    (ASK, b'{"user_id": "a\x00b"}'),
    (ASK, b'{"user_id": "a\\u0000b"}'),
    (ASK, b'{"user_id": "\\ud800"}'),
    (ASK, b'{"user_id": "\xff"}'),
    (ASK, b'{"k": 0, "page": 0, "nobody": 1, "rules": {"price": {"min": 3, "max": 2}}}'),
    (ASK, b'{"k": NaN}'),
    (ASK, b'{"k": 1e400}'),
    (ASK, b'{"k": 123456789012345678901234567890}'),
    (ASK, b'{"page": 2}'),
    (ASK, b'{"page": 2, "request_id": "nobody kept this"}'),
    (ASK, b'{"item_id": "i001", "basket": ["i002"]}'),
    (ASK, b'{"k": 0, "item_id": "i001", "basket": ["i002"], "page": 2}'),
    (ASK, b'{"rules": {"pins": [{"item_id": "a", "position": 1}], "exclude": ["a"], "caps": {"brand": 0}}}'),
    (ASK, b'{"category": "no such category"}'),
    (ASK + "?k=3", b"{}"),
    ("/v1/recommendations/batch", b'{"users": ["u001", "u002"], "k": 2}'),
    ("/v1/recommendations/batch", b'{"users": []}'),
    ("/v1/similar", b'{"item_id": "i001", "k": 2}'),
    ("/v1/similar", b'{"item_id": "no such item"}'),
    ("/v1/similar", b"{}"),
    ("/v1/similar", b'{"page": 2}'),
    ("/v1/together", b'{"basket": ["i001"], "k": 2}'),
    ("/v1/together", b'{"k": 0}'),
    ("/v1/together", b'{"page": 2, "request_id": "nobody kept this"}'),
    ("/v1/popular", b'{"k": 2, "country": "France"}'),
    ("/v1/trending", b'{"k": 2}'),
]


def asked(api: httpx.Client, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, list]:
    """(status, document, headers but for the date) of a request with an id of its own."""
    found = api.post(path, content=body, headers={**headers, "x-request-id": "same"})
    told = [(name, value) for name, value in found.headers.multi_items() if name not in ("date",)]
    return found.status_code, found.json(), told


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_every_body_is_answered_the_same_on_both_ways(api: httpx.Client, path: str, body: bytes) -> None:
    straight, other = (asked(api, path, body, each) for each in (STRAIGHT, BY_FASTAPI))
    assert straight == other
    assert straight[0] in (200, 400, 404, 422)
    of_page = asked(api, path, body, BY_ITS_PATH)
    assert of_page[:2] == straight[:2]
    assert sorted(of_page[2]) == sorted(
        [*straight[2], ("access-control-expose-headers", "ETag, Retry-After, X-Request-ID")]
    )


@pytest.mark.parametrize(
    "more", [b"", b', "k": 3', b', "k": 4, "rules": {"in_stock": true}', b', "rules": {}']
)
def test_a_further_page_is_judged_the_same_on_both_ways(api: httpx.Client, more: bytes) -> None:
    first = api.post(ASK, json={"user_id": "u001", "k": 3}).json()["request_id"].encode()
    body = b'{"user_id": "u001", "page": 2, "request_id": "' + first + b'"' + more + b"}"
    straight, other = (asked(api, ASK, body, each) for each in (STRAIGHT, BY_FASTAPI))
    assert straight == other
    assert straight[0] == (422 if b"4" in more else 200)


def test_what_is_said_of_a_list(api: httpx.Client) -> None:
    status, document, headers = asked(api, ASK, b'{"user_id": "u001", "k": 3}', STRAIGHT)
    assert (status, document["request_id"], len(document["items"])) == (200, "same", 3)
    assert headers[1:] == [
        ("content-length", headers[1][1]),
        ("content-type", "application/json"),
        ("vary", "Origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("referrer-policy", "same-origin"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("x-request-id", "same"),
    ]
    assert headers[0] == ("cache-control", "private, no-cache")


@pytest.mark.parametrize("path", ["/v1%2Frecommendations", "/v1/%72ecommendations", "/v1/recommendations/"])
def test_a_path_that_is_written_otherwise_is_looked_for(api: httpx.Client, path: str) -> None:
    """As before there was a short cut: an encoded slash is none, an encoded letter is one, a slash too many is told."""
    found = api.post(path, json={"k": 1}, follow_redirects=False)
    assert found.status_code == {"/v1%2Frecommendations": 404, "/v1/%72ecommendations": 200}.get(path, 307)


@pytest.mark.parametrize(("headers", "status"), [({"x-api-key": "aisle_server_no_key"}, 401), ({}, 200)])
def test_the_door_is_before_it(api: httpx.Client, headers: dict[str, str], status: int) -> None:
    assert api.post(ASK, json={"k": 1}, headers=headers).status_code == status


def test_all_posted_questions_about_lists_go_straight(api: httpx.Client) -> None:
    from serving.app import create_app

    app = create_app(settings_module.load())
    assert {path.decode() for _, path in ways(app)} == {
        ASK,
        f"{ASK}/batch",
        *(f"/v1/{kind}" for kind in ("similar", "together", "popular", "trending")),
    }
    assert all(isinstance(route, Straight) for route, _ in ways(app).values())


VALUES = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "5.0",
    "5.5",
    "1e400",
    "-1e400",
    "NaN",
    "123456789012345678901234567890",
    '""',
    '"5"',
    '"true"',
    '"i001"',
    '"\\u0000"',
    '"\\ud83d\\ude00"',
    "[]",
    '["i001"]',
    '["i001",5]',
    "[[]]",
    "{}",
    '{"a":1}',
    '{"min":1}',
    '{"max":"3"}',
    '{"min":NaN}',
    '{"include":["a"]}',
    '{"include":"a"}',
    '{"brand":2}',
    '{"event_types":["purchase"],"days":3}',
    '[{"item_id":"i001","position":1}]',
    '[{"column":"brand","value":"b","times":2}]',
]


def test_whatever_is_taken_is_taken_as_the_same() -> None:
    """JSON as the straight way reads it, as pydantic does, and what Python makes of it: what is a question for one is for all, and the
    same one."""
    model = bodies(settings_module.load()).RecommendationQuestion
    rules = model.model_fields["rules"].annotation.model_fields
    fields = [(name, '{"%s": %s}') for name in model.model_fields]
    fields += [(name, '{"rules": {"%s": %s}}') for name in rules]
    taken, sound = 0, of_sound(model)
    for (name, text), value in itertools.product(fields, VALUES):
        body = (text % (name, value)).encode()
        try:
            straight = sound.validate_json(body)
        except ValidationError:
            with pytest.raises(ValidationError):
                model.model_validate_json(body)
            continue
        taken += 1
        slower = model.model_validate_json(body)
        assert straight == slower == model.model_validate(json.loads(body)), body
        assert straight.model_fields_set == slower.model_fields_set
        assert straight.rules.model_fields_set == slower.rules.model_fields_set
    assert taken > 50
