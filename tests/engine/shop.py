"""A small shop with structure that a recommender can find: two tastes, favourites bought again, two
countries.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from engine.towers import TowerExport

CUT = datetime(2024, 6, 1, tzinfo=UTC)
N_USERS, N_ITEMS = 80, 40
WEIGHTS = {"purchase": 1.0, "return": -1.0}


def ids(n: int = N_ITEMS) -> list[str]:
    return [f"item {row:02d}" for row in range(n)]


def orders(seed: int = 3, days: int = 150) -> pd.DataFrame:
    """user_id, item_id, time, kind: each user keeps to one half of the items and likes some of it better."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(N_USERS):
        half = np.arange(N_ITEMS // 2) + (user % 2) * (N_ITEMS // 2)
        liking = rng.dirichlet(np.full(len(half), 0.3))
        for day in np.sort(rng.choice(days, 8, replace=False)):
            for item in rng.choice(half, 4, replace=False, p=0.7 * liking + 0.3 / len(half)):
                time = CUT + timedelta(days=int(day) - days + 28, hours=int(rng.integers(8, 18)))
                rows.append((f"u{user:02d}", f"item {item:02d}", time, "purchase"))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "time", "kind"])


def frames(cut: datetime = CUT, days: int = 28) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """items, histories and truth of the shop at a cut."""
    lines = orders()
    before = lines[lines["time"] < cut].sort_values("time", ascending=False)
    after = lines[(lines["time"] >= cut) & (lines["time"] < cut + timedelta(days=days))]
    recent = before[before["time"] >= cut - timedelta(days=30)]
    items = pd.DataFrame({"item_id": ids()})
    for name, some in (("n_buyers", before), ("n_buyers_30d", recent)):
        items[name] = items["item_id"].map(some.groupby("item_id")["user_id"].nunique()).fillna(0)
    items = items.assign(title=items["item_id"].str.title(), price=2.5, brand=None, deleted=False)
    items["categories"] = [["gifts", "small"] for _ in range(len(items))]
    items["days_since_first"] = np.linspace(5, 120, len(items))
    groups = before.assign(epoch=[int(time.timestamp()) for time in before["time"]]).groupby(
        "user_id", sort=True
    )
    histories = pd.DataFrame(
        {
            "item_ids": groups["item_id"].agg(list),
            "event_types": groups["kind"].agg(list),
            "event_times": groups["epoch"].agg(list),
        }
    ).reset_index()
    histories["quantities"] = [[1.0] * len(each) for each in histories["item_ids"]]
    histories["country"] = np.where(np.arange(len(histories)) % 4 == 0, "Germany", "Japan")
    return items, histories, after[["user_id", "item_id"]].drop_duplicates()


def tower(seed: int = 0, d: int = 6, h: int = 5, e: int = 2) -> TowerExport:
    """Random towers of the right shapes; half of the shop's items are unknown to them."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    known = ids()[: N_ITEMS // 2]
    vectors = draw(len(known), d)
    return TowerExport(
        item_ids=known,
        item_vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        history_embeddings=draw(len(known), h),
        countries=["Germany", "Japan"],
        country_embeddings=draw(3, e),
        layers=[(draw(h + e + 1, 8), draw(8), "relu"), (draw(8, d), draw(d), "linear")],
        half_life_days=60.0,
        history_items=5,
        event_weights=WEIGHTS,
    )
