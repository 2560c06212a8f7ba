"""Factors of `implicit`'s ALS that `bench.batch_scoring` is asked on: the shipped shop's, Gowalla's, and those of a large catalogue."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from aisle.lake import project_root
from bench import expansion, online_retail, protocols
from bench.judging import Question

SHAPES = ("online_retail", "gowalla_64", "gowalla_256", "expanded")
DAYS = 28
FITTED = {"alpha": 10.0, "regularization": 1.0, "iterations": 15, "num_threads": 1, "random_state": 7}


class Asked(NamedTuple):
    """users (n, d), items (n_items, d) float32, owned (n, n_items)."""

    users: np.ndarray
    items: np.ndarray
    owned: sparse.csr_matrix


def shape(name: str) -> tuple[str, Asked]:
    """A label and the factors of one of SHAPES. Raises protocols.NotHere."""
    if name == "online_retail":
        return "Online Retail", als(shipped(), 64)
    if name == "expanded":
        return expansion.LABEL, als(expanded(), 128)
    width = int(name.removeprefix("gowalla_"))
    return "Gowalla", als(Question.of(protocols.load("gowalla").test).matrix(), width)


def als(owned: sparse.csr_matrix, width: int) -> Asked:
    from implicit.cpu.als import AlternatingLeastSquares

    owned = sparse.csr_matrix(owned, dtype=np.float32)
    model = AlternatingLeastSquares(width, **FITTED)
    model.fit(owned, show_progress=False)
    return Asked(model.user_factors, model.item_factors, owned)


def shipped() -> sparse.csr_matrix:
    lines = online_retail.load_lines(project_root() / "data" / "online_retail.parquet")
    window = online_retail.window(lines, online_retail.END - timedelta(days=DAYS), DAYS)
    histories = window.histories[["user_id", "item_ids"]].explode("item_ids").dropna()
    items = pd.Index(window.items["item_id"])
    return _pairs(pd.factorize(histories["user_id"])[0], items.get_indexer(histories["item_ids"]), len(items))


def expanded() -> sparse.csr_matrix:
    """Of the items that somebody bought."""
    lines = online_retail.load_lines(project_root() / "data" / "online_retail.parquet")
    more = expansion.expand(lines)
    user, (item, items) = pd.factorize(more["user_id"])[0], pd.factorize(more["item_id"])
    return _pairs(user, item, len(items))


def read(path) -> Asked:
    """An .npz of U (users, d), V (items, d) and the CSR indptr, indices of what users have."""
    held = np.load(path)
    ones = np.ones(len(held["indices"]), np.float32)
    shape = (len(held["U"]), len(held["V"]))
    return Asked(held["U"], held["V"], sparse.csr_matrix((ones, held["indices"], held["indptr"]), shape))


def _pairs(user: np.ndarray, item: np.ndarray, n_items: int) -> sparse.csr_matrix:
    known = item >= 0
    ones = np.ones(int(known.sum()), np.float32)
    found = sparse.csr_matrix((ones, (user[known], item[known])), (int(user.max()) + 1, n_items))
    found.data[:] = 1.0
    return found
