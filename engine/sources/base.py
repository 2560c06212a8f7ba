"""What the blend asks of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from engine.interactions import Events

Arrays = dict[str, np.ndarray]


def put(source: Any, events: Events, out: np.ndarray) -> None:
    """Writes the scores of the one user of `events` into `out` (n_items,) float32; by the source itself where it knows how to."""
    own = getattr(type(source), "put", None)  # of its class: who stands before a source speaks by `scores`
    if own is None:
        out[:] = source.scores(events)[0]
    else:
        own(source, events, out)


class Source(Protocol):
    """Fitted, immutable and safe to read from many threads.

    Each has a classmethod ``fit(events, catalogue, ...)`` with its own hyperparameters, and ``from_arrays``,
    the inverse of ``arrays`` (plain numeric arrays: they are stored without pickle).
    """

    name: str

    def scores(self, events: Events) -> np.ndarray:
        """(n_users, n_items) float32, higher is better; 0 where the source knows nothing."""
        ...

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """Why this source likes each of `items` (n,) rows for the one user of `events`; None where it has nothing to say.

        Items are named by their row under the key 'item'; the recommender puts ids and titles in. Each is a dict of its own.
        """
        ...

    def evidence(self, events: Events, item: int) -> dict | None:
        """As `evidences`, of one item."""
        return self.evidences(events, np.array([item]))[0]

    def arrays(self) -> Arrays: ...
