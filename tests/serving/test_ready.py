"""What the first questions after a swap want is made before it, by work that leaves room for the questions of the release before."""

from __future__ import annotations

import sys
import threading

import pytest

from serving import live, view
from serving.live import Loaded
from serving.view import View
from tests.serving.conftest import stage
from tests.serving.test_beside import until
from tests.serving.test_ladder import Slow, api_over


def test_views_are_made_before_the_swap(aisle_home, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_over(Slow(), monkeypatch, SERVING__POINTER_SECONDS="0.05") as (client, app):
        service = app.state.service
        asked = {"country": "France"}
        assert client.get("/v1/popular", params=asked).status_code == 200
        until(lambda: client.get("/v1/search", params={"q": "title"}).status_code == 200)
        made: list[tuple[str, str]] = []
        of, swapped = View.of, service.live.swapped

        def noted(recommender, version="", *rest, **more):
            made.append((service.live.current.pointer.version, version))
            return of(recommender, version, *rest, **more)

        monkeypatch.setattr(view.View, "of", noted)
        at_once: list[bool] = []

        def looked(loaded: Loaded | None):
            found = service.answers.views.ready(loaded)
            at_once.append(found is not None and service.searching.views.ready(found) is not None)
            at_once.append("stock" in found.assortment.__dict__ and None in found._orders)
            return swapped(loaded)

        service.live.swapped = looked
        stage("2", seed=8)
        until(lambda: client.get("/readyz").json()["version"] == "2")
        assert at_once == [True, True]
        assert client.get("/v1/popular", params=asked).json()["model_version"] == "2"
        assert ("1", "2") in made
        assert ("2", "2") not in made


def test_requests_wait_less_for_the_interpreter_meanwhile() -> None:
    before = sys.getswitchinterval()
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with live.beside_requests():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    with live.beside_requests():
        thread.start()
        assert inside.wait(10)
    assert sys.getswitchinterval() == pytest.approx(live.SWITCH_SECONDS), "another thread is at it still"
    done.set()
    thread.join()
    assert sys.getswitchinterval() == pytest.approx(before)
