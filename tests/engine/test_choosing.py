"""Boards joined from blocks of buyers choose what all of them at once would."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import sparse

from engine import metrics
from engine.board import Board
from engine.choosing import OFFSETS, Boards


def shop(repeat: bool):
    rng = np.random.default_rng(3)
    had = rng.random((90, 50)) < 0.2
    wanted = rng.random((90, 50)) < np.where(had & repeat, 0.3, 0.06)
    scores = {
        name: (rng.normal(size=(90, 50)) + share * wanted).astype(np.float32)
        for name, share in (("popularity", 0.5), ("linear", 2.0), ("personal", 1.0), ("noise", 0.0))
    }
    return scores, sparse.csr_array(had.astype(np.float32)), sparse.csr_array(wanted.astype(np.float32))


def cut(boards_of, size: int):
    scores, owned, truth = boards_of
    return [
        ({name: each[rows] for name, each in scores.items()}, owned[rows], truth[rows])
        for start in range(0, owned.shape[0], size)
        for rows in [slice(start, start + size)]
    ]


@pytest.mark.parametrize("repeat", [True, False])
def test_blocks_of_buyers_are_judged_as_all_at_once(repeat: bool) -> None:
    data = shop(repeat)
    whole = Boards.of(*data, repeat, depth=15)
    parts = Boards.joined([Boards.of(*some, repeat, depth=15) for some in cut(data, 17)])
    weights = whole.weights(10)
    assert parts.weights(10) == weights
    assert parts.value(weights, 10) == pytest.approx(whole.value(weights, 10))
    assert parts.found(5) == pytest.approx(whole.found(5))


def test_what_is_found_is_all_that_was_had_and_the_best_of_each_source() -> None:
    scores, owned, truth = shop(True)
    had, wanted = owned.toarray() > 0, truth.toarray() > 0
    shown = had.copy()
    for name, each in scores.items():
        if name == "personal":  # says nothing of what is new
            continue
        best = np.argsort(-np.where(had, -np.inf, each), axis=1)[:, :5]
        np.put_along_axis(shown, best, True, axis=1)
    found = Boards.of(scores, owned, truth, True).found(5)
    assert found == pytest.approx((shown & wanted).sum() / wanted.sum())


def test_a_source_less_is_a_smaller_choice() -> None:
    boards = Boards.of(*shop(True), True)
    left = boards.only(["popularity", "noise"])
    assert left.new.names == left.again.names == ("popularity", "noise")
    assert set(left.weights(10).new) == {"popularity", "noise"}
    assert left.value(left.weights(10), 10) < boards.value(boards.weights(10), 10)


def test_a_lists_ndcg_is_that_of_its_order() -> None:
    board = Boards.of(*shop(True), True, depth=15).every
    total = board.mix({"linear": 1.0, "noise": 0.5})
    order = np.argsort(-total, axis=1)[:, :10]
    hits = np.take_along_axis(board.wanted, order, axis=1)
    assert board.ndcg(total, 10) == pytest.approx(metrics.ndcg(hits, board.n_relevant, 10).mean())


def test_of_items_that_tie_every_order_counts_alike() -> None:
    total = np.array([[1.0, 0.5, 0.5, 0.5, 0.5, -np.inf]], np.float32)
    wanted = np.array([[False, True, False, True, False, False]])
    board = Board(("one",), total[None], np.zeros_like(wanted), wanted, np.array([3]))
    orders = [[0, *order] for order in permutations([1, 2, 3, 4])]
    each = [metrics.ndcg(wanted[:, order], board.n_relevant, 3)[0] for order in orders]
    assert board.ndcg(total, 3) == pytest.approx(np.mean(each))


def test_the_offset_is_the_best_over_the_whole_lists() -> None:
    boards = Boards.of(*shop(True), True, depth=15)
    weights, board = boards.weights(10), boards.every
    fresh, known = board.mix(weights.new), board.mix(weights.again)
    reached = {
        offset: board.ndcg(np.where(board.had, known + np.float32(offset), fresh), 10) for offset in OFFSETS
    }
    assert reached[weights.offset] == max(reached.values())
    assert min(reached.values()) < max(reached.values())
