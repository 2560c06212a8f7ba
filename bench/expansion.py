"""A simulated expansion of a real shop's invoice lines to a larger catalogue and more users, for benches of speed and size.

Never random vectors: every line of the expansion is a line of the real shop, of one of several users that a real user became and
of one of several variants that a real item became. Which, a seeded hash says, so that the same lines give the same expansion.

- A real user becomes clones. Each keeps whole orders of theirs, a share by the hash, one at least.
- A real item becomes variants with words and a price of their own. A clone always takes the same variant of an item, so that
  who bought again buys again. Clones have a style, few of them common and most rare: four in five items are taken in the
  style's variant, so that the variants of a style are bought together and some variants by nobody.

What such a catalogue says about quality is nothing; it keeps the sparsity, the repeats and the long tails of a real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from bench import online_retail

LABEL = "simulated expansion"
KEPT_ORDERS = 0.25  # of a real user's, by each clone
IN_STYLE = 0.8  # of a clone's items
WORDS = (
    *("AMBER", "AZURE", "BRASS", "CORAL", "CREAM", "EBONY", "FOREST", "HAZEL", "IVORY", "JADE", "LILAC"),
    *("MINT", "NAVY", "OCHRE", "OLIVE", "PEACH", "PLUM", "ROSE", "RUBY", "SAGE", "SAND", "SLATE", "TEAL"),
    *("ALPINE", "BAROQUE", "COASTAL", "COUNTRY", "DECO", "FLORAL", "MODERN", "NORDIC", "RETRO", "RUSTIC"),
)


@dataclass(frozen=True)
class Size:
    items: int = 100_000
    users: int = 200_000
    seed: int = 7


def mixed(*parts: np.ndarray | int) -> np.ndarray:
    """A hash of parallel whole numbers, uint64: the last step of SplitMix64 over each in turn.

    >>> bool((mixed(np.arange(3), 7) == mixed(np.arange(3), 7)).all()), len(set(mixed(np.arange(999), 7).tolist()))
    (True, 999)
    """
    found = np.zeros(np.broadcast_shapes(*(np.shape(part) for part in parts)), np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            found = (found ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            found ^= found >> np.uint64(31)
    return found


def even(*parts: np.ndarray | int) -> np.ndarray:
    """`mixed`, as numbers in [0, 1)."""
    return (mixed(*parts) >> np.uint64(11)) * 2.0**-53


def shares(total: int, among: int) -> np.ndarray:
    """(among,) whole numbers that add up to `total`, as even as can be.

    >>> shares(8, 3).tolist()
    [3, 3, 2]
    """
    found = np.full(among, total // among)
    found[: total % among] += 1
    return found


def expand(lines: pd.DataFrame, size: Size = Size()) -> pd.DataFrame:
    """Lines of the expansion, with the columns of `online_retail.load_lines`, oldest first. Raises ValueError where it would shrink."""
    user, users = pd.factorize(lines["user_id"], sort=True)
    item, items = pd.factorize(lines["item_id"], sort=True)
    order = pd.factorize(lines["order_id"])[0]
    if size.items < len(items) or size.users < len(users):
        raise ValueError(
            f"{len(users)} users and {len(items)} items do not expand to {size.users} and {size.items}"
        )
    clones, variants = shares(size.users, len(users)), shares(size.items, len(items))
    first = np.cumsum(clones) - clones
    line = np.repeat(np.arange(len(lines)), clones[user])
    clone = first[user[line]] + _ranks(clones[user])
    kept = even(clone, order[line], size.seed) < np.maximum(KEPT_ORDERS, 1 / _orders(user, order)[user[line]])
    missing = np.setdiff1d(np.arange(size.users), clone[kept])
    kept |= np.isin(clone, missing) & (order[line] == _one_order(user, order, clone, line, size.seed))
    line, clone = line[kept], clone[kept]
    variant = _variant(clone, item[line], variants[item[line]], size.seed)
    found = lines.take(line)
    words = np.array([_words(number) for number in range(variants.max())], dtype=object)
    return found.assign(
        user_id=_named(users.to_numpy(dtype=object)[user[line]], clone - first[user[line]]),
        item_id=_named(items.to_numpy(dtype=object)[item[line]], variant),
        order_id=_named(found["order_id"].to_numpy(dtype=object), clone - first[user[line]]),
        price=(found["price"].to_numpy() * (0.7 + 0.6 * even(item[line], variant, size.seed))).round(2),
        title=(found["title"].to_numpy(dtype=object) + " ") + words[variant],
    ).reset_index(drop=True)


def items_of(expanded: pd.DataFrame, lines: pd.DataFrame, at: datetime, size: Size = Size()) -> pd.DataFrame:
    """The whole catalogue of `size.items`: as `online_retail.items_of`, and the variants that nobody bought yet, with what the
    real item is called and costs."""
    bought = online_retail.items_of(expanded[expanded["time"] < at], at)
    real = lines.groupby("item_id", sort=True).agg(title=("title", "last"), price=("price", "last"))
    variants = shares(size.items, len(real))
    number = _ranks(variants)
    source = np.repeat(np.arange(len(real)), variants)
    every = pd.DataFrame(
        {
            "item_id": _named(real.index.to_numpy(dtype=object)[source], number),
            "title": [
                f"{title} {_words(place)}"
                for title, place in zip(real["title"].to_numpy()[source], number, strict=True)
            ],
            "price": (real["price"].to_numpy()[source] * (0.7 + 0.6 * even(source, number, size.seed))).round(
                2
            ),
        }
    )
    unsold = every[~every["item_id"].isin(set(bought["item_id"]))]
    zeros = dict.fromkeys(("n_buyers", "n_buyers_30d", "n_orders_30d", "days_since_first"), 0.0)
    more = unsold.assign(**zeros, brand=None, deleted=False)
    more["categories"] = [[] for _ in range(len(more))]
    return pd.concat([bought, more[bought.columns]], ignore_index=True)


def _ranks(counts: np.ndarray) -> np.ndarray:
    """0, 1, … counts[0]-1, 0, 1, …: places within groups of these sizes."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _orders(user: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n_users,) how many orders each has."""
    pairs = np.unique(np.column_stack([user, order]), axis=0)
    return np.bincount(pairs[:, 0], minlength=user.max() + 1)


def _one_order(
    user: np.ndarray, order: np.ndarray, clone: np.ndarray, line: np.ndarray, seed: int
) -> np.ndarray:
    """By row: the one order that its clone has at least, the user's whose hash with the clone is least."""
    at = even(clone, order[line], seed)
    least = np.full(int(clone.max()) + 1, np.inf)
    np.minimum.at(least, clone, at)
    return np.where(at == least[clone], order[line], -1)


def _variant(clone: np.ndarray, item: np.ndarray, variants: np.ndarray, seed: int) -> np.ndarray:
    style = (variants * even(clone, seed, 1) ** 2).astype(np.int64)  # the first ones are the common ones
    stylish = (style + (mixed(item, seed, 2) % np.uint64(1 << 20)).astype(np.int64)) % variants
    other = (variants * even(clone, item, seed, 3)).astype(np.int64)
    return np.where(even(clone, item, seed, 4) < IN_STYLE, stylish, other)


def _words(number: int) -> str:
    """Of a variant: two words, others for each number below a thousand.

    >>> _words(0), _words(1), _words(33)
    ('AMBER AMBER', 'AZURE AMBER', 'AMBER AZURE')
    """
    return f"{WORDS[number % len(WORDS)]} {WORDS[number // len(WORDS) % len(WORDS)]}"


def _named(names: np.ndarray, number: np.ndarray) -> np.ndarray:
    return names + np.char.add("-", number.astype(str)).astype(object)
