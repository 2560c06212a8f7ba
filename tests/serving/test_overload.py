"""More than can be answered: some are told to come back, the others are answered as ever, and afterwards all is as before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from aisle import api_keys
from aisle import settings as settings_module
from bench.load import closed, gets, opened
from tests.serving.conftest import Kept, running, stage
from tests.serving.test_swap import wait_for


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An API without a cache, with little patience."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("overload")))
        for name, value in {"BURST_TURNS": 10, "QUEUE_TURNS": 5, "KEY_RATE": 100_000}.items():
            patch.setenv(f"AISLE_SERVING__LIMITS__{name}", str(value))
        patch.setenv("AISLE_ANSWERS__CACHED", "0")
        settings_module.load.cache_clear()
        stage("1")
        with running(settings_module.load(), Kept()) as url:
            wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200)
            yield httpx.URL(url).port
    settings_module.load.cache_clear()


LOST = -1  # not asked at all, because the generator itself had too many under way


def requests() -> Iterator[bytes]:
    key = api_keys.plain_keys()["server"]
    return gets(lambda number: f"/v1/recommendations?user_id=u{number % 60:03d}", key)


@pytest.mark.parametrize("how", ["sixty callers", "four times what one caller gets"])
def test_overload_gives_answers_and_a_time_to_come_back(port: int, how: str) -> None:
    before = asyncio.run(closed(port, requests(), 1, 2))
    if how == "sixty callers":
        heard = asyncio.run(closed(port, requests(), 60, 4))
    else:
        heard = asyncio.run(opened(port, requests(), 4 * before.goodput, 3))
    assert set(heard.statuses) <= {200, 429, 503, LOST}
    assert heard.statuses[503] > 0
    assert (
        heard.goodput > before.goodput / 50
    )  # most of the time goes to those who are sent away, on a busy machine
    assert heard.without_retry_after == 0
    calm = asyncio.run(closed(port, requests(), 1, 2))
    assert set(calm.statuses) == {200}
    figures = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "aisle_requests_at_work 0.0" in figures
    assert "aisle_requests_waiting 0.0" in figures
    assert 'aisle_shed_requests_total{why="' in figures
