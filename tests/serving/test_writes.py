"""Writing through the API: what is accepted counts in the next answer; what is not is told, every fault of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

EVENT = {"event_type": "view", "user_id": "w001", "item_id": "i001"}
numbers = itertools.count()


@pytest.fixture
def fresh() -> str:
    """A user or session that no other test knows."""
    return f"fresh-{next(numbers)}"


def asked(api: httpx.Client, **params: object) -> dict:
    answer = api.get("/v1/recommendations", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(api: httpx.Client, **params: object) -> list[str]:
    return [item["item_id"] for item in asked(api, k=40, **params)["items"]]


def test_one_event_and_a_list_are_taken(api: httpx.Client) -> None:
    one = api.post("/v1/events", json=EVENT)
    assert (one.status_code, one.json()) == (202, {"accepted": 1, "duplicates": 0, "refused": []})
    assert api.post("/v1/events", json=[EVENT, {**EVENT, "event_type": "click"}]).json()["accepted"] == 2


def test_a_repeated_id_counts_once(api: httpx.Client, fresh: str) -> None:
    event = {**EVENT, "event_id": fresh}
    assert api.post("/v1/events", json=[event, event]).json() == {
        "accepted": 1,
        "duplicates": 1,
        "refused": [],
    }
    again = api.post("/v1/events", json=event)
    assert (again.status_code, again.json()["accepted"], again.json()["duplicates"]) == (202, 0, 1)


def test_an_event_without_an_id_is_known_by_what_it_says(api: httpx.Client, fresh: str) -> None:
    event = {**EVENT, "user_id": fresh, "event_time": "2026-11-25T08:30:00Z"}
    assert api.post("/v1/events", json=event).json()["accepted"] == 1
    assert api.post("/v1/events", json=event).json()["duplicates"] == 1
    assert api.post("/v1/events", json={**event, "item_id": "i002"}).json()["accepted"] == 1
    del event["event_time"]  # two of these are two
    assert api.post("/v1/events", json=[event, event]).json()["accepted"] == 2


def test_good_rows_are_taken_and_bad_ones_told(api: httpx.Client) -> None:
    bad = {"event_type": "stare", "user_id": "a\0b", "quantity": -1, "colour": "red"}
    answer = api.post("/v1/events", json=[EVENT, bad, EVENT])
    assert answer.status_code == 207
    assert answer.json()["accepted"] == 2
    (refused,) = answer.json()["refused"]
    assert refused["index"] == 1
    assert {fault["where"] for fault in refused["errors"]} == {
        "event_type",
        "user_id",
        "quantity",
        "colour",
        "item_id",
    }


def test_nothing_but_bad_rows_is_a_problem_with_every_fault(api: httpx.Client) -> None:
    answer = api.post(
        "/v1/events",
        json=[
            {"event_type": "view"},
            {"event_type": "rating", **EVENT, "value": None} | {"event_type": "rating"},
        ],
    )
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [fault["where"] for fault in problem["errors"]] == [
        "body.0.user_id",
        "body.0.item_id",
        "body.1.value",
    ]


FAR = (datetime.now(UTC) + timedelta(days=3)).isoformat()
WRONG = [
    (b"", "body"),
    (b"{", "body"),
    (b"\xff\xfe", "body"),
    (b"[" * 100_000, "body"),
    (b'{"a":' * 50_000, "body"),
    (b'{"price": NaN}', "body"),
    (b"[]", "body"),
    (b"null", "body.row"),
    (b"7", "body.row"),
    (b'"view"', "body.row"),
    (b"[[]]", "body.0.row"),
    (json.dumps({**EVENT, "quantity": 10**400}).encode(), "body.quantity"),
    (b'{"event_type": "purchase", "user_id": "u", "item_id": "i", "price": 1e999}', "body.price"),
    (
        b'{"event_type": "view", "user_id": "u", "item_id": "i", "position": 99999999999999999999}',
        "body.position",
    ),
    (json.dumps({**EVENT, "event_time": FAR}).encode(), "body.event_time"),
    (json.dumps({**EVENT, "event_time": "9999-12-31T23:59:59-12:00"}).encode(), "body.event_time"),
    (json.dumps({**EVENT, "event_time": "1970-01-01T00:00:00Z"}).encode(), "body.event_time"),
    (json.dumps({**EVENT, "event_time": 1764059400}).encode(), "body.event_time"),
    (json.dumps({**EVENT, "event_time": "12:50"}).encode(), "body.event_time"),
    (json.dumps({**EVENT, "item_id": "a\0b"}).encode(), "body.item_id"),
    (json.dumps({**EVENT, "item_id": "x" * 257}).encode(), "body.item_id"),
    (json.dumps({**EVENT, "item_id": 7}).encode(), "body.item_id"),
    (json.dumps({**EVENT, "item_id": " "}).encode(), "body.item_id"),
    (b'{"event_type": "view", "user_id": "u", "item_id": "\\ud800"}', "body"),
    (json.dumps({**EVENT, "properties": {"a": "b\0"}}).encode(), "body.properties.a"),
    (json.dumps({**EVENT, "properties": {"a": {"b": {}}}}).encode(), "body.properties.a"),
    (json.dumps({**EVENT, "event_type": "purchase", "price": 0}).encode(), "body.price"),
    (json.dumps({**EVENT, "event_type": "return", "price": 0.004}).encode(), "body.price"),
    (json.dumps({**EVENT, "a\0b": 1}).encode(), "body.a\\x00b"),
]


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/beacon"])
@pytest.mark.parametrize(("body", "where"), WRONG, ids=range(len(WRONG)))
def test_bad_input_is_told(api: httpx.Client, path: str, body: bytes, where: str) -> None:
    answer = api.post(path, content=body)
    assert answer.status_code in ((400, 422) if where == "body" else (422,)), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 5000
    if where != "body":  # what is no JSON may be turned away at the door already
        assert [fault["where"] for fault in answer.json()["errors"]] == [where]


@pytest.mark.parametrize(
    "path", ["/v1/events", "/v1/items", "/v1/stock", "/v1/users", "/v1/users/u/preferences"]
)
def test_what_is_too_much_is_turned_away(api: httpx.Client, path: str) -> None:
    large = b'[{"event_type": "view", "query": "' + b"x" * 1_048_576 + b'"}]'
    assert api.post(path, content=large).status_code == 413
    many = api.post(path, json=[{}] * 1001)
    assert many.status_code == 413
    assert "writes.max_batch = 1,000" in many.json()["detail"]


def test_a_beacon_is_plain_text_and_gets_no_answer(api: httpx.Client, fresh: str) -> None:
    body = json.dumps([{**EVENT, "user_id": fresh, "event_type": "purchase"}])
    answer = api.post("/v1/events/beacon", content=body, headers={"Content-Type": "text/plain;charset=UTF-8"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert asked(api, user_id=fresh)["rung"] != "popular"


def test_the_next_answer_knows_the_event(api: httpx.Client, fresh: str) -> None:
    before = asked(api, session_id=fresh)
    assert before["rung"] == "popular"
    api.post("/v1/events", json={"event_type": "purchase", "session_id": fresh, "item_id": "i003"})
    after = asked(api, session_id=fresh)
    assert after["rung"] not in ("popular", "segment")
    assert after["items"] != before["items"]


def test_a_session_is_its_users_once_they_are_known(api: httpx.Client, fresh: str) -> None:
    session, user = f"s-{fresh}", f"u-{fresh}"
    api.post("/v1/events", json={"event_type": "purchase", "session_id": session, "item_id": "i005"})
    assert asked(api, user_id=user)["rung"] == "popular"
    api.post(
        "/v1/events", json={"event_type": "search", "session_id": session, "user_id": user, "query": "x"}
    )
    assert asked(api, user_id=user)["items"] == asked(api, session_id=session)["items"]
    assert asked(api, user_id=user)["rung"] != "popular"
    other = asked(api, user_id=f"other-{fresh}", session_id=session)
    assert other["rung"] == "popular"  # somebody else's session says nothing of them


def test_a_click_of_today_does_not_age_what_was_bought(api: httpx.Client) -> None:
    """The shop's data ends in 2011, and the answers' clock with it."""
    before = listed(api, user_id="u010")
    api.post("/v1/events", json={"event_type": "view", "user_id": "u010", "item_id": before[5]})
    after = listed(api, user_id="u010")
    assert len(set(before[:10]) & set(after[:10])) >= 7


@pytest.mark.parametrize("said", ["hide", "dislike"])
def test_what_is_hidden_is_gone_until_it_is_taken_back(api: httpx.Client, fresh: str, said: str) -> None:
    api.post("/v1/events", json={"event_type": "purchase", "user_id": fresh, "item_id": "i007"})
    path = f"/v1/users/{fresh}/preferences"
    assert "i008" in listed(api, user_id=fresh)
    assert api.post(path, json={"item_id": "i008", "preference": said}).status_code == 202
    assert "i008" not in listed(api, user_id=fresh)
    assert api.get(path).json() == {"user_id": fresh, "like": [], "dislike": [], "hide": [], said: ["i008"]}
    api.post(path, json={"item_id": "i008", "preference": "undo"})
    assert "i008" in listed(api, user_id=fresh)
    assert api.get(path).json()[said] == []


def test_preferences_are_listed_by_the_last_word(api: httpx.Client, fresh: str) -> None:
    path = f"/v1/users/{fresh}/preferences"
    said = [("i001", "like"), ("i002", "hide"), ("i001", "hide"), ("i003", "like")]
    rows = [{"item_id": item, "preference": word} for item, word in said]
    assert api.post(path, json=rows).json()["accepted"] == 4
    assert api.get(path).json() == {
        "user_id": fresh,
        "like": ["i003"],
        "dislike": [],
        "hide": ["i001", "i002"],
    }
    wrong = api.post(path, json=[{"item_id": "i001", "preference": "adore"}, {}])
    assert wrong.status_code == 422
    assert {fault["where"] for fault in wrong.json()["errors"]} == {
        "body.0.preference",
        "body.1.item_id",
        "body.1.preference",
    }


def test_a_review_is_a_rating_with_words(api: httpx.Client, fresh: str) -> None:
    review = {"user_id": fresh, "value": 4.5, "title": "Bright", "text": "The children love it"}
    assert api.post("/v1/items/i004/reviews", json=review).status_code == 202
    (event,) = api.get(f"/v1/users/{fresh}/export").json()["events"]
    assert (event["event_type"], event["value"], event["item_id"]) == ("rating", 4.5, "i004")
    assert event["properties"] == {"title": "Bright", "text": "The children love it"}
    assert api.post("/v1/items/i004/reviews", json={"user_id": fresh}).status_code == 422


@pytest.mark.parametrize(
    "send",
    [
        lambda api: api.put("/v1/items/none/stock", json={"stock": 3}),
        lambda api: api.patch("/v1/items/none", json={"price": 3}),
        lambda api: api.delete("/v1/items/none"),
        lambda api: api.post("/v1/stock", json={"item_id": "none", "stock": 3}),
    ],
)
def test_an_item_that_nobody_knows_cannot_be_changed(
    api: httpx.Client, send: Callable[[httpx.Client], httpx.Response]
) -> None:
    answer = send(api)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("PUT", "/v1/items/i001", {}, {"body.title"}),
        ("PUT", "/v1/items/i001", {"title": "x", "item_id": "i001"}, {"body.item_id"}),
        (
            "PUT",
            "/v1/items/i001",
            {"title": "x\0", "price": 0, "stock": -1},
            {"body.title", "body.price", "body.stock"},
        ),
        ("PATCH", "/v1/items/i001", {}, {"body"}),
        ("PATCH", "/v1/items/i001", {"price": 0.001}, {"body.price"}),
        ("PATCH", "/v1/items/i001", {"stock": 2**31}, {"body.stock"}),
        (
            "PATCH",
            "/v1/items/i001",
            {"currency": "pounds", "image_url": "javascript:x"},
            {"body.currency", "body.image_url"},
        ),
        ("PUT", "/v1/items/i001/stock", {"stock": "3"}, {"body.stock"}),
        ("POST", "/v1/items", [{}], {"body.0.item_id", "body.0.title"}),
        ("POST", "/v1/stock", {}, {"body.item_id", "body.stock"}),
        ("POST", "/v1/users", {"consent": "no"}, {"body.user_id", "body.consent"}),
        ("PATCH", "/v1/users/u001", {"country": 7}, {"body.country"}),
    ],
)
def test_bad_changes_are_told(
    api: httpx.Client, method: str, path: str, body: object, where: set[str]
) -> None:
    answer = api.request(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert {fault["where"] for fault in answer.json()["errors"]} == where


def test_ids_in_paths_are_judged(api: httpx.Client) -> None:
    assert api.put("/v1/items/a%00b", json={"title": "x"}).status_code == 422
    assert api.delete(f"/v1/users/{'x' * 300}").status_code == 422


def test_the_document_shows_the_bodies(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    for path, method in (
        ("/v1/events", "post"),
        ("/v1/items/{item_id}", "put"),
        ("/v1/users/{user_id}/preferences", "post"),
    ):
        content = paths[path][method]["requestBody"]["content"]["application/json"]
        assert content["schema"]
        assert {"422", "503"} <= set(paths[path][method]["responses"])
