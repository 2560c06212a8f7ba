"""PATCH as RFC 7396 means it: null clears, and where nothing can be cleared it says so instead of doing nothing."""

from __future__ import annotations

import itertools

import httpx
import pytest

numbers = itertools.count()


@pytest.fixture
def fresh() -> str:
    """A user that no other test knows."""
    return f"patched-{next(numbers)}"


def of_category(api: httpx.Client, name: str) -> set[str]:
    answer = api.get("/v1/popular", params={"category": name, "k": 40})
    return {each["item_id"] for each in answer.json()["items"]}


def test_null_clears_a_category_and_leaves_the_rest(api: httpx.Client) -> None:
    before = api.get("/v1/items/i002").json()
    assert "i002" in of_category(api, "c2")
    assert (
        api.patch("/v1/items/i002", json={"categories": None, "brand": None, "tags": None}).status_code == 202
    )
    after = api.get("/v1/items/i002").json()
    assert after["categories"] == []
    assert {**before, "categories": []} == after
    assert "i002" not in of_category(api, "c2")
    assert api.patch("/v1/items/i002", json={"categories": ["c2"]}).status_code == 202
    assert "i002" in of_category(api, "c2")


def test_null_clears_a_country(api: httpx.Client, fresh: str) -> None:
    def rung() -> str:
        return api.get("/v1/recommendations", params={"user_id": fresh}).json()["rung"]

    assert api.patch(f"/v1/users/{fresh}", json={"country": "France"}).status_code == 202
    assert rung() == "segment"
    assert api.patch(f"/v1/users/{fresh}", json={"country": None, "language": None}).status_code == 202
    assert rung() == "popular"
    asked = {"user_id": fresh, "country": "Germany"}
    assert api.get("/v1/recommendations", params=asked).json()["rung"] == "segment"


def test_a_known_users_country_is_cleared_over_the_store(api: httpx.Client) -> None:
    assert api.get("/v1/users/u003/history").json()["country"] == "France"
    api.patch("/v1/users/u003", json={"country": None})
    assert api.get("/v1/users/u003/history").json()["country"] is None


@pytest.mark.parametrize(
    ("body", "where", "way_out"),
    [
        ({"price": None, "title": "x"}, {"body.price"}, "send the price that it has now"),
        ({"stock": None}, {"body.stock"}, "send 0"),
        ({"title": None, "currency": None}, {"body.title", "body.currency"}, "an item has a title"),
        ({"image_url": None, "released_at": None}, {"body.image_url", "body.released_at"}, "leave it out"),
    ],
)
def test_what_cannot_be_cleared_is_refused_with_the_way_out(
    api: httpx.Client, body: dict, where: set[str], way_out: str
) -> None:
    before = api.get("/v1/items/i006").json()
    answer = api.patch("/v1/items/i006", json=body)
    assert answer.status_code == 422
    assert {fault["where"] for fault in answer.json()["errors"]} == where
    assert way_out in answer.json()["detail"]
    assert api.get("/v1/items/i006").json() == before, "nothing of it was taken"


def test_of_a_user_too(api: httpx.Client, fresh: str) -> None:
    answer = api.patch(f"/v1/users/{fresh}", json={"consent": None, "country": "France"})
    assert answer.status_code == 422
    assert [fault["where"] for fault in answer.json()["errors"]] == ["body.consent"]
    for path in (f"/v1/users/{fresh}", "/v1/items/i006"):
        empty = api.patch(path, json={})
        assert empty.status_code == 422
        assert "says nothing" in empty.json()["detail"]


def test_the_document_tells_which_may_be_null(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    body = paths["/v1/items/{item_id}"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    fields = body["properties"]
    nullable = {name for name, field in fields.items() if {"type": "null"} in field.get("anyOf", [])}
    assert nullable == {"description", "brand", "categories", "tags", "attributes"}
    assert all("default" not in field for name, field in fields.items() if name not in nullable)
