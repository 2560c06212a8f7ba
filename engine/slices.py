"""Which users and which truths a slice of the quality table looks at.

User slices say whose lists count; item slices say which bought items count, in the lists of all users with a
history.
The slice `all` holds users with a history: who has none gets what is popular from every model, and is
`new_users`.
"""

from __future__ import annotations

import numpy as np

from engine.interactions import Catalogue

ALL, NEW_USERS, LIGHT_USERS, HEAVY_USERS = "all", "new_users", "light_users", "heavy_users"
NEW_ITEMS, TAIL_ITEMS = "new_items", "tail_items"
NAMES = (ALL, NEW_USERS, LIGHT_USERS, HEAVY_USERS, NEW_ITEMS, TAIL_ITEMS)

LIGHT_EVENTS = 20  # at most, in the history
HEAVY_EVENTS = 100  # at least
NEW_ITEM_DAYS = 28.0  # since the first sale, at most
HEAD_SHARE = 0.2  # of the catalogue, by buyers; the rest is tail


def of_users(n_events: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (n_users,) by slice, from how many events each user's history has."""
    return {
        ALL: n_events > 0,
        NEW_USERS: n_events == 0,
        LIGHT_USERS: (n_events > 0) & (n_events <= LIGHT_EVENTS),
        HEAVY_USERS: n_events >= HEAVY_EVENTS,
    }


def of_items(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Masks (n_items,) by slice. Ties at the edge of the head go by item id."""
    buyers = catalogue.numbers("n_buyers")
    tail = np.ones(len(catalogue), bool)
    tail[np.argsort(-buyers, kind="stable")[: int(len(catalogue) * HEAD_SHARE)]] = False
    known = "days_since_first" in catalogue.frame
    new = known & (catalogue.numbers("days_since_first") <= NEW_ITEM_DAYS)
    return {NEW_ITEMS: np.broadcast_to(new, (len(catalogue),)), TAIL_ITEMS: tail}
