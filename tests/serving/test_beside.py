"""Two releases side by side: everybody always gets the same one, in the share that was asked for, and it can be taken away at once."""

from __future__ import annotations

import time
from dataclasses import replace

import httpx
import pytest

from serving import release
from serving.live import place_of
from serving.release import Beside
from tests.serving.test_ladder import Slow, api_over

USERS = [f"u{row:03d}" for row in range(60)]


def until(what) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def versions(client: httpx.Client) -> dict[str, tuple[str, str]]:
    answers = {user: client.get("/v1/recommendations", params={"user_id": user, "k": 3}) for user in USERS}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {user: (each.json()["model_version"], each.json()["variant"]) for user, each in answers.items()}


def test_a_share_of_the_shoppers_gets_the_second_release(
    aisle_home, monkeypatch: pytest.MonkeyPatch, stage_release
) -> None:
    with api_over(Slow(), monkeypatch) as (client, app):
        assert set(versions(client).values()) == {("1", "")}
        second = stage_release("2", seed=8, point=False)
        release.put_beside(Beside(replace(second, at="2011-11-02T00:00:00+00:00"), 0.3))
        live = app.state.service.live
        until(lambda: live.second)
        found = versions(client)
        assert {user for user, told in found.items() if told == ("2", "b")} == {
            u for u in USERS if place_of(u) < 0.3
        }
        assert set(found.values()) == {("2", "b"), ("1", "a")}
        assert versions(client) == found
        assert client.get("/v1/recommendations").json()["variant"] == "a", (
            "who cannot be told apart gets the first"
        )
        release.put_beside(Beside(replace(second, at="2011-11-02T00:00:00+00:00"), 0.0))
        until(lambda: live.second and live.second[1] == 0.0)
        assert set(versions(client).values()) == {("1", "a")}
        release.put_beside(None)
        until(lambda: live.second is None)
        assert set(versions(client).values()) == {("1", "")}


def test_new_items_are_recommended_beside_a_second_release_too(
    aisle_home, monkeypatch: pytest.MonkeyPatch, stage_release
) -> None:
    with api_over(Slow(), monkeypatch) as (client, app):
        second = stage_release("2", seed=8, point=False)
        release.put_beside(Beside(replace(second, at="2011-11-02T00:00:00+00:00"), 0.3))
        until(lambda: app.state.service.live.second)
        like = client.get("/v1/items/i001").json()
        new = {"title": "NEW LAMP", "categories": ["only-this"], "price": like["price"]}
        assert client.put("/v1/items/new-lamp", json=new).status_code == 202

        def shown(user: str) -> list[str]:
            answer = client.get("/v1/recommendations", params={"user_id": user, "category": "only-this"})
            return [each["item_id"] for each in answer.json().get("items", [])]

        for user in ("u000", *USERS[:8]):
            until(lambda user=user: shown(user) == ["new-lamp"])
        grown = app.state.service.overlay.version
        for user in USERS:
            assert shown(user) == ["new-lamp"]
            assert client.get("/v1/items/new-lamp").status_code == 200
        assert app.state.service.overlay.version == grown, (
            "it was placed once a release, not at every question"
        )


def test_a_second_release_that_does_not_load_answers_nobody(aisle_home, monkeypatch, stage_release) -> None:
    with api_over(Slow(), monkeypatch) as (client, app):
        second = stage_release("2", seed=8, point=False)
        release.put_beside(Beside(replace(second, digest="0" * 64), 0.5))
        time.sleep(1.5)
        assert app.state.service.live.second is None
        assert set(versions(client).values()) == {("1", "")}
        assert client.get("/readyz").status_code == 200


def test_places_are_spread_evenly() -> None:
    places = [place_of(f"user {number}") for number in range(4000)]
    assert [sum(place < edge for place in places) / 4000 for edge in (0.1, 0.5, 0.9)] == pytest.approx(
        [0.1, 0.5, 0.9], abs=0.03
    )


def test_what_is_released_or_barred_meanwhile_answers_nobody_beside(
    aisle_home, monkeypatch: pytest.MonkeyPatch, stage_release
) -> None:
    with api_over(Slow(), monkeypatch) as (client, app):
        live = app.state.service.live
        second = replace(stage_release("2", seed=8, point=False), at="2011-11-02T00:00:00+00:00")
        release.put_beside(Beside(second, 0.3))
        until(lambda: live.second)
        release.bar("2", "sold out items on top")
        until(lambda: live.second is None)
        assert set(versions(client).values()) == {("1", "")}
        assert client.get("/readyz").json()["beside"] is None
        release.unbar("2")
        until(lambda: live.second)
        release.point(replace(second, previous="1", at="2011-11-03T00:00:00+00:00"))
        until(lambda: client.get("/readyz").json()["version"] == "2" and live.second is None)
        assert set(versions(client).values()) == {("2", "")}
