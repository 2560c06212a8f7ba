"""GraphQL: the REST answers in one round trip, refused where it goes too deep or brings too much."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import parse

from serving.graph_cost import Costs
from serving.live import Loaded
from serving.view import View
from tests.serving.test_api import PLAIN, refused
from tests.serving.test_ladder import Slow, api_over

PATH = "/v1/graphql"
LIST = (
    "{ requestId rung modelVersion items { itemId title price position score reason { source text parts } } }"
)


def ask(api: httpx.Client, query: str, **variables: Any) -> dict[str, Any]:
    answer = api.post(PATH, json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer.json()


def problems(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [error["extensions"]["problem"] for error in found["errors"]]


def test_a_page_in_one_round_trip(api: httpx.Client) -> None:
    query = f"""query Page($user: ID!) {{
      mine: recommendations(userId: $user, k: 4) {LIST}
      stranger: recommendations(sessionId: "s-1", country: "France", k: 3) {LIST}
      beside: recommendations(itemId: "i003", k: 3) {LIST}
      similar(itemId: "i001", k: 3) {LIST}
      popular(k: 3) {{ items {{ itemId item {{ categories similar(k: 2) {{ items {{ itemId }} }} }} }} }}
      item(itemId: "i001") {{ itemId title categories }}
    }}"""
    found = ask(api, query, user="u001")
    assert "errors" not in found
    data = found["data"]
    rest = api.get(PLAIN, params={"user_id": "u001", "k": 4}).json()
    assert [each["itemId"] for each in data["mine"]["items"]] == [each["item_id"] for each in rest["items"]]
    assert data["mine"]["rung"] == rest["rung"] == "personalised"
    assert data["mine"]["items"][0]["reason"]["text"] == rest["items"][0]["reason"]["text"]
    assert len(data["stranger"]["items"]) == len(data["beside"]["items"]) == 3
    assert "i001" not in {each["itemId"] for each in data["similar"]["items"]}
    assert all(len(each["item"]["similar"]["items"]) == 2 for each in data["popular"]["items"])
    assert data["item"] == {"itemId": "i001", "title": "TITLE <b>1</b> & CO", "categories": ["c1"]}
    ids = [data[name]["requestId"] for name in ("mine", "stranger", "beside", "similar")]
    assert len(set(ids)) == 4


def test_rules_hold_as_in_rest(api: httpx.Client) -> None:
    first = ask(api, "{ popular(k: 1) { items { itemId } } }")["data"]["popular"]["items"][0]["itemId"]
    found = ask(
        api,
        "query($rules: JSON) { popular(k: 40, rules: $rules) { items { itemId } } }",
        rules={"exclude": [first]},
    )
    ids = [each["itemId"] for each in found["data"]["popular"]["items"]]
    assert ids
    assert first not in ids


def test_errors_are_problems_and_the_rest_is_answered(api: httpx.Client) -> None:
    query = """{ good: item(itemId: "i001") { title }  popular(k: 2) { items { itemId } } recommendations(k: 0, userId: "a\\u0000") { rung } }"""
    found = ask(api, query)
    assert found["data"] is None or found["data"].get("recommendations") is None
    problem = problems(found)[0]
    assert problem["status"] == 422
    assert {fault["where"] for fault in problem["errors"]} == {"k", "user_id"}
    assert problem["request_id"]
    missing = ask(api, '{ item(itemId: "none") { title } }')
    assert problems(missing)[0]["type"] == "urn:aisle:problem:not-there"
    assert missing["errors"][0]["path"] == ["item"]


@pytest.mark.parametrize(
    "query",
    [
        "{ popular { items { itemId } }",
        "{ secrets }",
        "mutation { erase }",
        "subscription { x }",
        "{ popular(k: 99999999999999999999) { rung } }",
        '{ popular(k: "x") { rung } }',
        "{" * 900,
        "{a" * 300 + "}" * 300,
        "\0",
        "{ " + " ".join(f"a{n}: popular {{ rung }}" for n in range(800)) + " }",
        "query A { popular { rung } } query B { popular { rung } }",
        "fragment F on Query { ...F } { ...F }",
        "{ ...F } fragment F on Query { ...G } fragment G on Query { ...F }",
    ],
)
def test_what_is_no_good_query_is_refused(api: httpx.Client, query: str) -> None:
    answer = api.post(PATH, json={"query": query})
    assert answer.status_code == 200
    found = answer.json()
    assert found["data"] is None
    assert all(each["status"] in (400, 422) for each in problems(found)), found
    assert len(answer.content) < 20_000


def test_a_body_that_is_no_request_is_a_problem(api: httpx.Client) -> None:
    for body in (
        {},
        {"query": ""},
        {"query": "{a}", "extra": 1},
        {"query": "a" * 30_000},
        [],
        {"query": "{a}", "variables": []},
    ):
        refused(api.post(PATH, json=body), 422)


def test_depth_and_cost_are_bounded(api: httpx.Client) -> None:
    deep = (
        '{ item(itemId: "i001") { ' + "similar(k: 1) { items { item { " * 4 + "title" + " } } }" * 4 + " } }"
    )
    assert "levels deep" in ask(api, deep)["errors"][0]["message"]
    for query in (
        "{ " + " ".join(f"a{n}: popular(k: 100) {{ rung }}" for n in range(6)) + " }",
        "{ popular(k: 30) { items { item { similar(k: 30) { items { itemId } } } } } }",
        "query($k: Int) { a: popular(k: $k) { rung } b: popular(k: $k) { items { item { similar(k: $k) { rung } } } } }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { a: popular(k: 100) { rung } b: popular(k: 100) "
        "{ rung } c: popular(k: 100) { rung } d: popular(k: 100) { rung } e: popular(k: 100) { rung } f: popular(k: 9) { rung } }",
        "{ ... on Query { a: popular(k: 100) { items { item { title } } } b: popular(k: 100) { items { item { title } } } "
        "c: popular(k: 100) { items { item { title } } } } }",
    ):
        found = ask(api, query, k=60)
        assert "items; at most" in found["errors"][0]["message"], query
        assert found["data"] is None


def test_counting_is_no_attack_itself() -> None:
    """Each fragment spreads the next one twice: two to the power of 60, were they counted one by one."""
    bomb = "{ ...F0 } " + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(60))
    bomb += " fragment F60 on Query { popular(k: 1) { rung } }"
    started = time.perf_counter()
    costs = Costs(parse(bomb), {}, 10, 100)
    depth, items = costs.of(costs.operations[0].selection_set)
    assert (depth, items) == (2, 2**60)
    assert time.perf_counter() - started < 1


def test_the_schema_is_told(api: httpx.Client) -> None:
    text = httpx.get(f"{api.base_url}{PATH}").text
    assert "type Query" in text
    assert "recommendations(" in text
    refused(httpx.post(f"{api.base_url}{PATH}", json={"query": "{ popular { rung } }"}), 401)


def test_what_cannot_be_answered_costs_the_page_nothing_else(api: httpx.Client) -> None:
    query = """{
      good: popular(k: 2) { items { itemId } }
      unknown: item(itemId: "nope") { title }
      wrong: recommendations(k: 0) { rung }
      also: item(itemId: "i001") { title similar(k: 0) { rung } }
    }"""
    found = ask(api, query)
    assert len(found["data"]["good"]["items"]) == 2
    assert (found["data"]["unknown"], found["data"]["wrong"]) == (None, None)
    assert found["data"]["also"] == {"title": "TITLE <b>1</b> & CO", "similar": None}
    told = {tuple(each["path"]): each["extensions"]["problem"]["status"] for each in found["errors"]}
    assert told == {("unknown",): 404, ("wrong",): 422, ("also", "similar"): 422}


def test_no_other_request_waits_while_an_item_s_view_is_made(
    aisle_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_over(Slow(), monkeypatch) as (client, app):
        views, threads = app.state.service.answers.views, []

        def of(loaded: Loaded) -> View:
            threads.append(threading.current_thread().name)
            return made(loaded)

        made = views.of
        monkeypatch.setattr(views, "ready", lambda loaded: None)
        monkeypatch.setattr(views, "of", of)
        assert ask(client, '{ item(itemId: "i001") { itemId } }')["data"]["item"] == {"itemId": "i001"}
        assert any(name.startswith(("asyncio_", "uvloop_")) for name in threads), threads
