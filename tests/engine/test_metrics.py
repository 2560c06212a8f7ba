"""Every ranking metric against ranx, and the odd cases by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from engine import metrics


@pytest.fixture(scope="module")
def ranking() -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth of 40 users over 60 items; everybody has a truth."""
    rng = np.random.default_rng(1)
    truth = rng.random((40, 60)) < 0.1
    truth[:, 7] |= ~truth.any(axis=1)
    return rng.normal(size=(40, 60)).astype(np.float32), truth


# In a process of its own without numba's compiler: compiling ranx takes longer than all of these tests, and the engine's own
# loops are compiled in this one.
RANX = """
import sys
import numpy as np
from ranx import Qrels, Run, evaluate

scores, truth, names = (np.load(sys.argv[1])[name] for name in ("scores", "truth", "names"))
qrels = Qrels({f"u{u:02d}": {f"i{i}": 1 for i in np.flatnonzero(row)} for u, row in enumerate(truth)})
run = Run({f"u{u:02d}": {f"i{i}": float(s) for i, s in enumerate(row)} for u, row in enumerate(scores)})
np.savez(sys.argv[2], **{name: np.asarray(evaluate(qrels, run, name, return_mean=False)) for name in names.tolist()})
"""


def test_metrics_agree_with_ranx(ranking, tmp_path: Path) -> None:
    scores, truth = ranking
    ours: dict[str, np.ndarray] = {}
    for k in (1, 5, 10, 20):
        hits = metrics.hits_of(metrics.top_k(scores, k), sparse.csr_array(truth.astype(np.float32)))
        ours |= {
            f"ndcg@{k}": metrics.ndcg(hits, truth.sum(axis=1), k),
            f"recall@{k}": metrics.recall(hits, truth.sum(axis=1), k),
            f"mrr@{k}": metrics.mrr(hits, k),
            f"hit_rate@{k}": metrics.hit(hits, k),
        }
    asked, told = tmp_path / "asked.npz", tmp_path / "told.npz"
    np.savez(asked, scores=scores, truth=truth, names=np.array(list(ours)))
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", RANX, str(asked), str(told)], env=env, check=True)
    with np.load(told) as theirs:
        for name, values in ours.items():
            np.testing.assert_allclose(values, theirs[name], atol=1e-6, err_msg=name)


def test_ties_go_by_column_and_what_is_not_finite_is_never_listed() -> None:
    scores = np.array([[1.0, np.nan, 1.0, 2.0], [np.nan, -np.inf, np.inf, 0.0]])
    assert metrics.top_k(scores, 3).tolist() == [[3, 0, 2], [3, -1, -1]]


def test_a_list_longer_than_the_catalogue_ends_with_it() -> None:
    assert metrics.top_k(np.array([[0.0, 1.0]]), 5).tolist() == [[1, 0]]


def test_padding_is_no_hit() -> None:
    truth = sparse.csr_array(np.array([[1.0, 0.0]]))
    assert metrics.hits_of(np.array([[-1, 0]]), truth).tolist() == [[False, True]]


def test_coverage_counts_items_once_and_padding_never() -> None:
    assert metrics.coverage(np.array([[0, 1, 5], [1, -1, 6]]), n_items=4, k=2) == 0.5


def test_novelty_is_zero_for_what_everybody_bought() -> None:
    listed, n_buyers = np.array([[0, 1], [0, -1]]), np.array([8, 2])
    assert metrics.novelty(listed, n_buyers, n_users=8, k=2).tolist() == [1.0, 0.0]
