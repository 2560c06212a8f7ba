"""Reviews through the door: the newest one counts, one that is taken back says nothing, and a value has its scale."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from aisle import settings as settings_module
from aisle.columns import RATINGS
from engine.recommender import Recipe, Recommender
from tests.serving import conftest
from tests.serving.conftest import CUT, Kept, asking, running, shop, stage
from tests.serving.test_swap import wait_for

numbers = itertools.count()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The API with a release for which ratings count, as they do in a shop with the settings as they come."""

    def write_bundle(into: Path, *_: object) -> Path:
        items, histories = shop()
        recipe = Recipe(
            event_weights={"purchase": 1.0, "rating": 0.5, "low_rating": -1.0, "hide": -1.0},
            never_again=["hide", "dislike", "low_rating"],
        )
        Recommender.fit(items, histories, CUT, recipe, None).save(into)
        return into

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("reviews")))
        for name in ("AISLE_ANSWERS__DEADLINE_SECONDS", "AISLE_SERVING__FEATURE_DEADLINE_SECONDS"):
            patch.setenv(name, "5")
        patch.setattr(conftest, "write_bundle", write_bundle)
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), Kept()) as url, asking(url) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200, 90)
            yield client
    settings_module.load.cache_clear()


@pytest.fixture
def fresh() -> str:
    """A user that no other test knows."""
    return f"rater-{next(numbers)}"


def rated(api: httpx.Client, user: str) -> list[str]:
    """Items that count as rated, newest first."""
    events = api.get(f"/v1/users/{user}/history").json()["events"]
    return [each["item_id"] for each in events if each["event_type"] in RATINGS]


def lists(api: httpx.Client, user: str) -> dict:
    answer = api.get("/v1/recommendations", params={"user_id": user, "k": 40}).json()
    return {"rung": answer["rung"], "items": [(each["item_id"], each["score"]) for each in answer["items"]]}


def test_a_rating_counts_until_it_is_taken_back(api: httpx.Client, fresh: str) -> None:
    before = lists(api, fresh)
    assert api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": 5, "text": "Bright"}).status_code == 202
    assert rated(api, fresh) == ["i004"]
    assert lists(api, fresh) != before
    answer = api.delete(f"/v1/items/i004/reviews/{fresh}")
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert rated(api, fresh) == []
    assert lists(api, fresh) == before
    assert api.delete(f"/v1/items/i004/reviews/{fresh}").status_code == 202, "said twice it is done once"
    api.post("/v1/items/i004/reviews", json={"user_id": fresh, "value": 2})
    assert rated(api, fresh) == ["i004"], "who rates again is heard again"


def test_the_newest_rating_counts_alone(api: httpx.Client, fresh: str) -> None:
    twin = f"{fresh}-twin"
    for value in (1, 4, 5):
        api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": value})
    api.put(f"/v1/items/i004/reviews/{twin}", json={"value": 5})
    assert lists(api, fresh) == lists(api, twin) != lists(api, "nobody")


def test_a_rating_that_was_taken_back_leaves_what_is_hidden(api: httpx.Client, fresh: str) -> None:
    api.post(f"/v1/users/{fresh}/preferences", json={"item_id": "i004", "preference": "hide"})
    api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": 1})
    api.delete(f"/v1/items/i004/reviews/{fresh}")
    assert api.get(f"/v1/users/{fresh}/preferences").json()["hide"] == ["i004"]
    assert "i004" not in dict(lists(api, fresh)["items"])
    api.put(f"/v1/items/i005/reviews/{fresh}", json={"value": 3})
    api.post(f"/v1/users/{fresh}/preferences", json={"item_id": "i005", "preference": "undo"})
    assert rated(api, fresh) == ["i005"]


@pytest.mark.parametrize("value", [-1e300, -0.5, 5.5, 1e308])
def test_a_value_has_its_scale(api: httpx.Client, fresh: str, value: float) -> None:
    event = {"event_type": "rating", "user_id": fresh, "item_id": "i004", "value": value}
    for answer in (
        api.post("/v1/items/i004/reviews", json={"user_id": fresh, "value": value}),
        api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": value}),
        api.post("/v1/events", json=event),
    ):
        assert answer.status_code == 422
        (fault,) = answer.json()["errors"]
        assert fault["where"] == "body.value"
        assert "5" in fault["detail"] or "0" in fault["detail"]
    assert "ingest.min_rating" in api.post("/v1/events", json=event).json()["detail"]


def test_ends_of_the_scale_are_on_it_and_bad_ones_told(api: httpx.Client, fresh: str) -> None:
    for value in (0, 5):
        assert api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": value}).status_code == 202
    for body in ({}, {"value": "5"}, {"value": None}, {"value": 3, "user_id": "other"}):
        assert api.put(f"/v1/items/i004/reviews/{fresh}", json=body).status_code == 422
    assert api.delete(f"/v1/items/i004/reviews/{'x' * 300}").status_code == 422
    assert api.delete("/v1/items/a%00b/reviews/u").status_code == 422


def of(api: httpx.Client, user: str, item: str) -> list[tuple[str, str]]:
    """(type, why) of an item in a user's list; empty where it is not in it."""
    body = {"user_id": user, "k": 40}
    found = api.post("/v1/recommendations", json=body).json()["items"]
    return [(each["item_id"], each["reason"]["text"]) for each in found if each["item_id"] == item]


@pytest.mark.parametrize("value", [0, 1, 2])
def test_the_answer_after_a_low_rating_is_without_the_item_and_speaks_of_it_nowhere(
    api: httpx.Client, fresh: str, value: float
) -> None:
    stranger = lists(api, "nobody")["items"]
    assert of(api, fresh, "i004")
    api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": value})
    (event,) = api.get(f"/v1/users/{fresh}/history").json()["events"]
    assert (event["event_type"], event["item_id"]) == ("low_rating", "i004")
    answer = api.post("/v1/recommendations", json={"user_id": fresh, "k": 40}).json()
    assert "i004" not in [each["item_id"] for each in answer["items"]]
    assert not any(each["reason"]["evidence"].get("item_id") == "i004" for each in answer["items"])
    assert not any("rated" in each["reason"]["text"] for each in answer["items"])
    order = [item for item, _ in stranger if item != "i004"]
    assert [each["item_id"] for each in answer["items"]] == order, "nothing like it is pulled up"


def test_who_thinks_better_of_it_sees_it_again(api: httpx.Client, fresh: str) -> None:
    api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": 1})
    assert not of(api, fresh, "i004")
    api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": 5})
    assert of(api, fresh, "i004")
    api.put(f"/v1/items/i004/reviews/{fresh}", json={"value": 1})
    api.delete(f"/v1/items/i004/reviews/{fresh}")
    assert of(api, fresh, "i004")


def test_a_low_rating_of_a_session_counts_as_well(api: httpx.Client, fresh: str) -> None:
    session = f"s-{fresh}"
    event = {"event_type": "rating", "session_id": session, "item_id": "i004", "value": 0.5}
    assert api.post("/v1/events", json=event).status_code == 202
    found = api.post("/v1/recommendations", json={"session_id": session, "k": 40}).json()["items"]
    assert "i004" not in [each["item_id"] for each in found]


def test_nobody_sends_what_a_value_makes_of_a_rating(api: httpx.Client, fresh: str) -> None:
    event = {"event_type": "low_rating", "user_id": fresh, "item_id": "i004", "value": 1}
    assert api.post("/v1/events", json=event).status_code == 422


def review_of(api: httpx.Client, user: str, item: str) -> dict:
    """The newest rating as everybody may export it, without what tells events apart."""
    events = api.get(f"/v1/users/{user}/export").json()["events"]
    newest = next(each for each in events if each["event_type"] == "rating" and each["item_id"] == item)
    return {name: newest[name] for name in ("value", "properties") if name in newest}


def test_a_patch_changes_what_it_names_of_a_review(api: httpx.Client, fresh: str) -> None:
    path = f"/v1/items/i004/reviews/{fresh}"
    api.put(path, json={"value": 1, "title": "Dim", "text": "It is dim."})
    assert not of(api, fresh, "i004")
    assert api.patch(path, json={"value": 4.5}).status_code == 202
    assert review_of(api, fresh, "i004") == {
        "value": 4.5,
        "properties": {"title": "Dim", "text": "It is dim."},
    }
    assert of(api, fresh, "i004"), "the value counts at once"
    assert api.patch(path, json={"title": None, "text": "Brighter than I thought"}).status_code == 202
    assert review_of(api, fresh, "i004") == {
        "value": 4.5,
        "properties": {"text": "Brighter than I thought"},
    }
    assert api.patch(path, json={"text": None}).status_code == 202
    assert review_of(api, fresh, "i004") == {"value": 4.5}


def test_a_patch_follows_a_review_that_lies_ahead(api: httpx.Client, fresh: str) -> None:
    path = f"/v1/items/i004/reviews/{fresh}"
    ahead = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    api.put(path, json={"value": 5, "event_time": ahead})
    assert api.patch(path, json={"value": 1}).status_code == 202
    assert not of(api, fresh, "i004")
    assert review_of(api, fresh, "i004") == {"value": 1}


def test_a_patch_of_no_review_is_404_and_of_nothing_a_fault(api: httpx.Client, fresh: str) -> None:
    path = f"/v1/items/i004/reviews/{fresh}"
    assert api.patch(path, json={"value": 4}).status_code == 404
    api.put(path, json={"value": 4})
    for body, where in (
        ({}, "body"),
        ({"value": None}, "body.value"),
        ({"value": 6}, "body.value"),
        ({"values": 4}, "body.values"),
        ({"text": 4}, "body.text"),
    ):
        answer = api.patch(path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, where), body
    assert "DELETE the review" in api.patch(path, json={"value": None}).json()["detail"]
    api.delete(path)
    assert api.patch(path, json={"value": 4}).status_code == 404, "it was taken back"
    api.put(path, json={"value": 4})
    api.delete(f"/v1/users/{fresh}")
    assert api.patch(path, json={"value": 4}).status_code == 404, "its person is forgotten"
