"""A Transformer over the order of a user's events, as arrays: what `training` exports and the engine runs with NumPy alone.

SASRec's shape (Kang and McAuley, Self-attentive sequential recommendation, 2018): causal attention over the newest
events, and the last hidden state is compared with the item vectors that the history is read with. Its layers are LiGR's
(Borisyuk et al., From features to transformers, 2025), as in eSASRec (2025): what a layer adds is gated by what it reads.
Own here: events at one moment (an order of many items) are one step. They see each other, stand at the same distance from
everything else, and their hidden states are averaged, so that the order inside a basket changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.interactions import Catalogue

TOKENS = 4096  # events of many users that are run through the layers at once
EPSILON = 1e-5  # of layer normalisation
Layers = dict[str, np.ndarray]


@dataclass(frozen=True)
class SequenceExport:
    """The model after training: dimension d, b blocks, h heads, all float32.

    item_ids: n ids, the rows of item_vectors (n, d). attributes: a names, the rows of attribute_vectors (a, d): the mean
    over its attributes is the vector of an item that came after the training.
    distances: (steps + 1, h), added to attention by how many steps back; the last row serves all that is further.
    strength: (d,), times an event's weight by type, added to its item. length: newest events read.
    layers, by block: norms (b, 4, d): scale and shift before attention, then before the feed-forward layer; qkv (b, d, 3 d);
    merge (b, d, d); widen (b, d, 2 f), of which the second half gates the first; narrow (b, f, d); seen_gate and wide_gate
    (b, d, d), each with its bias as NAME_bias (b, out); last_norm (2, d).
    """

    item_ids: list[str]
    item_vectors: np.ndarray
    attributes: list[str]
    attribute_vectors: np.ndarray
    distances: np.ndarray
    strength: np.ndarray
    length: int
    layers: Layers

    @cached_property
    def item_index(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    def vectors(self, catalogue: Catalogue) -> np.ndarray:
        """(n_items, d) in the catalogue's order; zeros for an item of which neither id nor attributes are known."""
        rows = np.array([self.item_index.get(item, -1) for item in catalogue.item_ids], np.int64)
        found = self.item_vectors[rows] * (rows >= 0)[:, None]
        index = {name: row for row, name in enumerate(self.attributes)}
        for new in np.flatnonzero(rows < 0):
            known = [index[name] for name in attributes(catalogue, int(new)) if name in index]
            if known:
                found[new] = self.attribute_vectors[known].mean(axis=0)
        return found


def attributes(catalogue: Catalogue, row: int) -> list[str]:
    """The names of what an item shares with others: its categories and its brand, told apart by where they stand."""
    found = {f"category:{each}" for each in catalogue.value("categories", row) or []}
    brand = catalogue.value("brand", row)
    return sorted(found | {f"brand:{brand}"} if brand else found)


@dataclass(frozen=True)
class Histories:
    """Events of many users as flat arrays, oldest first, users one after another.

    item: int32 rows; weight: float32, above zero; age: days; step: int32, rises by one where the time does within a user,
    from 0. start: (n_users + 1,) where each user's events begin.
    """

    item: np.ndarray
    weight: np.ndarray
    age: np.ndarray
    step: np.ndarray
    start: np.ndarray

    @classmethod
    def of(
        cls, user: np.ndarray, item: np.ndarray, weight: np.ndarray, age: np.ndarray, n_users: int
    ) -> Histories:
        """From the arrays of `Events`: users in order, each one's newest first. What weighs nothing or less is left out."""
        keep = np.flatnonzero(weight > 0)
        start = np.concatenate([[0], np.cumsum(np.bincount(user[keep], minlength=n_users))])
        lengths = np.diff(start)
        # A user's events turned round: the place from the start of theirs becomes the place from the end.
        turned = np.repeat(start[1:] + start[:-1], lengths) - 1 - np.arange(len(keep))
        order = keep[turned]
        later = np.zeros(len(order), np.int64)
        later[1:] = (user[order][1:] == user[order][:-1]) & (age[order][1:] != age[order][:-1])
        total = np.cumsum(later)
        first = total[np.minimum(start[:-1], max(len(total) - 1, 0))] if len(total) else start[:-1]
        step = (total - np.repeat(first, lengths)).astype(np.int32)
        return cls(item[order].astype(np.int32), weight[order].astype(np.float32), age[order], step, start)

    def windows(self, first: np.ndarray, last: np.ndarray) -> Windows:
        """The events [first, last) of the flat arrays, one window a pair, padded to the longest."""
        lengths = last - first
        places = first[:, None] + np.arange(max(int(lengths.max(initial=0)), 1))
        there = places < last[:, None]
        places = np.where(there, places, 0)
        if not len(self.item):
            none = np.zeros(places.shape, np.int32)
            return Windows(none, none.astype(np.float32), none - 1, there)
        return Windows(
            self.item[places],
            np.where(there, self.weight[places], 0).astype(np.float32),
            np.where(there, self.step[places], -1).astype(np.int32),
            there,
        )


@dataclass(frozen=True)
class Windows:
    """What the model reads, (n, width) each: rows int32, weight float32, step int32, and `there` bool: no padding."""

    item: np.ndarray
    weight: np.ndarray
    step: np.ndarray
    there: np.ndarray


def hidden(export: SequenceExport, vectors: np.ndarray, windows: Windows) -> np.ndarray:
    """(n, width, d): the layers' output at each event, the mean over its step. `vectors` (n_items, d) are read by the rows of `windows`."""
    layers, heads = export.layers, export.distances.shape[1]
    n, width = windows.item.shape
    size = vectors.shape[1]
    back = windows.step[:, :, None] - windows.step[:, None, :]
    mask = export.distances[np.clip(back, 0, len(export.distances) - 1)].transpose(0, 3, 1, 2)
    mask = np.where(((back >= 0) & windows.there[:, None, :])[:, None], mask, np.float32(-1e9))
    x = vectors[windows.item] + windows.weight[:, :, None] * export.strength
    for block in range(len(layers["qkv"])):
        norms = layers["norms"][block]
        qkv = _dense(_norm(x, norms[:2]), layers, "qkv", block).reshape(n, width, 3, heads, size // heads)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        seen = _softmax(query @ key.swapaxes(2, 3) * np.float32((size // heads) ** -0.5) + mask) @ value
        seen = _dense(seen.transpose(0, 2, 1, 3).reshape(n, width, size), layers, "merge", block)
        x = x + seen * _sigmoid(_dense(x, layers, "seen_gate", block))
        wide, gate = np.split(_dense(_norm(x, norms[2:]), layers, "widen", block), 2, axis=-1)
        wide = _dense(wide * gate * _sigmoid(gate), layers, "narrow", block)
        x = x + wide * _sigmoid(_dense(x, layers, "wide_gate", block))
    together = (back == 0) & windows.there[:, None, :]
    together = together / np.maximum(together.sum(axis=2, keepdims=True), 1).astype(np.float32)
    return _norm(together @ x, layers["last_norm"])


def user_vectors(export: SequenceExport, vectors: np.ndarray, histories: Histories) -> np.ndarray:
    """(n_users, d) float32, to be multiplied with item vectors; zeros for a user without events."""
    found = np.zeros((len(histories.start) - 1, vectors.shape[1]), np.float32)
    last = histories.start[1:]
    first = np.maximum(histories.start[:-1], last - export.length)
    for users in batches(last - first, TOKENS):
        windows = histories.windows(first[users], last[users])
        found[users] = hidden(export, vectors, windows)[np.arange(len(users)), (last - first)[users] - 1]
    return found


def batches(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Rows with a length above 0, those of like length together, at most `tokens` padded events a batch."""
    order = np.argsort(lengths, kind="stable")
    order = order[np.searchsorted(lengths[order], 1) :]
    while len(order):
        near = lengths[order[:tokens]]
        taken = max(int((np.arange(1, len(near) + 1) * near <= tokens).sum()), 1)
        yield order[:taken]
        order = order[taken:]


def _dense(x: np.ndarray, layers: Layers, name: str, block: int) -> np.ndarray:
    flat = x.reshape(-1, x.shape[-1]) @ layers[name][block] + layers[f"{name}_bias"][block]
    return flat.reshape(*x.shape[:-1], -1)


def _norm(x: np.ndarray, scale_and_shift: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(EPSILON))
    return centred / spread * scale_and_shift[0] + scale_and_shift[1]


def _softmax(x: np.ndarray) -> np.ndarray:
    found = np.exp(x - x.max(axis=-1, keepdims=True))
    return found / found.sum(axis=-1, keepdims=True)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x))  # no overflow, whatever x is
