"""From the dataset's frames to the integer arrays that the two-tower reads: looked up once, before training."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from aisle.settings import Training
from engine.state import DAY, from_frame
from engine.towers import history_arrays

# Words and categories are hashed, so that tomorrow's words need no new rows; 8,192 buckets keep the few
# thousand words of a shop's titles nearly free of collisions.
WORD_BUCKETS = 8192
CATEGORY_BUCKETS = 1024
MAX_WORDS = 12
MAX_CATEGORIES = 6
Moments = datetime | Sequence[datetime]
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Vocabulary:
    """Ids with their row in the embedding tables; row 0 is padding and the unknown."""

    items: pd.Index
    countries: pd.Index

    @classmethod
    def of(cls, items: Iterable[str], countries: Iterable[str | None]) -> Vocabulary:
        """Sorted and distinct, so that the same data gives the same rows."""
        named = {country for country in countries if isinstance(country, str)}
        return cls(pd.Index(sorted(set(items)), dtype=object), pd.Index(sorted(named), dtype=object))

    def item_rows(self, item_ids: Iterable[str]) -> np.ndarray:
        """int32 rows; 0 for the unknown."""
        return (self.items.get_indexer(pd.Index(item_ids, dtype=object)) + 1).astype(np.int32)

    def country_rows(self, countries: Iterable[str | None]) -> np.ndarray:
        return (self.countries.get_indexer(pd.Index(countries, dtype=object)) + 1).astype(np.int32)


@dataclass(frozen=True)
class ItemInputs:
    """What the candidate tower reads of each row of the vocabulary (row 0 all zeros).

    words (n+1, MAX_WORDS) and categories (n+1, MAX_CATEGORIES) int32 buckets, 0 = none; log_price (n+1,) float32.
    """

    words: np.ndarray
    categories: np.ndarray
    log_price: np.ndarray


def _bucket(text: str, buckets: int) -> int:
    """A bucket from 1 on; 0 stays free for 'none'. crc32, because Python's own hash differs between processes."""
    return zlib.crc32(text.encode()) % (buckets - 1) + 1


def _padded(lists: Iterable[list[int]], width: int) -> np.ndarray:
    rows = [(each[:width] + [0] * width)[:width] for each in lists]
    return np.array(rows, dtype=np.int32).reshape(-1, width)


def item_inputs(vocabulary: Vocabulary, items: pd.DataFrame) -> ItemInputs:
    """`items`: item_id, title, categories, brand, price; items of the vocabulary that it lacks get zeros."""
    ordered = items.drop_duplicates("item_id").set_index("item_id").reindex(vocabulary.items)
    titles = [text if isinstance(text, str) else "" for text in ordered["title"]]
    brands = [f"brand:{text}" if isinstance(text, str) and text else "" for text in ordered["brand"]]
    words = [
        [_bucket(word, WORD_BUCKETS) for word in (*_WORD.findall(title.lower()), *filter(None, [brand]))]
        for title, brand in zip(titles, brands, strict=True)
    ]
    paths = [
        list(path) if isinstance(path, (list, tuple, np.ndarray)) else [] for path in ordered["categories"]
    ]
    categories = [[_bucket(str(name), CATEGORY_BUCKETS) for name in path] for path in paths]
    price = np.nan_to_num(np.log1p(ordered["price"].astype(float).clip(lower=0).to_numpy()))
    return ItemInputs(
        words=_padded([[], *words], MAX_WORDS),
        categories=_padded([[], *categories], MAX_CATEGORIES),
        log_price=np.concatenate([[0.0], price]).astype(np.float32),
    )


@dataclass(frozen=True)
class Queries:
    """What the query tower reads, one row a query: a user at a moment.

    items (b, L) int32 rows, newest first, 0 = padding; weights (b, L) float32 signed, of absolute sum 1 or 0;
    countries (b,) int32 rows; log_count (b,) float32, log1p of the events used.
    """

    items: np.ndarray
    weights: np.ndarray
    countries: np.ndarray
    log_count: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def take(self, places: np.ndarray) -> Queries:
        return Queries(
            self.items[places], self.weights[places], self.countries[places], self.log_count[places]
        )


def queries(vocabulary: Vocabulary, histories: pd.DataFrame, moments: Moments, settings: Training) -> Queries:
    """`histories` (country, item_ids, event_types, event_times; newest first) as seen at `moments`.

    Which events count and what each weighs is `engine.towers.history_arrays`, the same call that serving makes.
    """
    index = dict(zip(vocabulary.items, range(1, len(vocabulary.items) + 1), strict=True))
    rows, weights = history_arrays(
        from_frame(histories),
        moments,
        index,
        settings.event_weights,
        settings.history_half_life_days,
        settings.history_items,
    )
    total = np.abs(weights).sum(axis=1, keepdims=True)
    return Queries(
        items=rows,
        weights=np.divide(weights, total, out=np.zeros_like(weights), where=total > 0),
        countries=vocabulary.country_rows(histories["country"]),
        log_count=np.log1p((weights != 0).sum(axis=1)).astype(np.float32),
    )


@dataclass(frozen=True)
class Pairs:
    """Positives, all (p,): the place of the query, the row of the item (int32), and how much the pair matters.

    Ordered by query. A query's history is stored once, not once a pair.
    """

    query: np.ndarray
    item: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.query)


def pairs(vocabulary: Vocabulary, examples: pd.DataFrame, half_life_days: float) -> Pairs:
    """One pair per label of `examples` (event_timestamp, label_items); items that the vocabulary does not know are left out.

    A pair's weight halves with every `half_life_days` before the newest example: shops have seasons.
    """
    exploded = examples["label_items"].reset_index(drop=True).explode().dropna()
    rows, owner = vocabulary.item_rows(exploded), exploded.index.to_numpy(np.int32)
    age = (
        examples["event_timestamp"].max() - examples["event_timestamp"]
    ).dt.total_seconds().to_numpy() / DAY
    known = rows > 0
    return Pairs(owner[known], rows[known], 0.5 ** (age[owner[known]] / half_life_days))
