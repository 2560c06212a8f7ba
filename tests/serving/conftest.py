"""A tiny shop: bundles fitted by the engine on it, staged as releases, histories in a real online store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import uvicorn

from aisle import api_keys
from aisle import settings as settings_module
from aisle.errors import FeatureMismatch
from aisle.settings import Settings
from engine.recommender import Recipe, Recommender
from engine.state import UserState, from_frame
from serving import release
from serving.app import create_app
from serving.features import Store
from serving.release import Pointer
from serving.server import config, listen

CUT = datetime(2011, 11, 1, tzinfo=UTC)
COUNTRIES = ("France", "Germany", "United Kingdom")
Release = Callable[..., Pointer]


def shop(seed: int = 7, n_users: int = 60, n_items: int = 40) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(items, histories) as `train.dataset` writes them at a cut."""
    rng = np.random.default_rng(seed)
    item_ids = [f"i{number:03d}" for number in range(n_items)]
    histories = []
    for number in range(n_users):
        taste = rng.permutation(n_items)[: rng.integers(4, 12)]
        times = sorted(
            (int(CUT.timestamp()) - rng.integers(1, 90, len(taste)) * 86_400).tolist(), reverse=True
        )
        histories.append(
            {
                "user_id": f"u{number:03d}",
                "country": COUNTRIES[number % 3],
                "item_ids": [item_ids[place] for place in taste],
                "event_types": ["purchase"] * len(taste),
                "event_times": times,
                "quantities": rng.integers(1, 9, len(taste)).astype(float).tolist(),
                "n_orders": len(taste),
            }
        )
    buyers = pd.Series([item for each in histories for item in each["item_ids"]]).value_counts()
    items = pd.DataFrame(
        {
            "item_id": item_ids,
            "title": [f"TITLE <b>{number}</b> & CO" for number in range(n_items)],
            "categories": [[f"c{number % 4}"] for number in range(n_items)],
            "brand": "",
            "price": rng.uniform(1, 20, n_items).round(2),
            "n_buyers": buyers.reindex(item_ids).fillna(0).astype("int64").to_numpy(),
            "n_buyers_30d": buyers.reindex(item_ids).fillna(0).astype("int64").to_numpy() // 2,
            "n_orders_30d": buyers.reindex(item_ids).fillna(0).astype("int64").to_numpy() // 2,
            "deleted": False,
            "days_since_first": 90.0,
        }
    )
    return items, pd.DataFrame(histories)


def write_bundle(into: Path, seed: int = 7, service: str = "retrieval_v1") -> Path:
    items, histories = shop(seed)
    Recommender.fit(items, histories, CUT, Recipe(feature_service=service), None).save(into)
    return into


class Kept:
    """The shop's histories in memory; how the Feast store itself behaves is for tests/feature_repo to say."""

    def __init__(self) -> None:
        self.states = {state.user_id: state for state in from_frame(shop()[1])}

    def read(self, service: str, users: Sequence[str]) -> list[UserState]:
        return [self.states.get(user, UserState(user)) for user in users]

    def check(self, service: str) -> None:
        if service != "retrieval_v1":
            raise FeatureMismatch(f"no feature service {service!r}")


@contextmanager
def running(settings: Settings, store: Store | None = None, siblings: bool = False) -> Iterator[str]:
    """The API under uvicorn on a free port, in a thread; its URL."""
    listener = listen("127.0.0.1", 0)
    listener.listen()  # who asks before uvicorn is up waits, and is not refused
    server = uvicorn.Server(config(settings, create_app(settings, store, siblings)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def asking(url: str, key: str = "server") -> httpx.Client:
    """A client with one of the keys of the first start (see aisle.api_keys.FIRST), which the running API has made."""
    until = time.monotonic() + 60
    while httpx.get(f"{url}/healthz").status_code != 200:
        assert time.monotonic() < until
    return httpx.Client(base_url=url, headers=api_keys.headers(key), timeout=60)  # a busy machine is no fault


def stage(version: str, seed: int = 7, point: bool = True, service: str = "retrieval_v1") -> Pointer:
    """Stages a bundle as `publish.stage` leaves it; `point` releases it as well."""
    folder = release.folder(version)
    found = release.digest(write_bundle(folder / "bundle", seed, service))
    release.write_json(
        folder / "smoke.json", {"verdict": "passed", "digest": found, "as_of": CUT.isoformat()}
    )
    staged = release.staged(version)
    assert staged is not None
    if point:
        held = release.current()
        at = (CUT + timedelta(minutes=int(version))).isoformat()
        staged = replace(staged, previous=held.version if held else None, at=at)
        release.point(staged)
    return staged


@pytest.fixture
def stage_release(aisle_home: Path) -> Release:
    """`stage`, under the test's own AISLE_HOME."""
    return stage


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The API under uvicorn with release 1 and the shop's histories online, for the tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_HOME", str(tmp_path_factory.mktemp("api")))
        for name in ("AISLE_ANSWERS__DEADLINE_SECONDS", "AISLE_SERVING__FEATURE_DEADLINE_SECONDS"):
            patch.setenv(name, "5")  # a busy machine is not what these tests are about
        settings_module.load.cache_clear()
        settings = settings_module.load()
        stage("1")
        with running(settings, Kept()) as url, asking(url) as client:
            until = time.monotonic() + 90
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < until, client.get("/readyz").text
                time.sleep(0.1)
            yield client
    settings_module.load.cache_clear()
