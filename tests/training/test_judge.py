"""What is said of a tower while it learns, beside the same from whole rows of scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from engine import metrics
from training.judge import DEPTH, Judge


@pytest.fixture
def judge() -> Judge:
    truth, had = (
        sparse.random_array((60, 300), density=0.02, format="csr", rng=seed, dtype=np.float32)
        for seed in (1, 2)
    )
    had = sparse.csr_array(had + truth.multiply(sparse.random_array((60, 300), density=0.3, rng=3)))
    for each in (truth, had):
        each.data[:] = 1
    new = sparse.csr_array(truth - truth.multiply(had > 0))
    new.eliminate_zeros()
    return Judge(pd.DataFrame(), [str(item) for item in range(300)], truth, new, had)


def test_the_figures_are_those_of_whole_rows(judge: Judge) -> None:
    rng = np.random.default_rng(4)
    users, items = (rng.normal(size=(n, 8)).astype(np.float32) for n in (60, 300))
    users[:30] = judge.truth[:30] @ items  # so that some is found
    found = judge.figures(users, items)
    for prefix, truth, scores in (
        ("", judge.truth, users @ items.T),
        ("new_", judge.new, np.where(judge.had.toarray() > 0, -np.inf, users @ items.T)),
    ):
        counts = np.diff(truth.indptr)
        there = np.flatnonzero(counts)
        hits = metrics.hits_of(metrics.top_k(scores[there], DEPTH), truth[there])
        assert hits.any()
        assert found[f"{prefix}ndcg@10"] == pytest.approx(metrics.ndcg(hits, counts[there], 10).mean())
        assert found[f"{prefix}recall@20"] == pytest.approx(metrics.recall(hits, counts[there], DEPTH).mean())


def test_a_tower_that_came_apart_finds_nothing(judge: Judge) -> None:
    users, items = np.ones((60, 8), np.float32), np.ones((300, 8), np.float32)
    items[3] = np.nan
    assert set(judge.figures(users, items).values()) == {0.0}
    assert set(judge.figures(users * np.float32(np.inf), np.ones_like(items)).values()) == {0.0}
