"""A problem document lists every fault: those of fields, and beside them those between fields, on every path alike."""

from __future__ import annotations

import httpx
import pytest
from pydantic import ValidationError

from engine.rules import Rules
from tests.serving.test_asking import ASK

PAGE = "page 2 needs the request_id"
ONE = "give item_id or basket, not both"
PRICES = "min_price 9.0 is above max_price 1.0"
SUBJECT = "needs item_id or basket: what should the items go with?"


def faults(answer: httpx.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["detail"] == "; ".join(f"{each['where']}: {each['detail']}" for each in problem["errors"])
    return [(each["where"], each["detail"]) for each in problem["errors"]]


def told(answer: httpx.Response, *expected: tuple[str, str]) -> None:
    """Exactly these faults, each by where and the beginning of its detail."""
    found = faults(answer)
    for where, detail in expected:
        assert any(each[0] == where and each[1].startswith(detail) for each in found), (where, detail, found)
    assert len(found) == len(expected), found


K = "Input should be greater than or equal to 1"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (ASK, {"k": 0, "item_id": "a", "basket": ["b"], "page": 2}, [("body.k", K), ("body", ONE), ("body", PAGE)]),
        (ASK, {"item_id": "a", "basket": ["b"], "page": 2}, [("body", ONE), ("body", PAGE)]),
        (ASK, {"item_id": "\0", "basket": ["b"], "page": 2}, [("body.item_id", "has control"), ("body", PAGE)]),
        (ASK, {"usr": 1, "page": "2"}, [("body.usr", "Extra"), ("body", PAGE)]),
        (ASK, {"page": 0}, [("body.page", K)]),
        (
            ASK,
            {"page": 2, "rules": {"price": {"min": 9, "max": 1, "mid": 2}, "caps": {"brand": 0}}},
            [
                ("body.rules.price.mid", "Extra"),
                ("body.rules.price", "min 9.0 is above max 1.0"),
                ("body.rules.caps.brand", K),
                ("body", PAGE),
            ],
        ),
        ("/v1/together", {"k": 0, "page": 1}, [("body.k", K), ("body", SUBJECT)]),
        ("/v1/together", {"page": 2}, [("body", PAGE)]),
        ("/v1/similar", {"page": 2}, [("body.item_id", "Field required"), ("body", PAGE)]),
        ("/v1/popular", {"page": 2, "k": "many"}, [("body.k", "Input should be a valid integer"), ("body", PAGE)]),
        ("/v1/search", {"page": 2, "k": 0, "q": 7}, [("body.k", K), ("body.q", ""), ("body", PAGE)]),
        (
            "/v1/explain",
            {"question": {"page": 2, "request_id": "x"}, "kind": "similar", "item_id": ""},
            [
                ("body.item_id", "is blank"),
                ("body", "question: similar needs item_id or basket"),
                ("body", "question: the first page is explained"),
            ],
        ),
        (
            "/v1/explain",
            {"question": {"page": 2, "k": 0}, "kind": "similar"},
            [("body.question.k", K), ("body.question", PAGE)],
        ),
        (
            "/v1/rules/preview",
            {"rules": {"all": {"exclude": ["a"], "pins": [{"item_id": "a", "position": 1}], "caps": {"brand": 0}}}},
            [("body.rules.all.caps.brand", K), ("body.rules.all", "pins: 'a' is excluded")],
        ),
    ],
)  # fmt: skip
def test_faults_between_fields_are_told_beside_those_of_fields(
    api: httpx.Client, path: str, body: dict, expected: list[tuple[str, str]]
) -> None:
    told(api.post(path, json=body), *expected)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("k=0&min_price=9&max_price=1&page=2", [("query.k", K), ("query", PRICES), ("query", PAGE)]),
        ("min_price=9&max_price=1&page=2", [("query", PRICES), ("query", PAGE)]),
        ("min_price=x&max_price=1&page=2", [("query.min_price", "Input should be a valid number"), ("query", PAGE)]),
        ("item_id=a&basket=b&basket=c&limit=3", [("query.limit", "Extra"), ("query", ONE)]),
    ],
)  # fmt: skip
def test_parameters_are_told_alike(api: httpx.Client, params: str, expected: list[tuple[str, str]]) -> None:
    told(api.get(f"{ASK}?{params}"), *expected)


def test_a_field_of_graphql_is_told_alike(api: httpx.Client) -> None:
    query = '{ recommendations(k: 0, itemId: "a", basket: ["b"]) { rung } }'
    problem = api.post("/v1/graphql", json={"query": query}).json()["errors"][0]["extensions"]["problem"]
    assert [(each["where"], each["detail"]) for each in problem["errors"]] == [("k", K), ("", ONE)]


@pytest.mark.parametrize("media", [None, "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", [ASK, "/v1/search", "/v1/explain", "/v1/similar"])
def test_json_that_does_not_say_so_is_told_how(api: httpx.Client, path: str, media: str | None) -> None:
    headers = {"content-type": media} if media else {}
    found = faults(api.post(path, content=b'{"k": 3}', headers=headers))
    assert len(found) == 1
    assert found[0][0] == "body"
    assert found[0][1].endswith("send JSON, with the header Content-Type: application/json")
    assert "Content-Type" not in str(faults(api.post(path, json=[])))


def test_a_blank_title_is_told_what_is_meant(api: httpx.Client) -> None:
    found = faults(api.post("/v1/items", json={"item_id": "i001", "title": "  "}))
    assert found == [("body.title", "is blank; leave it out, or give it at least one letter or digit")]
    assert "printable text" in faults(api.post("/v1/items", json={"item_id": "i1", "title": "a\x07"}))[0][1]


def test_a_price_of_nothing_is_a_price(api: httpx.Client) -> None:
    """`min_price=0` leaves out what has no known price, as `rules.price.min` does."""
    assert (
        api.post("/v1/items", json={"item_id": "unpriced", "title": "TITLE of no price"}).status_code == 202
    )
    everything = api.get("/v1/search", params={"k": 100}).json()
    assert "unpriced" in [each["item_id"] for each in everything["items"]]
    for path in ("/v1/search", "/v1/popular", ASK):
        got = api.get(path, params={"k": 100, "min_price": 0}).json()["items"]
        posted = api.post(path, json={"k": 100, "rules": {"price": {"min": 0}}}).json()["items"]
        assert [each["item_id"] for each in got] == [each["item_id"] for each in posted]
        assert all(each["price"] is not None for each in got)
        nothing = api.get(path, params={"k": 100, "max_price": 0})
        assert (nothing.status_code, nothing.json()["items"]) == (200, [])


def test_a_rule_that_takes_a_wrong_field_is_not_asked() -> None:
    with pytest.raises(ValidationError) as error:
        Rules.model_validate(
            {"pins": [{"item_id": "a", "position": 0}], "exclude": ["a"], "in_stock": "maybe"}
        )
    assert {each["loc"] for each in error.value.errors()} == {("pins", 0, "position"), ("in_stock",)}
