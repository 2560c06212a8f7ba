"""Entity tags name what was answered, whichever process of the API answered it, and whatever it went through before."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from aisle.settings import Settings
from serving import answers
from serving.asking import Ask
from serving.making import Made, work
from serving.view import View
from tests.serving.conftest import Kept, asking, running, stage
from tests.serving.test_ladder import Slow, api_over
from tests.serving.test_swap import wait_for

ASKED = {"user_id": "u001", "k": "5"}


def ready(client: httpx.Client) -> None:
    wait_for(lambda: client.get("/readyz").status_code == 200)


def tag(client: httpx.Client) -> str | None:
    return client.get("/v1/recommendations", params=ASKED).headers.get("etag")


def price(client: httpx.Client, item: str) -> float:
    return client.get(f"/v1/items/{item}").json()["price"]


def settled(client: httpx.Client) -> str:
    """The tag once the answer has all that was told."""
    wait_for(lambda: tag(client))
    found = tag(client)
    assert found
    return found


def test_workers_and_restarts_give_one_tag_and_other_words_another(settings: Settings) -> None:
    stage("1")
    with running(settings, Kept()) as one, asking(one) as first:
        ready(first)
        with running(settings, Kept()) as two, asking(two) as second:
            ready(second)
            for told in (3.0, 4.0, 5.0):  # three changes, of which a process that starts later hears of one
                first.patch("/v1/items/i001", json={"price": told})
            wait_for(lambda: price(first, "i001") == price(second, "i001") == 5.0)
            assert settled(first) == settled(second)
            same = second.get("/v1/recommendations", params=ASKED, headers={"If-None-Match": settled(first)})
            assert same.status_code == 304
    before = None
    with running(settings, Kept()) as three, asking(three) as third:
        ready(third)
        wait_for(lambda: price(third, "i001") == 5.0)
        before = settled(third)
        third.patch("/v1/items/i001", json={"price": 6.0})
        wait_for(lambda: price(third, "i001") == 6.0)
        assert settled(third) != before
    with running(settings, Kept()) as four, asking(four) as fourth:  # as many changes as `three` had at first
        ready(fourth)
        wait_for(lambda: price(fourth, "i001") == 6.0)
        answer = fourth.get("/v1/recommendations", params=ASKED, headers={"If-None-Match": before})
        assert answer.status_code == 200, "a tag of other prices"


def test_a_list_that_was_made_ahead_of_older_orders_is_not_kept_as_one_of_newer_ones(
    aisle_home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_over(Slow(), monkeypatch, ANSWERS__CACHED="100") as (client, app):
        service, ask = app.state.service, Ask("together", k=2, item_id="i001")

        def made(view: View, asked: Ask, *given: object) -> Made:
            found = work(view, asked, *given)
            service.together.version += asked == ask  # the thread of `Together` reads the table just now
            return found

        ready(client)
        before = service.together.version
        monkeypatch.setattr(answers, "work", made)
        service.answers.now(ask)
        assert service.together.version == before + 1
        assert [key[-1] for key in list(service.answers.lists._held) if key[3] == ask] == [before]


def test_what_is_bought_together_is_another_list_once_orders_were_counted_anew(
    aisle_home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a release: features runs daily, and a list that was made before it was kept, tag and all."""
    with api_over(Slow(), monkeypatch) as (client, app):
        path, asked = "/v1/items/i001/together", {"k": 2}
        wait_for(lambda: client.get(path, params=asked).headers.get("etag"))
        before = client.get(path, params=asked)
        together = app.state.service.together
        shown = {each["item_id"] for each in before.json()["items"]}
        other = next(item for item in ("i030", "i031", "i032") if item not in shown)
        together.neighbours = {"i001": ([other], np.array([1.0], np.float32))}
        together.version += 1  # as Together.look does when the table has another one
        after = client.get(path, params=asked, headers={"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200
        assert after.json()["items"][0]["item_id"] == other
