"""ALS (Hu, Koren and Volinsky 2008) and BPR (Rendle et al. 2009) of the library `implicit`, asked through its own `recommend`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.judging import DEPTH, Question
from bench.peers.base import Config, Peer
from bench.peers.simple import popular

THREADS = 1  # as every peer: the time of one core
SEED = 7


class _Factors(Peer):
    model: Any

    def lists(self, question: Question, column: str) -> np.ndarray:
        some = np.diff(self.known.indptr)[question.asked] > 0
        users = question.asked[some]
        found = np.empty((len(question.asked), DEPTH), np.int64)
        found[~some] = np.argsort(-popular(question, None), kind="stable")[:DEPTH]  # only returned things
        step = 5_000
        parts = [
            self.model.recommend(
                users[start : start + step],
                self.known[users[start : start + step]],
                N=DEPTH,
                filter_already_liked_items=column == "new",
            )[0]
            for start in range(0, len(users), step)
        ]
        found[some] = np.vstack(parts)
        return found


class Als(_Factors):
    def grid(self, question: Question) -> Iterator[Config]:
        for factors in (64, 128, 256, 32):
            for alpha in (1.0, 10.0, 4.0, 0.25):
                for regularization in (10.0, 1.0, 0.1, 40.0):
                    yield {
                        "factors": factors,
                        "alpha": alpha,
                        "regularization": regularization,
                        "iterations": 15,
                    }

    def fit(self, question: Question, config: Config) -> None:
        from implicit.als import AlternatingLeastSquares

        self.known = question.matrix()
        self.model = AlternatingLeastSquares(**config, num_threads=THREADS, random_state=SEED)
        self.model.fit(self.known, show_progress=False)


class Bpr(_Factors):
    def grid(self, question: Question) -> Iterator[Config]:
        for factors, iterations in ((64, 100), (128, 100), (128, 300)):
            for learning_rate in (0.05, 0.01, 0.1):
                for regularization in (0.01, 0.1, 0.001):
                    yield {
                        "factors": factors,
                        "learning_rate": learning_rate,
                        "regularization": regularization,
                        "iterations": iterations,
                    }

    def fit(self, question: Question, config: Config) -> None:
        from implicit.bpr import BayesianPersonalizedRanking

        self.known = question.matrix(binary=True)
        self.model = BayesianPersonalizedRanking(**config, num_threads=THREADS, random_state=SEED)
        self.model.fit(self.known, show_progress=False)
