"""A further page is of the question of its first page: sent again it must be the same, left out it is taken from there."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from aisle import settings as settings_module
from aisle.errors import AnotherQuestion
from serving.asking import bodies
from serving.same_question import require
from tests.serving.test_asking import ASK, ids

SIMILAR = "/v1/items/i001/similar"
FIRST = {
    "user_id": "u001",
    "k": 4,
    "category": "c1",
    "country": "France",
    "placement": "home",
    "rules": {"exclude": ["i001", "i005"], "price": {"min": 0.5, "max": 19}, "caps": {"category": 3}},
}


def turned(api: httpx.Client, first: httpx.Response, path: str = ASK, **sent) -> httpx.Response:
    asked = {"user_id": "u001", "page": 2, "request_id": first.json()["request_id"], **sent}
    return api.post(path, json=asked)


def said(answer: httpx.Response) -> dict[str, str]:
    """Faults by where."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:aisle:problem:invalid-request"
    assert all(f"{each['where']}: {each['detail']}" in problem["detail"] for each in problem["errors"])
    return {each["where"]: each["detail"] for each in problem["errors"]}


@pytest.mark.parametrize(
    ("sent", "where", "had", "came"),
    [
        ({"k": 3}, "body.k", "4", "3"),
        ({"category": "c2"}, "body.category", '"c1"', "c2"),
        ({"country": "Germany"}, "body.country", '"France"', "Germany"),
        ({"placement": "cart"}, "body.placement", '"home"', "cart"),
        ({"item_id": "i002"}, "body.item_id", "none", "i002"),
        ({"basket": ["i002"]}, "body.basket", "none", '["i002"]'),
        ({"explain": True}, "body.explain", "false", "true"),
        ({"rules": {"exclude": ["i002"]}}, "body.rules.exclude", '["i001","i005"]', '["i002"]'),
        ({"rules": {"exclude": []}}, "body.rules.exclude", '["i001","i005"]', "none"),
        (
            {"rules": {"price": {"max": 0.5}}},
            "body.rules.price",
            '{"min":0.5,"max":19.0}',
            '{"max":0.5}',
        ),
        ({"rules": {"in_stock": True}}, "body.rules.in_stock", "false", "true"),
        ({"rules": {"already": {}}}, "body.rules.already", "none", "{}"),
        (
            {"rules": {"pins": [{"item_id": "i009", "position": 1}]}},
            "body.rules.pins",
            "none",
            '[{"item_id":"i009","position":1}]',
        ),
    ],
)
def test_what_is_another_question_is_refused_by_its_field(
    api: httpx.Client, sent: dict, where: str, had: str, came: str
) -> None:
    first = api.post(ASK, json=FIRST)
    answer = turned(api, first, **sent)
    told = said(answer)
    assert told.keys() == {where}
    assert f"page 1 of this answer had {had}," in told[where]
    assert answer.json()["errors"][0]["value"] == came


def test_every_field_that_differs_is_told(api: httpx.Client) -> None:
    first = api.post(ASK, json=FIRST)
    told = said(turned(api, first, k=5, category="c2", rules={"exclude": ["i002"], "price": {"max": 1}}))
    assert told.keys() == {"body.k", "body.category", "body.rules.exclude", "body.rules.price"}


@pytest.mark.parametrize(
    "sent",
    [
        {},
        FIRST,
        {"k": 4, "rules": {}},
        {"rules": {"exclude": ["i005", "i001", "i001"], "caps": {"category": 3}}},
        {"category": None, "item_id": None},
        {"explain": False, "basket": []},
    ],
)
def test_the_same_question_in_any_words_goes_on(api: httpx.Client, sent: dict) -> None:
    whole = ids(api.post(ASK, json={**FIRST, "k": 8, "rules": {**FIRST["rules"], "caps": {}}}))
    first = api.post(ASK, json={**FIRST, "rules": {**FIRST["rules"], "caps": {"category": 3}}})
    assert ids(first) == whole[:3]  # of one category
    answer = turned(api, first, **sent)
    assert ids_of(answer) == whole[3:6]


def ids_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["item_id"] for each in answer.json()["items"]]


def test_the_item_of_a_path_is_part_of_the_question(api: httpx.Client) -> None:
    first = api.get(SIMILAR, params={"k": 5})
    going = {"page": 2, "request_id": first.json()["request_id"]}
    answer = api.get("/v1/items/i002/similar", params=going)
    told = said(answer)
    assert told.keys() == {"path.item_id"}
    assert '"i001"' in told["path.item_id"]
    assert (answer.json()["errors"][0]["value"], answer.json()["instance"]) == (
        "i002",
        "/v1/items/i002/similar",
    )
    assert ids_of(api.get(SIMILAR, params=going)) == ids(api.get(SIMILAR, params={"k": 10}))[5:]
    posted = api.post("/v1/similar", json={"item_id": "i001", **going})
    assert ids_of(posted) == ids_of(api.get(SIMILAR, params=going))
    assert said(api.post("/v1/similar", json={"item_id": "i003", **going})).keys() == {"body.item_id"}


def test_parameters_of_a_get_are_held_to_it_too(api: httpx.Client) -> None:
    asked = {"k": 3, "min_price": 0, "max_price": 15, "exclude": ["i003", "i004"], "in_stock": True}
    first = api.get("/v1/popular", params=asked)
    going = {"page": 2, "request_id": first.json()["request_id"]}
    assert len(ids_of(api.get("/v1/popular", params=going))) == 3
    assert ids_of(api.get("/v1/popular", params={**asked, **going})) == ids_of(
        api.get("/v1/popular", params=going)
    )
    other = {"k": 4, "min_price": 1, "max_price": 9, "exclude": "i003", "in_stock": False, "brand": "B"}
    told = said(api.get("/v1/popular", params={**other, **going}))
    assert told.keys() == {f"query.{name}" for name in other}
    assert "had 0.0," in told["query.min_price"]
    posted = api.post("/v1/popular", json={**going, "rules": {"price": {"min": 0, "max": 15}}})
    assert posted.status_code == 200


def test_what_goes_with_a_basket_goes_on_without_it(api: httpx.Client) -> None:
    first = api.post("/v1/together", json={"basket": ["i001", "i002"], "k": 3})
    going = {"page": 2, "request_id": first.json()["request_id"]}
    plain = ids_of(api.post("/v1/together", json=going))
    assert len(plain) == 3
    assert not {*plain} & {"i001", "i002", *ids(first)}
    assert ids_of(api.post("/v1/together", json={**going, "basket": ["i002", "i001"]})) == plain
    assert said(api.post("/v1/together", json={**going, "basket": ["i002"]})).keys() == {"body.basket"}


def test_somebody_else_s_answer_is_not_there_and_tells_nothing(api: httpx.Client) -> None:
    first = api.post(ASK, json=FIRST)
    for who in ({"user_id": "u004"}, {"user_id": None}, {"session_id": "s"}):
        answer = turned(api, first, **who, k=3, category="c2")
        assert answer.status_code == 404
        assert "errors" not in answer.json()
        assert '"c1"' not in answer.json()["detail"]
    assert (
        api.post("/v1/popular", json={"page": 2, **{"request_id": first.json()["request_id"]}}).status_code
        == 404
    )


IDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=3, unique=True)
PRICES = st.fixed_dictionaries({}, optional={"min": st.floats(0, 5), "max": st.floats(5, 9)})
RULES = st.fixed_dictionaries(
    {},
    optional={
        "in_stock": st.booleans(),
        "price": PRICES,
        "exclude": IDS,
        "brands": st.fixed_dictionaries({}, optional={"include": IDS}),
        "categories": st.fixed_dictionaries({}, optional={"exclude": IDS}),
        "already": st.fixed_dictionaries({}, optional={"days": st.sampled_from([1, 30.5])}),
        "caps": st.fixed_dictionaries({}, optional={"brand": st.integers(1, 3)}),
        "boosts": st.lists(st.just({"column": "brand", "value": "b", "times": 2}), max_size=2),
    },
)
QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "k": st.integers(1, 4),
        "country": st.sampled_from(["France", None]),
        "category": st.sampled_from(["c1", "c2", None]),
        "placement": st.sampled_from(["home", None]),
        "basket": IDS,
        "explain": st.booleans(),
        "rules": RULES,
    },
)
GOING = {"page": 2, "request_id": "r"}


@given(first=QUESTIONS, then=QUESTIONS)
@settings(max_examples=300, deadline=None)
def test_a_page_is_refused_for_what_differs_and_for_nothing_else(first: dict, then: dict) -> None:
    model = bodies(settings_module.load()).RecommendationQuestion
    asked = model.model_validate(first).ask()
    require(asked, model.model_validate({**first, **GOING}).ask())
    require(asked, model.model_validate(GOING).ask())
    differs = {
        name
        for name, value in then.items()
        if name != "rules"
        and value is not None
        and _same(value) != _same(getattr(asked, NAMES.get(name, name)))
    }
    held = model.model_validate({"rules": then.get("rules", {})}).rules
    differs |= {
        f"rules.{name}"
        for name in then.get("rules", {})
        if _same(getattr(held, name)) != _same(getattr(asked.rules, name))
    }
    question = model.model_validate({**then, **GOING}).ask()
    if differs:
        with pytest.raises(AnotherQuestion) as refused:
            require(asked, question)
        assert {each["where"] for each in refused.value.faults} == differs
    else:
        require(asked, question)


NAMES = {"explain": "exact"}


def _same(value: object) -> object:
    """In JSON, lists of names in their alphabet's order."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _same(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return sorted(map(str, map(_same, value)))
    return value


def test_what_the_shop_forbids_meanwhile_is_on_no_further_page(api: httpx.Client) -> None:
    """Its rules, and what is out of stock; the question's own rules go on holding."""
    asked = {"user_id": "u011", "k": 6, "rules": {"in_stock": True, "price": {"max": 15}}}
    first = api.post(ASK, json=asked)
    rest = ids(api.post(ASK, json={**asked, "k": 18}))[6:]
    try:
        assert api.put("/v1/rules", json={"all": {"exclude": [rest[0]]}}).status_code == 200
        assert api.post("/v1/stock", json={"item_id": rest[2], "stock": 0}).status_code == 202
        second = turned(api, first, user_id="u011").json()["items"]
    finally:
        assert api.put("/v1/rules", json={}).status_code == 200
        assert api.post("/v1/stock", json={"item_id": rest[2], "stock": 9}).status_code == 202
    assert [each["item_id"] for each in second] == [rest[1], *rest[3:8]]
    assert all(each["price"] <= 15 for each in second)
