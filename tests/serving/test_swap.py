"""A release is swapped under load without an error; a bad one is refused and the old one goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from aisle import settings as settings_module
from aisle.settings import Settings
from serving import release
from tests.serving.conftest import Kept, Release, asking, running


def wait_for(check, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while True:
        with suppress(httpx.TimeoutException):  # of a question; what counts is whether it comes true
            if check():
                return
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_up_without_a_release_and_ready_with_one(settings: Settings, stage_release: Release) -> None:
    with running(settings) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["status"] == "no_release")
        assert httpx.get(f"{url}/readyz").status_code == 503
        problem = asking(url).get("/v1/recommendations")
        assert problem.status_code == 503
        assert problem.headers["retry-after"]
        assert "no release" in httpx.get(url).text
        stage_release("1")
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        assert asking(url).get("/v1/recommendations").json()["model_version"] == "1"


def test_swaps_under_load_drop_no_request(
    aisle_home: Path, stage_release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AISLE_SERVING__LIMITS__MAX_QUEUE_SECONDS", "60"
    )  # a machine that stands still is another matter
    settings = settings_module.load()
    pointers = [stage_release("1"), stage_release("2", seed=8)]
    versions, errors, stop = Counter(), [], threading.Event()

    def ask(url: str, name: int) -> None:
        with asking(url) as client:
            while not stop.is_set():
                answer = client.get(
                    "/v1/recommendations", params={"user_id": f"v{name}", "country": "France"}
                )
                if answer.status_code != 200 or len(answer.json()["items"]) != 10:
                    errors.append(answer.text)
                else:
                    versions[answer.json()["model_version"]] += 1

    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        askers = [threading.Thread(target=ask, args=(url, name)) for name in range(6)]
        for asker in askers:
            asker.start()
        for turn in range(8):
            wanted = pointers[turn % 2]
            release.point(replace(wanted, at=f"2011-12-01T00:00:{turn:02d}+00:00"))
            wait_for(lambda to=wanted: httpx.get(f"{url}/readyz").json()["version"] == to.version)
        stop.set()
        for asker in askers:
            asker.join()
    assert not errors
    assert min(versions["1"], versions["2"]) > 0


def test_a_tampered_release_is_refused_and_the_old_one_goes_on(
    settings: Settings, stage_release: Release
) -> None:
    good = stage_release("1")
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        bad = stage_release("2", seed=8, point=False)
        largest = max(
            (path for path in Path(bad.path).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
        )
        largest.write_bytes(largest.read_bytes()[:-7])
        release.point(replace(bad, previous="1", at="2011-12-01T00:00:00+00:00"))
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["fault"])
        ready = httpx.get(f"{url}/readyz").json()
        assert (ready["status"], ready["version"]) == ("ready", "1")
        assert ready["fault"]["version"] == "2"
        assert asking(url).get("/v1/recommendations").json()["model_version"] == "1"
        assert 'outcome="refused"' in httpx.get(f"{url}/metrics").text
        release.point(good)
        wait_for(lambda: not httpx.get(f"{url}/readyz").json()["fault"])


def test_files_that_are_written_to_while_they_are_served_are_told_of(
    settings: Settings, stage_release: Release
) -> None:
    served = stage_release("1")
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        linear = Path(served.path) / "linear.npz"
        content = linear.read_bytes()
        with linear.open("r+b") as file:
            file.seek(-1, 2)
            file.write(bytes([content[-1] ^ 1]))
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["fault"])
        fault = httpx.get(f"{url}/readyz").json()["fault"]
        assert fault["version"] == "1"
        assert "linear.npz" in fault["detail"]
        stage_release("2", seed=8)
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["version"] == "2")
        wait_for(lambda: not httpx.get(f"{url}/readyz").json()["fault"])


def test_a_file_that_is_replaced_or_deleted_under_a_release_changes_no_answer(
    settings: Settings, stage_release: Release
) -> None:
    served = stage_release("1")
    with running(settings) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        asked = {"user_id": "u001", "country": "France"}
        before = asking(url).get("/v1/recommendations", params=asked).json()["items"]
        for name in ("linear.npz", "item_item.npz"):
            fresh = Path(served.path) / f".{name}"
            fresh.write_bytes(b"something else")
            fresh.replace(Path(served.path) / name)
        (Path(served.path) / "content.npz").unlink()
        time.sleep(3 * settings.serving.pointer_seconds)
        other = {**asked, "user_id": "u002"}
        assert asking(url).get("/v1/recommendations", params=other).status_code == 200
        assert asking(url).get("/v1/recommendations", params=asked).json()["items"] == before
        assert not httpx.get(f"{url}/readyz").json()["fault"]


def test_a_model_whose_features_cannot_be_filled_is_refused(
    settings: Settings, stage_release: Release
) -> None:
    stage_release("1", service="retrieval_v9")
    with running(settings, Kept()) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").json()["fault"])
        ready = httpx.get(f"{url}/readyz")
        assert ready.status_code == 503
        assert "retrieval_v9" in ready.json()["fault"]["detail"]
