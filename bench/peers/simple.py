"""Popularity, personal frequency and item-item cosine: what every shop can have in an afternoon."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from bench.judging import Question
from bench.peers.base import Config, Peer


def _timed(question: Question) -> bool:
    """Whether the set knows real times: one moment for all, or one position a day, says nothing of trends."""
    return question.window.items["title"].astype(bool).any()


def popular(question: Question, days: float | None) -> np.ndarray:
    """(n_items,) different buyers within so many days."""
    recent = np.ones(len(question.age), bool) if days is None else question.age <= days
    pairs = np.unique(question.user[recent].astype(np.int64) * len(question.item_ids) + question.item[recent])
    return np.bincount(pairs % len(question.item_ids), minlength=len(question.item_ids)).astype(np.float32)


class Popularity(Peer):
    def grid(self, question: Question) -> Iterator[Config]:
        for days in (30, 14, 7, 90, None) if _timed(question) else (None,):
            yield {"days": days}

    def fit(self, question: Question, config: Config) -> None:
        self.popular = popular(question, config["days"])

    def scores(self, users: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.popular, (len(users), len(self.popular)))


class Personal(Peer):
    """How often this user bought it, halved with age; ties by popularity. Says nothing of what is new to the user."""

    columns = ("all",)

    def grid(self, question: Question) -> Iterator[Config]:
        for half_life in (None, 180, 90, 60, 30):
            for days in (30, 14, 90):
                yield {"half_life": half_life, "days": days}

    def fit(self, question: Question, config: Config) -> None:
        self.counts = question.matrix(config["half_life"])
        recent = popular(question, config["days"])
        self.ties = recent / (recent.max() + 1.0) * 1e-4

    def scores(self, users: np.ndarray) -> np.ndarray:
        return self.counts[users].toarray() + self.ties


class Cosine(Peer):
    """Item-item cosine over users (Sarwar et al. 2001), shrunk, the nearest kept. Users by their weighted items."""

    def grid(self, question: Question) -> Iterator[Config]:
        lives = (None, 180, 60) if _timed(question) else (None,)
        for neighbours in (200, 50, 20, 1000):
            for half_life in lives:
                for binary in (True, False) if _timed(question) else (True,):
                    for shrink in (0.0, 10.0):
                        yield {
                            "neighbours": neighbours,
                            "half_life": half_life,
                            "binary": binary,
                            "shrink": shrink,
                        }

    def fit(self, question: Question, config: Config) -> None:
        counts = question.matrix(binary=config["binary"])
        self.users = question.matrix(config["half_life"], config["binary"] and config["half_life"] is None)
        length = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=0)).ravel())
        columns, step, parts = counts.tocsc(), 2_000, []
        for start in range(0, len(length), step):
            shared = (columns[:, start : start + step].T @ counts).toarray()
            shared /= np.outer(length[start : start + step], length) + config["shrink"] + 1e-9
            shared[np.arange(len(shared)), start + np.arange(len(shared))] = 0.0
            parts.append(nearest(shared, config["neighbours"]))
        self.similar = sparse.vstack(parts).tocsr()

    def scores(self, users: np.ndarray) -> np.ndarray:
        return (self.users[users] @ self.similar).toarray()


def nearest(dense: np.ndarray, most: int) -> sparse.csr_matrix:
    """Each row's `most` largest positive entries."""
    if most < dense.shape[1]:
        least = np.partition(dense, -most, axis=1)[:, [-most]]
        dense = np.where(dense >= least, dense, 0.0)
    return sparse.csr_matrix(dense.astype(np.float32))
