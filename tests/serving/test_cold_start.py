"""A start whose release is refused: the one released before it answers, and whoever asks is told why, and the way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from aisle import status
from aisle.errors import ServiceFailed
from aisle.settings import Settings
from serving import live, probe, release
from serving.release import Pointer
from tests.serving.conftest import Release, asking, running
from tests.serving.test_swap import wait_for

SPOILT = "content.npz"


def spoil(pointer: Pointer) -> None:
    """Cuts a file of a staged bundle."""
    file = Path(pointer.path) / SPOILT
    file.write_bytes(file.read_bytes()[:-7])


def test_a_spoilt_release_leaves_the_last_good_one_at_a_cold_start(
    settings: Settings, stage_release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "RETRY_SECONDS", 0.2)
    first, second = stage_release("1"), stage_release("2", seed=8)
    assert second.previous == "1"
    whole = (Path(second.path) / SPOILT).read_bytes()
    spoil(second)
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        ready = httpx.get(f"{url}/readyz").json()
        assert (ready["version"], ready["digest"], ready["released_at"]) == ("1", first.digest, first.at)
        assert (ready["fault"]["version"], ready["fault"]["at"]) == ("2", second.at)
        for told in (SPOILT, "version 1", "`aisle rollback`", "`aisle promote 2`"):
            assert told in ready["fault"]["detail"]
        assert asking(url).get("/v1/recommendations").json()["model_version"] == "1"
        figures = httpx.get(f"{url}/metrics").text
        assert 'aisle_model_info{version="1"} 1.0' in figures
        assert 'version="2"' not in figures
        said = status.answering(url)
        assert (said["version"], said["fault"]["version"]) == ("1", "2"), "`aisle status` tells it too"
        assert "the API answers with version 1: " in status.answers({"version": "2"}, said)[0]
        with pytest.raises(ServiceFailed, match="refused version 2"):
            probe.wait_until_served(settings, second, url)
        (Path(second.path) / SPOILT).write_bytes(whole)
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["version"] == "2")
        assert not httpx.get(f"{url}/readyz").json()["fault"]
        assert asking(url).get("/v1/recommendations").json()["model_version"] == "2"


def test_a_rollback_from_there_is_followed_and_the_fault_is_gone(
    settings: Settings, stage_release: Release
) -> None:
    first, second = stage_release("1"), stage_release("2", seed=8)
    spoil(second)
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        back = replace(first, at="2011-12-01T00:00:00+00:00")
        release.bar("2", "spoilt")
        release.point(back)
        wait_for(lambda: not httpx.get(f"{url}/readyz").json()["fault"])
        assert httpx.get(f"{url}/readyz").json()["released_at"] == back.at
        assert probe.wait_until_served(settings, back, url) == "serving"


def test_barred_and_spoilt_ones_are_passed_over(settings: Settings, stage_release: Release) -> None:
    _, second, _, fourth = (stage_release(str(number), seed=number) for number in (1, 2, 3, 4))
    spoil(second)
    release.bar("3", "sold out items on top")
    spoil(fourth)
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert httpx.get(f"{url}/readyz").json()["version"] == "1"
        assert httpx.get(f"{url}/readyz").json()["fault"]["version"] == "4"


def test_where_none_can_be_loaded_the_answer_says_why(settings: Settings, stage_release: Release) -> None:
    for pointer in (stage_release("1"), stage_release("2", seed=8)):
        spoil(pointer)
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["status"] == "no_release")
        assert status.answering(url)["status"] == "no_release"
        answer = asking(url).get("/v1/recommendations")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert SPOILT in answer.json()["detail"]
        assert "train and publish" not in answer.json()["detail"]
