"""The API's contract: what it answers, and how it refuses."""

from __future__ import annotations

import json
from urllib.parse import quote

import httpx
import pytest

PLAIN = "/v1/recommendations"


def test_an_unknown_user_gets_what_is_popular_in_their_country(api: httpx.Client) -> None:
    answer = api.get(PLAIN, params={"user_id": "nobody", "country": "France", "k": 5}).json()
    assert answer["rung"] == "segment"
    assert answer["model_version"] == "1"
    assert len(answer["items"]) == 5
    assert all(
        item["title"] and item["reason"]["text"] and item["reason"]["source"] for item in answer["items"]
    )
    assert len({item["item_id"] for item in answer["items"]}) == 5


@pytest.mark.parametrize(
    "params", [{}, {"country": "Atlantis"}, {"user_id": "nobody"}, {"session_id": "s-1"}]
)
def test_a_stranger_gets_what_is_popular(api: httpx.Client, params: dict) -> None:
    answer = api.get(PLAIN, params=params).json()
    assert answer["rung"] == "popular"
    assert len(answer["items"]) == 10


def test_a_known_user_gets_their_own(api: httpx.Client) -> None:
    answer = api.get(PLAIN, params={"user_id": "u001"}).json()
    assert answer["rung"] == "personalised"
    assert answer["items"] != api.get(PLAIN, params={"user_id": "u004"}).json()["items"]
    assert [item["score"] for item in answer["items"]] == sorted(
        (item["score"] for item in answer["items"]), reverse=True
    )


def test_never_fewer_than_there_are_items(api: httpx.Client) -> None:
    assert len(api.get(PLAIN, params={"user_id": "u001", "k": 100}).json()["items"]) == 40


def test_a_history_has_titles_and_is_newest_first(api: httpx.Client) -> None:
    history = api.get("/v1/users/u001/history").json()
    times = [event["event_time"] for event in history["events"]]
    assert history["country"] == "Germany"
    assert times
    assert times == sorted(times, reverse=True)
    assert all(event["title"].startswith("TITLE") for event in history["events"])
    assert api.get("/v1/users/nobody/history").json()["events"] == []


def test_items(api: httpx.Client) -> None:
    item = api.get("/v1/items/i001").json()
    assert (item["title"], item["categories"]) == ("TITLE <b>1</b> & CO", ["c1"])
    similar = api.get("/v1/items/i001/similar", params={"k": 4}).json()
    assert len(similar["items"]) == 4
    assert "i001" not in {each["item_id"] for each in similar["items"]}


@pytest.mark.parametrize("path", ["/v1/items/none", "/v1/items/none/similar", "/v1/nothing", "/v2"])
def test_what_is_not_there_is_a_problem(api: httpx.Client, path: str) -> None:
    refused(api.get(path), 404)


@pytest.mark.parametrize(
    ("params", "faults"),
    [
        ({"k": 0}, {"query.k"}),
        ({"k": 10**9}, {"query.k"}),
        ({"k": "1e9"}, {"query.k"}),
        ({"k": "9" * 5000}, {"query.k"}),
        ({"user_id": "a\0b"}, {"query.user_id"}),
        ({"user_id": ""}, {"query.user_id"}),
        ({"user_id": "x" * 10_000}, {"query.user_id"}),
        ({"usr": "1"}, {"query.usr"}),
        ({"user_id": "\x07", "k": -3, "country": "y" * 999}, {"query.user_id", "query.k", "query.country"}),
    ],
)
def test_every_fault_is_listed(api: httpx.Client, params: dict, faults: set[str]) -> None:
    problem = refused(api.get(PLAIN, params=params), 422)
    assert {fault["where"] for fault in problem["errors"]} == faults
    assert len(json.dumps(problem)) < 3000


@pytest.mark.parametrize("user", ["Zoë", "用户-1", "🛒", "a b", "<script>", "'; DROP TABLE users--", "%00%"])
def test_ids_of_any_script_are_answered(api: httpx.Client, user: str) -> None:
    assert api.get(PLAIN, params={"user_id": user}).status_code == 200
    assert api.get(f"/v1/users/{quote(user, safe='')}/history").status_code == 200


def test_bad_ids_in_a_path(api: httpx.Client) -> None:
    refused(api.get("/v1/items/a%00b"), 422)
    refused(api.get(f"/v1/items/{'x' * 10_000}/similar"), 422)


@pytest.mark.parametrize(
    "path", [PLAIN, "/v1/items/i001", "/v1/items/i001/similar", "/v1/users/u001/history"]
)
def test_an_unknown_parameter_is_told_everywhere(api: httpx.Client, path: str) -> None:
    problem = refused(api.get(path, params={"limit": "3"}), 422)
    assert [fault["where"] for fault in problem["errors"]] == ["query.limit"]


def test_a_wrong_method_is_a_problem(api: httpx.Client) -> None:
    assert refused(api.delete(PLAIN), 405)["type"] == "urn:aisle:problem:no-such-method"


def test_the_reference_and_the_icon_come_from_here(api: httpx.Client) -> None:
    page = api.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for name, kind in (
        ("docs/files/swagger-ui-bundle.js", "javascript"),
        ("docs/files/swagger-ui.css", "css"),
        ("favicon.ico", "svg"),
    ):
        assert name in page
        answer = api.get(f"/{name}")
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
    refused(api.get("/redoc"), 404)


def test_the_request_id_is_the_callers_where_it_is_plain(api: httpx.Client) -> None:
    own = api.get(PLAIN, headers={"X-Request-ID": "abc-1"})
    assert own.json()["request_id"] == own.headers["x-request-id"] == "abc-1"
    forged = api.get(PLAIN, headers={"X-Request-ID": 'a"} {"level": "x'})
    assert forged.json()["request_id"] == forged.headers["x-request-id"] != 'a"} {"level": "x'


def test_the_page_escapes_what_it_shows(api: httpx.Client) -> None:
    page = api.get("/", params={"user_id": "u001"})
    assert page.status_code == 200
    assert "TITLE &lt;b&gt;" in page.text
    assert "<b>" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for wrong in ("<script>alert(1)</script>", "\0", "x" * 10_000, '" autofocus onfocus="x'):
        page = api.get("/", params={"user_id": wrong})
        assert page.status_code == 200
        assert "<script" not in page.text
        assert 'onfocus="x' not in page.text


def test_figures_and_documents(api: httpx.Client) -> None:
    api.get(PLAIN)
    figures = api.get("/metrics").text
    assert 'aisle_answer_seconds_count{rung="popular"}' in figures
    assert 'aisle_model_info{version="1"} 1.0' in figures
    assert "aisle_empty_answers_total 0.0" in figures
    document = api.get("/openapi.json").json()
    answer = document["components"]["schemas"]["Recommendations"]
    assert answer["example"]["items"][0]["title"]
    assert "/v1/items/{item_id}/similar" in document["paths"]


def test_reports_do_not_leave_their_folder(api: httpx.Client) -> None:
    refused(api.get("/reports/..%2f..%2fetc%2fpasswd"), 404)
    refused(api.get("/reports/none.html"), 404)


def test_healthy_and_ready(api: httpx.Client) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    ready = api.get("/readyz").json()
    assert (ready["status"], ready["version"], ready["features"], ready["fault"]) == (
        "ready",
        "1",
        "open",
        None,
    )


def refused(answer: httpx.Response, status: int) -> dict:
    """The problem document of a refusal."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"]
    assert problem["detail"]
    return problem


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/events", {"event_type": "view", "user_id": "odd", "item_id": "i001"}),
        ("POST", "/v1/recommendations", {"k": 1}),
        ("POST", "/v1/recommendations/batch", {"users": ["u001"]}),
        ("POST", "/v1/explain", {"question": {}}),
        ("POST", "/v1/graphql", {"query": "{ popular(k: 1) { rung } }"}),
        ("PUT", "/v1/rules", {}),
        ("GET", "/v1/rules", None),
        ("GET", "/v1/rules/history", None),
        ("PUT", "/v1/items/i001/stock", {"stock": 3}),
        ("DELETE", "/v1/users/odd", None),
        ("GET", "/v1/users/odd/export", None),
    ],
)
def test_a_parameter_that_a_path_does_not_take_is_told(
    api: httpx.Client, method: str, path: str, body
) -> None:
    problem = refused(api.request(method, path, params={"force": "1"}, json=body), 422)
    assert {"where": "query.force", "detail": "Extra inputs are not permitted", "value": "1"} in problem[
        "errors"
    ]
    assert api.get("/v1/users/odd/export").json()["events"] == []
