"""Why this, why not that, why empty: what is told is what happened."""

from __future__ import annotations

import httpx
import pytest

EXPLAIN = "/v1/explain"


def explained(api: httpx.Client, item: str | None = None, kind: str = "recommendations", **question) -> dict:
    body = {"question": {"user_id": "u001", "k": 5, **question}, "kind": kind}
    answer = api.post(EXPLAIN, json=body | ({"item_id": item} if item else {}))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_why_this(api: httpx.Client) -> None:
    listed = api.post("/v1/recommendations", json={"user_id": "u001", "k": 5}).json()["items"]
    found = explained(api, listed[1]["item_id"])
    item = found["item"]
    assert found["items"] == [each["item_id"] for each in listed]
    assert (item["shown_at"], item["place"], item["removed_by"]) == (2, 2, [])
    assert item["verdict"] == "shown at place 2, rung personalised"
    assert item["score"] == pytest.approx(listed[1]["score"], abs=1e-5)
    assert sum(item["reason"]["parts"].values()) == pytest.approx(item["score"], abs=1e-3)
    assert item["reason"]["source"] in {each["source"] for each in item["sources"]}
    places = {each["source"]: each["place"] for each in item["sources"]}
    assert min(places.values()) <= 10


def test_why_not_that_by_every_rule_that_forbids_it(api: httpx.Client) -> None:
    shown = explained(api)["items"]
    rules = {"exclude": [shown[0]], "price": {"max": 0.5}, "already": {"event_types": ["purchase"]}}
    item = explained(api, shown[0], rules=rules)["item"]
    assert {"request: exclude", "request: price.max"} <= set(item["removed_by"])
    assert item["verdict"].startswith("not shown: request: price.max")
    assert (item["shown_at"], item["place"], item["reason"]) == (None, None, None)
    assert len(item["sources"]) >= 4


def test_why_not_that_by_rank_and_by_cap(api: httpx.Client) -> None:
    whole = explained(api, k=40)["items"]
    last = explained(api, whole[-1])["item"]
    assert last["place"] == 40
    assert last["verdict"] == "not on this page: place 40 of 40, 5 are shown"
    capped = explained(api, k=5, rules={"caps": {"category": 1}})
    waiting = next(item for item in whole[:5] if item not in capped["items"])
    found = explained(api, waiting, k=5, rules={"caps": {"category": 1}})["item"]
    assert found["verdict"] == "not on this page: the cap on its category is full"


def test_why_empty(api: httpx.Client) -> None:
    found = explained(
        api, rules={"price": {"min": 5, "max": 15}, "categories": {"exclude": ["c0", "c1", "c2", "c3"]}}
    )
    assert found["items"] == []
    steps = {step["stage"]: step["items"] for step in found["trace"]}
    assert steps["catalogue"] == 40
    assert 0 < steps["rule request: price.max"] < steps["rule request: price.min"] < 40
    assert steps["rule request: categories.exclude"] == steps["on the page"] == 0


def test_other_lists_and_other_rungs(api: httpx.Client) -> None:
    found = explained(api, "i005", kind="popular", user_id="nobody")
    assert found["rung"] == "popular"
    assert found["item"]["sources"][0]["source"] == "popularity"
    similar = explained(api, "i005", kind="similar", item_id="i001")
    assert similar["rung"] == "related"
    itself = explained(api, "i001", kind="similar", item_id="i001")
    assert itself["item"]["removed_by"] == ["subject: exclude"]


def test_what_cannot_be_explained(api: httpx.Client) -> None:
    assert api.post(EXPLAIN, json={"question": {"k": 5}, "item_id": "none"}).status_code == 404
    wrong = api.post(EXPLAIN, json={"question": {"k": 0, "x": 1}, "kind": "all", "why": "i001"})
    assert {fault["where"] for fault in wrong.json()["errors"]} == {
        "body.question.k",
        "body.question.x",
        "body.kind",
        "body.why",
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"question": {}, "kind": "similar"}, "needs item_id or basket"),
        ({"question": {}, "kind": "together"}, "needs item_id or basket"),
        ({"question": {"basket": ["i001"]}, "kind": "similar"}, "not by a basket"),
        ({"question": {"page": 2, "request_id": "x"}}, "the first page is explained"),
    ],
)
def test_a_question_that_has_no_answer_is_told_so(api, asked: dict, said: str) -> None:
    answer = api.post("/v1/explain", json=asked)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
