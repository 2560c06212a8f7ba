"""What the bench asks of a peer: configurations in a sensible order, a fit, and the best 20 for the users asked about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.judging import DEPTH, Question
from engine import metrics

Config = dict[str, Any]
CELLS = 20_000_000  # of a (users, items) float32 array that is held at once: 80 MB


class Peer:
    """VERSION: raised when a change of the code changes the lists. A fit keeps its state in the object.

    READS: columns of the window's frames that its lists depend on, beside items' ids and who bought what when.
    """

    VERSION = 1
    READS: tuple[str, ...] = ()
    columns = ("all", "new")  # what it can answer

    def fits(self, question: Question) -> str | None:
        """Why it cannot be run here; None where it can."""
        return None

    def grid(self, question: Question) -> Iterator[Config]:
        """Best guesses first: the budget may end before the grid does."""
        yield {}

    def fit(self, question: Question, config: Config) -> None:
        raise NotImplementedError

    def scores(self, users: np.ndarray) -> np.ndarray:
        """(len(users), n_items); `users` are rows of the question's user_ids."""
        raise NotImplementedError

    def lists(self, question: Question, column: str) -> np.ndarray:
        """(asked, DEPTH) item columns, exact; `new` leaves out what the user has."""
        step = max(1, CELLS // len(question.item_ids))
        found = []
        for start in range(0, len(question.asked), step):
            scores = np.array(self.scores(question.asked[start : start + step]), np.float32)
            if column == "new":
                scores[question.owned[start : start + step].nonzero()] = -np.inf
            found.append(metrics.top_k(scores, DEPTH))
        return np.vstack(found)
