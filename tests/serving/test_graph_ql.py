"""GraphQL: the REST answers in one round trip, refused where it goes too deep or brings too much."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import build_client_schema, build_schema, get_introspection_query, parse, print_schema

from aisle.settings import Settings
from serving import search_asking
from serving.asking import bodies
from serving.graph_cost import Costs
from serving.live import Loaded
from serving.schemas import Reason as ReasonTold
from serving.schemas import Recommendations, RecommendedItem
from serving.search_asking import SearchAnswer, SearchItem
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
        "fragment F on Query { popular { rung } }",
        "type A { b: Int }",
        "{ popular { rung } } query A { popular { rung } }",
        "subscription S { popular { rung } }",
        "query A { popular { rung } } subscription S { x }",
        "{ popular { rung } } type A { b: Int }",
        {"query": "{ popular(k: 1) { rung } }", "operationName": "C"},
        {"query": "query A { popular(k: 1) { rung } }", "operationName": ""},
        {"query": "query A { popular { rung } } query B { popular { rung } }", "operationName": None},
        {"query": "query A { popular { rung } } query B { popular { rung } }", "operationName": "C"},
        {"query": "query A { popular { rung } } query A { popular { rung } }", "operationName": "A"},
        {"query": "query A { popular { rung } } mutation B { erase }", "operationName": "B"},
    ],
)
def test_what_is_no_good_query_is_refused(api: httpx.Client, query: str | dict[str, Any]) -> None:
    answer = api.post(PATH, json=query if isinstance(query, dict) else {"query": query})
    assert answer.status_code == 200
    found = answer.json()
    assert found["data"] is None
    assert all(each["status"] in (400, 422) for each in problems(found)), found
    assert len(answer.content) < 20_000


def test_which_operation_is_meant(api: httpx.Client) -> None:
    """The one that is named is carried out, whatever else stands beside it; what is not there is told with what is."""
    two = "query A { popular(k: 1) { rung } } query B { trending(k: 1) { page } }"

    def told(query: str, **more: str | None) -> dict[str, Any]:
        return api.post(PATH, json={"query": query, **more}).json()

    assert told(two, operationName="B")["data"] == {"trending": {"page": 1}}
    assert told("query A { popular(k: 1) { page } }", operationName=None)["data"] == {"popular": {"page": 1}}
    for query, named, said in (
        (two, "C", "no operation named 'C'; they are A, B"),
        (two, "", "no operation named ''; they are A, B"),
        (two, None, "which of the operations is meant: A, B?"),
        ("query A { popular { rung } }", "", "no operation named ''; it is A"),
        ("{ popular { rung } }", "C", "it is one without a name"),
        ("fragment F on Query { popular { rung } }", None, "no operation in the document"),
    ):
        found = told(query, operationName=named)
        assert said in found["errors"][0]["message"], found
    wide = "query W { " + " ".join(f"a{n}: popular(k: 100) {{ rung }}" for n in range(9)) + " }"
    assert told(f"{wide} query A {{ popular(k: 1) {{ page }} }}", operationName="A")["data"]["popular"]


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


def test_the_length_of_a_list_is_that_of_its_variable(api: httpx.Client) -> None:
    """Given, or the operation's own default, or none, which is the usual length."""
    lists = " ".join(f"a{n}: popular(k: $k) {{ page }}" for n in range(6))
    assert "errors" not in ask(api, f"query Q($k: Int = 4) {{ {lists} }}")
    assert "errors" not in ask(api, f"query Q($k: Int) {{ {lists} }}")
    assert "errors" not in ask(api, f"query Q($k: Int = 100) {{ {lists} }}", k=None)
    assert "errors" not in ask(api, f"query Q($k: Int = 100) {{ {lists} }}", k=3)
    assert (
        "may bring 600 items"
        in ask(api, f"query Q($k: Int = 4) {{ {lists} }}", k=100)["errors"][0]["message"]
    )
    assert "may bring 600 items" in ask(api, f"query Q($k: Int = 100) {{ {lists} }}")["errors"][0]["message"]


def test_values_are_bounded(api: httpx.Client) -> None:
    """One field under six hundred names, of each item of five lists: the answer would be megabytes, and the loop at nothing else."""
    names = " ".join(f"a{n}: title" for n in range(500))
    lists = " ".join(f"l{n}: popular(k: 100) {{ items {{ ...F }} }}" for n in range(5))
    found = ask(api, f"{{ {lists} }} fragment F on Recommended {{ {names} }}")
    assert "values; at most" in found["errors"][0]["message"]
    facets = " ".join(f"a{n}: value" for n in range(500))
    found = ask(api, f'{{ search(q: "a", k: 1) {{ facets {{ categories {{ {facets} }} }} }} }}')
    assert "values; at most" in found["errors"][0]["message"]
    whole = f"{LIST[:-4]} pinned item {{ title price categories }} }} }}"
    lists = " ".join(f"l{n}: popular(k: 100) {whole}" for n in range(2))
    assert "errors" not in ask(api, f"{{ {lists} }}")


def test_generators_and_explorers_may_ask_for_the_schema(api: httpx.Client) -> None:
    query = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
    )
    found = ask(api, query)
    assert "errors" not in found
    assert "recommendations" in print_schema(build_client_schema(found["data"]))
    assert ask(api, '{ __type(name: "List") { name } item(itemId: "i001") { title } }')["data"]["item"]
    circle = "{ __schema { types { " + "fields { type { " * 8 + "name" + " } }" * 8 + " } } }"
    assert problems(ask(api, circle))[0]["status"] == 400
    types = "ofType { " * 20 + "name" + " }" * 20
    deep = f"{{ __schema {{ types {{ fields {{ type {{ {types} }} }} }} }} }}"
    assert "levels deep" in ask(api, deep)["errors"][0]["message"]
    again = " ".join(f"a{n}: name" for n in range(500))
    wide = f"{{ __schema {{ types {{ fields {{ args {{ type {{ {again} }} }} }} }} }} }}"
    assert "again and again" in ask(api, wide)["errors"][0]["message"]


def test_counting_is_no_attack_itself() -> None:
    """Each fragment spreads the next one twice: two to the power of 60, were they counted one by one."""
    bomb = "{ ...F0 } " + " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(60))
    bomb += " fragment F60 on Query { popular(k: 1) { rung } }"
    started = time.perf_counter()
    costs = Costs(parse(bomb), {}, 10, 100)
    found = costs.of(costs.operations[0])
    assert (found.depth, found.items) == (2, 2**60)
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


FIELDS = {
    "recommendations": "RecommendationQuestion",
    "similar": "SimilarQuestion",
    "together": "RelatedQuestion",
    "popular": "ListQuestion",
    "trending": "ListQuestion",
}


def named(kind: str) -> str:
    """A name as GraphQL writes it."""
    first, *rest = kind.split("_")
    return first + "".join(map(str.title, rest))


def test_arguments_and_answers_are_those_of_the_rest_questions(api: httpx.Client, settings: Settings) -> None:
    schema = build_schema(httpx.get(f"{api.base_url}{PATH}").text)
    asked = bodies(settings)
    models = {name: getattr(asked, model) for name, model in FIELDS.items()}
    models["search"] = search_asking.bodies(settings, asked).SearchQuestion
    assert schema.query_type
    for name, model in models.items():
        assert set(schema.query_type.fields[name].args) == {named(each) for each in model.model_fields}, name
    own = set(models["similar"].model_fields) - {"item_id"}
    item = schema.type_map["Item"]
    assert set(item.fields["similar"].args) == {named(each) for each in own}  # type: ignore[attr-defined]
    for kind, answer in (("List", Recommendations), ("SearchResult", SearchAnswer)):
        told = schema.type_map[kind].fields  # type: ignore[attr-defined]
        assert set(told) == {named(each) for each in answer.model_fields}, kind
    for kind, part in (("Recommended", RecommendedItem), ("FoundItem", SearchItem), ("Reason", ReasonTold)):
        told = schema.type_map[kind].fields  # type: ignore[attr-defined]
        assert set(told) >= {named(each) for each in part.model_fields}, kind


@pytest.mark.parametrize("kind", FIELDS)
def test_every_list_is_the_rest_list_and_has_further_pages(api: httpx.Client, kind: str) -> None:
    asked: dict[str, Any] = {
        "user_id": "u002",
        "session_id": "s-9",
        "placement": "home",
        "k": 3,
        "explain": True,
    }
    if kind in ("similar", "together"):
        asked["item_id"] = "i004"
    types = {"k": "Int", "page": "Int", "explain": "Boolean", "user_id": "ID", "item_id": "ID!"}

    def graph(**more: Any) -> dict[str, Any]:
        given = {**asked, **more}
        head = ", ".join(
            f"${each}: {types.get(each, 'ID' if each == 'session_id' else 'String')}" for each in given
        )
        into = ", ".join(f"{named(each)}: ${each}" for each in given)
        told = "{ requestId rulesVersion page nextPage rung items { itemId position reason { text } } }"
        found = ask(api, f"query Q({head}) {{ found: {kind}({into}) {told} }}", **given)
        assert "errors" not in found, found
        return found["data"]["found"]

    first, rest = graph(), api.post(f"/v1/{kind}", json=asked).json()
    assert [each["itemId"] for each in first["items"]] == [each["item_id"] for each in rest["items"]]
    assert [each["reason"]["text"] for each in first["items"]] == [
        each["reason"]["text"] for each in rest["items"]
    ]
    assert (first["page"], first["nextPage"], first["rung"]) == (1, 2, rest["rung"])
    second = graph(page=2, request_id=first["requestId"])
    assert (second["page"], second["requestId"]) == (2, first["requestId"])
    again = api.post(f"/v1/{kind}", json={**asked, "page": 2, "request_id": rest["request_id"]}).json()
    assert [each["itemId"] for each in second["items"]] == [each["item_id"] for each in again["items"]]
    assert [each["position"] for each in second["items"]] == [4, 5, 6]


def test_further_pages_and_answers_need_what_rest_needs(api: httpx.Client) -> None:
    first, lost, unknown = (
        ask(api, f"{{ popular({given}) {{ rung }} }}")
        for given in ("page: 2", 'page: 2, requestId: "none"', 'userId: ""')
    )
    assert [problems(each)[0]["status"] for each in (first, lost, unknown)] == [422, 404, 422]
    both = ask(api, '{ together(itemId: "i001", basket: ["i002"]) { rung } }')
    assert "not both" in both["errors"][0]["message"]


def test_a_new_item_is_known_at_once(api: httpx.Client) -> None:
    """As at GET /v1/items/{id}: before its view is made."""
    for number in range(5):
        told = {"title": f"Enamel mug {number}", "price": 8.5, "stock": 4, "categories": ["c1"]}
        assert api.put(f"/v1/items/mug-{number}", json=told).status_code < 300
        found = ask(api, f'{{ item(itemId: "mug-{number}") {{ itemId title price categories }} }}')
        assert found["data"]["item"] == {
            "itemId": f"mug-{number}",
            "title": f"Enamel mug {number}",
            "price": 8.5,
            "categories": ["c1"],
        }, found


def test_a_search_says_all_that_rest_says(api: httpx.Client) -> None:
    query = """{ search(q: "titel", k: 2, explain: true, userId: "u001") {
      page nextPage rulesVersion totalUnfiltered words
      items { itemId text { fit share } preference { place fit share } reason { source text } } } }"""
    found = ask(api, query)["data"]["search"]
    rest = api.post("/v1/search", json={"q": "titel", "k": 2, "explain": True, "user_id": "u001"}).json()
    assert (found["words"], found["totalUnfiltered"]) == (rest["words"], rest["total_unfiltered"])
    for ours, theirs in zip(found["items"], rest["items"], strict=True):
        assert (ours["text"], ours["preference"]) == (theirs["text"], theirs["preference"])
        assert ours["reason"]["text"] == theirs["reason"]["text"]
