"""A further page of a search is of the question of its first page, text and filters alike."""

from __future__ import annotations

import httpx
import pytest

from tests.serving.test_same_question import ids_of, said
from tests.serving.test_search_api import PATH, shop  # noqa: F401 (a fixture)


@pytest.mark.parametrize(
    ("sent", "where"),
    [
        ({"q": "mug"}, {"q"}),
        ({"typing": True}, {"typing"}),
        ({"k": 6}, {"k"}),
        ({"category": "lights"}, {"category"}),
        ({"explain": True}, {"explain"}),
        ({"rules": {"price": {"max": 3}}}, {"rules.price"}),
        ({"q": "mug", "k": 3, "rules": {"in_stock": False}}, {"q", "k", "rules.in_stock"}),
    ],
)
def test_a_search_goes_on_with_its_own_question(
    shop: httpx.Client,  # noqa: F811
    sent: dict,
    where: set[str],
) -> None:
    asked = {"q": "bag", "user_id": "u004", "k": 5, "rules": {"in_stock": True, "price": {"max": 50}}}
    first = shop.post(PATH, json=asked)
    going = {"user_id": "u004", "page": 2, "request_id": first.json()["request_id"]}
    assert said(shop.post(PATH, json={**going, **sent})).keys() == {f"body.{name}" for name in where}
    assert ids_of(shop.post(PATH, json=going)) == ids_of(shop.post(PATH, json={**asked, **going}))


def test_a_search_of_graphql_is_told_alike(shop: httpx.Client) -> None:  # noqa: F811
    first = shop.post(PATH, json={"q": "bag", "k": 5}).json()["request_id"]
    query = '{ search(q: "mug", page: 2, requestId: "%s") { total } }'
    answer = shop.post("/v1/graphql", json={"query": query % first}).json()
    problem = answer["errors"][0]["extensions"]["problem"]
    assert (problem["status"], [each["where"] for each in problem["errors"]]) == (422, ["q"])
