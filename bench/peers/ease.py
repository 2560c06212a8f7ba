"""EASE (Steck 2019): the linear item model in closed form, dense."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import linalg

from bench.judging import Question
from bench.peers.base import Config, Peer

MOST_ITEMS = 20_000  # 1.6 GB a matrix, three at once: more does not fit the bench's 8 GiB and minutes


class Ease(Peer):
    def fits(self, question: Question) -> str | None:
        items = len(question.item_ids)
        return f"{items:,} items: more than {MOST_ITEMS:,}" if items > MOST_ITEMS else None

    def grid(self, question: Question) -> Iterator[Config]:
        large = len(question.item_ids) > 8_000  # few fits in the time there is
        for regularization in (200.0, 500.0, 100.0, 1000.0, 50.0, 20.0, 2000.0):
            for binary in (True,) if large else (True, False):
                yield {"regularization": regularization, "binary": binary}

    def fit(self, question: Question, config: Config) -> None:
        self.users = question.matrix(binary=config["binary"])
        gram = (self.users.T @ self.users).toarray().astype(np.float32)
        gram[np.diag_indices(len(gram))] += config["regularization"]
        factor, failed = linalg.lapack.spotrf(gram, lower=1, overwrite_a=1)
        inverse, failed_too = linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
        if failed or failed_too:
            raise ValueError(f"not positive definite: {config}")
        inverse = np.tril(inverse)
        inverse += np.tril(inverse, -1).T
        self.weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self.weights, 0.0)

    def scores(self, users: np.ndarray) -> np.ndarray:
        return self.users[users] @ self.weights
