"""What somebody said for good is not forgotten for all that they look at afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from tests.serving.conftest import Kept

AFTERWARDS = 520  # events, of a history's 500


def look(client: httpx.Client, user: str, kind: str = "view", item: str = "i039", after: float = 0) -> None:
    """AFTERWARDS events of a user with one item, from `after` seconds on."""
    seen = {"event_type": kind, "user_id": user, "item_id": item}
    began = datetime.now(UTC) + timedelta(seconds=after)
    rows = [
        {**seen, "event_time": (began + timedelta(milliseconds=number)).isoformat()}
        for number in range(AFTERWARDS)
    ]
    answer = client.post("/v1/events", json=rows)
    assert answer.json()["accepted"] == AFTERWARDS, answer.text


def say(client: httpx.Client, user: str, item: str, preference: str) -> None:
    said = {"item_id": item, "preference": preference}
    assert client.post(f"/v1/users/{user}/preferences", json=said).status_code < 300


def listed(client: httpx.Client, user: str, path: str = "/v1/recommendations", **more: object) -> list[str]:
    """Every item that may be shown."""
    answer = client.get(path, params={"user_id": user, "k": 40, **more})
    return [each["item_id"] for each in answer.json()["items"]]


def preferences(client: httpx.Client, user: str) -> dict[str, list[str]]:
    found = client.get(f"/v1/users/{user}/preferences").json()
    return {name: found[name] for name in ("like", "dislike", "hide")}


def test_never_again_is_never_again(api: httpx.Client) -> None:
    first = listed(api, "u010")[0]
    say(api, "u010", first, "hide")
    say(api, "u010", "i038", "like")
    look(api, "u010")
    assert first not in listed(api, "u010")
    assert first not in listed(api, "u010", "/v1/popular")
    assert preferences(api, "u010") == {"like": ["i038"], "dislike": [], "hide": [first]}
    assert preferences(api, "u010")["hide"] == api.get("/v1/users/u010/export").json()["preferences"]["hide"]
    say(api, "u010", first, "undo")
    assert first in listed(api, "u010")
    look(api, "u010", item="i037")
    assert first in listed(api, "u010"), "that it was taken back is not forgotten either"
    assert preferences(api, "u010") == {"like": ["i038"], "dislike": [], "hide": []}


def test_an_item_in_the_cart_stays_wanted(api: httpx.Client) -> None:
    first = listed(api, "u011")[0]
    say(api, "u011", first, "hide")
    later = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()  # histories count in seconds
    cart = {"event_type": "cart", "user_id": "u011", "item_id": first, "event_time": later}
    api.post("/v1/events", json=cart)
    assert first in listed(api, "u011")
    look(api, "u011", after=3)
    assert first in listed(api, "u011")


def test_bought_ever_is_ever(api: httpx.Client) -> None:
    before = Kept().states["u012"].item_ids
    api.post("/v1/events", json={"event_type": "purchase", "user_id": "u012", "item_id": "i036"})
    look(api, "u012")
    asked = {"user_id": "u012", "k": 40, "rules": {"already": {"event_types": ["purchase"]}}}
    answer = api.post("/v1/recommendations", json=asked).json()
    assert {"i036", *before}.isdisjoint(each["item_id"] for each in answer["items"])


def test_what_was_shown_pushes_nothing_out_that_counts(api: httpx.Client) -> None:
    before = listed(api, "u013")
    look(api, "u013", "impression")
    history = api.get("/v1/users/u013/history").json()["events"]
    bought = [each["item_id"] for each in history if each["event_type"] == "purchase"]
    assert bought == list(Kept().states["u013"].item_ids)
    answer = api.get("/v1/recommendations", params={"user_id": "u013", "k": 40}).json()
    assert answer["rung"] == "personalised"
    assert [each["item_id"] for each in answer["items"]][:5] == before[:5]


def test_who_is_erased_is_forgotten_with_all_they_said(api: httpx.Client) -> None:
    first = listed(api, "u014")[0]
    say(api, "u014", first, "hide")
    look(api, "u014")
    assert api.delete("/v1/users/u014").status_code == 202
    assert preferences(api, "u014") == {"like": [], "dislike": [], "hide": []}
    assert first in listed(api, "u014")
