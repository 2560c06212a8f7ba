"""A shop of real titles: what the shipped invoices sold most, with categories and brands that their words name."""

from __future__ import annotations

from functools import lru_cache

import duckdb
import numpy as np
import pandas as pd

from aisle.lake import project_root
from engine.recommender import Recipe, Recommender
from tests.serving.conftest import CUT, shop

N_ITEMS = 500
CATEGORIES = {
    "bag": "bags",
    "light": "lights",
    "mug": "kitchen",
    "tin": "kitchen",
    "card": "paper",
    "heart": "gifts",
}
BRANDS = {"RETROSPOT": "Retrospot", "REGENCY": "Regency", "VINTAGE": "Vintage", "SPACEBOY": "Spaceboy"}


@lru_cache
def titles() -> list[tuple[str, str, float]]:
    """(stock code, title, price) of the items that were sold most often, as the shop wrote them."""
    query = f"""select stock_code, mode(trim(description)), median(unit_price) from read_parquet('{project_root()}/data/online_retail.parquet')
        where regexp_matches(stock_code, '^[0-9]{{5}}') and description is not null and unit_price > 0 and quantity > 0
        group by stock_code order by count(*) desc, stock_code limit {N_ITEMS}"""
    with duckdb.connect() as own:  # the module's own connection is everybody's
        found = own.sql(query).fetchall()
    return [(code, title, round(float(price), 2)) for code, title, price in found]


def items() -> pd.DataFrame:
    rows = titles()
    frame = pd.DataFrame(rows, columns=["item_id", "title", "price"])
    frame["categories"] = [_path(title) for title in frame["title"]]
    frame["brand"] = [
        next((brand for word, brand in BRANDS.items() if word in title), "") for title in frame["title"]
    ]
    frame.loc[frame.index % 50 == 49, "price"] = np.nan
    counts = np.arange(len(frame), 0, -1)
    for name in ("n_buyers", "n_buyers_30d", "n_orders_30d"):
        frame[name] = counts
    return frame.assign(deleted=False, days_since_first=90.0)


def _path(title: str) -> list[str]:
    found = [name for word, name in CATEGORIES.items() if word in title.lower()]
    return ["home", found[0]] if found else ["home"]


def histories(frame: pd.DataFrame) -> pd.DataFrame:
    """Those of the tiny shop, over these items."""
    _, found = shop(n_users=60, n_items=40)
    ids = frame["item_id"].tolist()
    found["item_ids"] = [
        [ids[(int(item[1:]) * 11) % len(ids)] for item in some] for some in found["item_ids"]
    ]
    return found


@lru_cache
def recommender() -> Recommender:
    frame = items()
    return Recommender.fit(frame, histories(frame), CUT, Recipe(feature_service="retrieval_v1"), None)
