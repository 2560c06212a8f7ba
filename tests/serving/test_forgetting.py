"""A release that is served no more leaves memory, and what is served beside it stays."""

from __future__ import annotations

import gc

import pytest

from engine.recommender import Recommender
from serving import release
from serving.release import Beside
from tests.serving.conftest import stage
from tests.serving.test_beside import until
from tests.serving.test_ladder import Slow, api_over


def recommenders() -> list[Recommender]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, Recommender)]


def more_than(before: list[Recommender]) -> int:
    """How many there are beside those of before, which are held: the number of one that went would be given to another one."""
    known = {id(each) for each in before}
    return sum(id(each) not in known for each in recommenders())


def test_old_releases_leave_memory(aisle_home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.app.FORGET_SECONDS", 0.1)
    before = recommenders()
    with api_over(Slow(), monkeypatch, SERVING__POINTER_SECONDS="0.05") as (client, app):
        service = app.state.service
        for version in ("2", "3", "4"):
            stage(version, seed=int(version))
            until(lambda version=version: client.get("/readyz").json()["version"] == version)
            assert client.get("/v1/recommendations", params={"user_id": "u001"}).status_code == 200
            until(lambda: client.get("/v1/search", params={"q": "title"}).status_code == 200)
        until(lambda: more_than(before) == 1)
        staged = release.staged("3")
        assert staged is not None
        with release.lock():
            release.put_beside(Beside(staged, 0.5))
        until(lambda: service.live.second is not None)
        stage("5", seed=5)
        until(lambda: client.get("/readyz").json()["version"] == "5")
        until(lambda: more_than(before) == 2)
        found = {
            client.get("/v1/recommendations", params={"user_id": f"u{number:03d}"}).json()["model_version"]
            for number in range(30)
        }
        assert found == {"3", "5"}
