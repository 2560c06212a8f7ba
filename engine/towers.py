"""A two-tower model as arrays: what `training` exports and the engine runs with NumPy alone.

The user tower reads no user id (docs/adr/0004): pooled history, country, and how much history there was. Its
inputs are made by `history_arrays`, which training calls too, so that both see the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np

from engine.state import DAY, UserState, epoch

Layer = tuple[np.ndarray, np.ndarray, str]  # kernel (in, out), bias (out,), 'relu' | 'linear'


@dataclass(frozen=True)
class TowerExport:
    """Both towers, after training.

    item_ids: n ids, the rows of the two item arrays. item_vectors: (n, d) float32, of length 1 at
    most: what many like is longer.
    history_embeddings: (n, h) float32, what the user tower reads of an item in a history.
    countries: c names; country_embeddings: (c + 1, e) float32, row 0 for an unknown country, row i + 1 for
    countries[i].
    layers: the user tower's dense layers, (h + e + 1) in, d out. half_life_days: of an event's weight.
    history_items: newest events read. event_weights: weight by event type; other types weigh nothing.
    """

    item_ids: list[str]
    item_vectors: np.ndarray
    history_embeddings: np.ndarray
    countries: list[str]
    country_embeddings: np.ndarray
    layers: list[Layer]
    half_life_days: float
    history_items: int
    event_weights: dict[str, float]

    @cached_property
    def item_index(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    @cached_property
    def country_index(self) -> dict[str, int]:
        return {country: row + 1 for row, country in enumerate(self.countries)}


def history_arrays(
    states: Sequence[UserState],
    now: datetime | Sequence[datetime],
    item_index: Mapping[str, int],
    event_weights: Mapping[str, float],
    half_life_days: float,
    history_items: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int32 and weights float32, (n, history_items) both, of each state's newest events, 0-padded.

    An event counts when its item is in `item_index` and its type has a weight; the newest `history_items` of
    those are read, each with weight * 0.5 ** (age in days / half_life_days). Padding has weight 0. `now`:
    one moment, or one a state.
    """
    rows = np.zeros((len(states), history_items), np.int32)
    weights = np.zeros((len(states), history_items), np.float32)
    moments = [now] * len(states) if isinstance(now, datetime) else now
    for user, (state, moment) in enumerate(zip(states, moments, strict=True)):
        known = [
            (item_index[item], event_weights[kind], time)
            for item, kind, time in zip(state.item_ids, state.event_types, state.event_times, strict=True)
            if item in item_index and event_weights.get(kind)
        ][:history_items]
        if known:
            row, weight, time = (np.asarray(each) for each in zip(*known, strict=True))
            age = np.maximum(epoch(moment) - time, 0.0) / DAY
            rows[user, : len(row)] = row
            weights[user, : len(row)] = weight * 0.5 ** (age / half_life_days)
    return rows, weights


def pool(embeddings: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, h): sum(w e) / sum(|w|) over a history; zeros for an empty one."""
    total = np.einsum("ul,ulh->uh", weights, embeddings[rows])
    return total / np.maximum(np.abs(weights).sum(axis=1, keepdims=True), 1e-9)


def user_vectors(export: TowerExport, states: Sequence[UserState], now: datetime) -> np.ndarray:
    """(n, d) float32 unit vectors of users: MLP(pooled history, country, log1p(number of events read))."""
    return vectors_of(export, states, *read(export, states, now))


def vectors_of(
    export: TowerExport, states: Sequence[UserState], rows: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """As `user_vectors`, of what was `read` already."""
    country = np.array([export.country_index.get(state.country or "", 0) for state in states], np.int64)
    return _vectors(
        export, pool(export.history_embeddings, rows, weights), country, (weights != 0).sum(axis=1)
    )


def without_each(
    export: TowerExport, state: UserState, rows: np.ndarray, weights: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (t,) of the `most` newest different items that a user's history speaks for, and the user's vectors (t + 1, d): as
    `user_vectors` has it, then without all events of each of these items. rows, weights: (history_items,) as `read`."""
    some = np.flatnonzero(weights)
    rows, weights = rows[some], weights[some]
    liked = rows[weights > 0]
    _, first = np.unique(liked, return_index=True)
    tried = liked[np.sort(first)[:most]]
    left = np.concatenate([np.ones((1, len(rows)), np.float32), rows != tried[:, None]]) * weights
    total = left @ export.history_embeddings[rows] / np.maximum(np.abs(left).sum(axis=1, keepdims=True), 1e-9)
    country = np.full(len(left), export.country_index.get(state.country or "", 0))
    return tried, _vectors(export, total, country, (left != 0).sum(axis=1))


def read(export: TowerExport, states: Sequence[UserState], now: datetime) -> tuple[np.ndarray, np.ndarray]:
    """`history_arrays` as the export wants them."""
    return history_arrays(
        states, now, export.item_index, export.event_weights, export.half_life_days, export.history_items
    )


def _vectors(export: TowerExport, pooled: np.ndarray, country: np.ndarray, read: np.ndarray) -> np.ndarray:
    """(n, d) float32 unit vectors. pooled: (n, h); country: (n,) rows of its embeddings; read: (n,) events."""
    hidden = np.concatenate(
        [pooled, export.country_embeddings[country], np.log1p(read)[:, None]], axis=1
    ).astype(np.float32)
    for kernel, bias, activation in export.layers:
        hidden = hidden @ kernel + bias
        if activation == "relu":
            hidden = np.maximum(hidden, 0.0)
    return hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-9)
