"""What the blend asks of a source."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engine.interactions import Events

Arrays = dict[str, np.ndarray]


class Source(Protocol):
    """Fitted, immutable and safe to read from many threads.

    Each has a classmethod ``fit(events, catalogue, ...)`` with its own hyperparameters, and ``from_arrays``,
    the inverse of ``arrays`` (plain numeric arrays: they are stored without pickle).
    """

    name: str

    def scores(self, events: Events) -> np.ndarray:
        """(n_users, n_items) float32, higher is better; 0 where the source knows nothing."""
        ...

    def evidence(self, events: Events, item: int) -> dict | None:
        """Why this source likes `item` for the one user of `events`; None where it has nothing to say.

        Items are named by their row under the key 'item'; the recommender puts ids and titles in.
        """
        ...

    def arrays(self) -> Arrays: ...
