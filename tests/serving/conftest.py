"""A tiny shop: bundles fitted by the engine on it, staged as releases, and its histories in a real online store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from engine.recommender import Recipe, Recommender
from serving import release
from serving.release import Pointer

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


def write_bundle(into: Path, seed: int = 7) -> Path:
    items, histories = shop(seed)
    Recommender.fit(items, histories, CUT, recipe(), None).save(into)
    return into


def recipe() -> Recipe:
    return Recipe(seed=7, cut=CUT, feature_service="retrieval_v1")


@pytest.fixture
def stage_release(aisle_home: Path) -> Release:
    """Stages a bundle as `publish.stage` leaves it; returns its pointer. `point=True` releases it as well."""

    def make(version: str, seed: int = 7, point: bool = True) -> Pointer:
        folder = release.folder(version)
        write_bundle(folder / "bundle", seed)
        found = release.digest(folder / "bundle")
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

    return make
