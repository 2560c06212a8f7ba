"""New and deleted items over a fitted recommender, without a refit: what is in a shop today, and was not when it was fitted.

New items come behind the fitted ones, whose scores stay what they were. Content knows them by their words, the sequence
model by the attributes that it was trained on; the two-tower takes for them the mean of the items that read like them. The
other sources know nothing of them and say 0 here; `engine.cold` says what the blend and the ranker read instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.pauses import breathe
from engine.sources.base import Arrays, Source, put
from engine.sources.content import Content, words
from engine.sources.content_fields import Fields, Told, counted, rarity, wide
from engine.sources.content_words import FIELDS, Beyond, beyond
from engine.sources.neighbours import by_column, keep_largest_of_rows, rows_of
from engine.sources.popularity import Popularity
from engine.sources.sequence import Sequence
from engine.sources.two_tower import TwoTower
from engine.trends import Trends

NEIGHBOURS = 200  # items of content that a new one is held to be like, as `Content.fit` keeps
AT_ONCE = 64  # new items that are compared with all others at once: 12 bytes for each of the others, where all have a word in common
TOWER_NEIGHBOURS = 10  # of them that speak for its place in the two-tower


@dataclass(frozen=True)
class Grown(Source):
    """A source that knows the first `n_fitted` of `n_items` items only: 0 for the others."""

    inner: Any
    n_fitted: int
    n_items: int

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.inner.name

    def scores(self, events: Events) -> np.ndarray:
        found = self.inner.scores(events.among(self.n_fitted))
        return np.pad(found, ((0, 0), (0, self.n_items - self.n_fitted)))

    def put(self, events: Events, out: np.ndarray) -> None:
        put(self.inner, events.among(self.n_fitted), out[: self.n_fitted])
        out[self.n_fitted :] = 0.0

    def evidences(self, events: Events, items: np.ndarray) -> list[dict | None]:
        known = items < self.n_fitted
        said = iter(self.inner.evidences(events.among(self.n_fitted), items[known]))
        return [next(said) if each else None for each in known.tolist()]

    @cached_property
    def similarity(self) -> sparse.csr_array:
        """Of a source that has one."""
        found = sparse.csr_array(self.inner.similarity, copy=True)
        found.resize((self.n_items, self.n_items))
        return found

    def similar(self, item: int) -> np.ndarray:
        """(n_items,), of a source that says it; 0 throughout for a new item."""
        found = self.inner.similar(item) if item < self.n_fitted else np.zeros(self.n_fitted)
        return np.pad(found, (0, self.n_items - self.n_fitted))

    def arrays(self) -> Arrays:
        """Those of the fitted source."""
        return self.inner.arrays()


def grow(
    catalogue: Catalogue, sources: Mapping[str, Source], trends: Trends, items: pd.DataFrame
) -> tuple[Catalogue, dict[str, Source], Trends]:
    """Catalogue, sources and trends with the rows of `items` (item_id, title, brand, categories, price, deleted, …).

    New ids become items. Known ones get the row's values (their words are read again at the next refit), and are
    gone where `deleted` says so, or back where it does not. Memory: the new items' similarities, at most
    16 NEIGHBOURS bytes each. description, tags and attributes (name=value) of the new ones are read where `items` has them.
    """
    grown = _catalogue(catalogue, items)
    n = len(catalogue)
    if len(grown) == n:
        return grown, dict(sources), trends
    content = sources.get(Content.name)
    told = content.told if isinstance(content, Content) else None
    alike, told = likeness(_known_words(catalogue), grown, told, _beyond(items, grown.item_ids[n:]))
    found: dict[str, Any] = {}
    for name, source in sources.items():
        breathe()
        if isinstance(source, Grown):
            found[name] = replace(source, n_items=len(grown))  # of the fitted one, not one within the other
        elif isinstance(source, Content):
            found[name] = replace(source, similarity=_with_rows(source.similarity, alike), told=told)
        elif isinstance(source, TwoTower):
            found[name] = _tower(source, grown, alike[:, :n])
        elif isinstance(source, Sequence):
            found[name] = Sequence.fit(source.export, grown)
        elif isinstance(source, Popularity):
            found[name] = _padded(source, len(grown), ("overall", "by_country", "local"))
        else:
            found[name] = Grown(source, n, len(grown))
    return grown, found, _trends(trends, len(grown) - n)


def _catalogue(catalogue: Catalogue, items: pd.DataFrame) -> Catalogue:
    rows = items.assign(item_id=items["item_id"].astype(str)).drop_duplicates("item_id", keep="last")
    rows = rows.sort_values("item_id").set_index("item_id", drop=False)
    deleted = (
        rows["deleted"].fillna(False).astype(bool) if "deleted" in rows else pd.Series(False, rows.index)
    )
    known = rows.index.isin(catalogue.index)
    new = rows[~known & ~deleted]
    frame = pd.concat([catalogue.frame, new.reindex(columns=catalogue.frame.columns)], ignore_index=True)
    for column in frame.columns.intersection(rows.columns).drop("item_id") if known.any() else ():
        values = frame[column].tolist()
        for item, value in rows.loc[known, column].items():
            values[catalogue.index[str(item)]] = value
        frame[column] = pd.Series(values, frame.index)
    gone = set(catalogue.gone) - {catalogue.index[item] for item in rows.index[known & ~deleted]}
    gone |= {catalogue.index[item] for item in rows.index[known & deleted]}
    return Catalogue(
        [*catalogue.item_ids, *new.index], frame, tuple(sorted(gone)), catalogue.fitted or len(catalogue)
    )


@dataclass(frozen=True)
class Words:
    """Every word of a catalogue's items. column: of a word. counts: (n_items, words) float32, 1 + ln of how often an item has it."""

    column: dict[str, int]
    counts: sparse.csr_array

    @classmethod
    def of(cls, catalogue: Catalogue, start: int = 0, known: dict[str, int] | None = None) -> Words:
        """Of the rows from `start` on. known: columns that there are already. 2 s for 100,000 items on one core."""
        column = dict(known or {})
        titles = (words(catalogue, row) for row in range(start, len(catalogue)))
        return cls(column, counted(titles, column))


def _known_words(catalogue: Catalogue) -> Words:
    """Read once a catalogue: who grows it anew with every new item asks the same one."""
    held = catalogue.__dict__.get("_known_words")
    if held is None:
        held = catalogue.__dict__["_known_words"] = Words.of(catalogue)
    return held


def _beyond(items: pd.DataFrame, ids: list[str]) -> list[Beyond] | None:
    """What the rows of these items tell beyond what a catalogue keeps; None where none does."""
    columns = [name for name in FIELDS if name in items]
    if not columns:
        return None
    rows = items[columns].set_axis(items["item_id"].astype(str))
    return beyond(Catalogue(ids, rows[~rows.index.duplicated(keep="last")].loc[ids].reset_index(drop=True)))


def likeness(
    known: Words, catalogue: Catalogue, told: Told | None = None, more: list[Beyond] | None = None
) -> tuple[sparse.csr_array, Told | None]:
    """(new items, all items) cosine of words, NEIGHBOURS largest of each row: as `Content` says it of fitted ones.

    known: words of the fitted items, the first ones of `catalogue`. told: of their other fields. more: the new items' other fields.
    The rarity of words is counted anew, the new items among them, as `content.tfidf` counts it. Also returns `told` with the new items.
    """
    n_fitted = known.counts.shape[0]
    fresh = Words.of(catalogue, n_fitted, known.column)
    if told is None and more is None:
        fields = Fields(_stacked(known.counts, fresh.counts))
        spread = fields.spread()
        grown = None
    else:
        fields, spread, grown = _fields(known, fresh, told, more)
    found = fields.vectors(rarity(spread, len(catalogue)), spread, len(catalogue))
    # The new items' words alone are looked up, each among the items that have it: the rest of the catalogue is not multiplied.
    of_words, parts = sparse.csr_array(found.T), []
    for start in range(n_fitted, len(catalogue), AT_ONCE):
        breathe()
        some = sparse.csr_array(found[start : start + AT_ONCE] @ of_words)
        some.data[some.indices == rows_of(some) + start] = 0.0
        parts.append(keep_largest_of_rows(some, NEIGHBOURS))
    return sparse.csr_array(sparse.vstack(parts, format="csr")), grown


def _fields(
    known: Words, fresh: Words, told: Told | None, more: list[Beyond] | None
) -> tuple[Fields, np.ndarray, Told]:
    """All items' fields over the same words, in how many items each word is, and what is told with the new items."""
    column, n, n_new = dict(fresh.column), known.counts.shape[0], fresh.counts.shape[0]
    others = more or [Beyond([], [])] * n_new
    unsaid = sparse.csr_array((n, 1), dtype=np.float32)
    place, labels, description = told.over(column) if told else (np.empty(0, np.int32), unsaid, unsaid)
    read = [
        counted((each.labels for each in others), column),
        counted((each.description for each in others), column),
    ]
    new = Fields(*(wide(each, len(column)) for each in (fresh.counts, *read)))
    spread = np.bincount(known.counts.indices, minlength=len(column))
    if told:
        spread[place] = told.spread
    spread += new.spread()
    total = n + n_new
    new = new.with_keywords(rarity(spread, total), spread, total)
    fields = Fields(
        _stacked(known.counts, new.title),
        _stacked(labels, new.labels),
        _stacked(description, new.description),
    )
    return fields, spread, Told.of(fields, np.concatenate([place, read[1].indices]), column, spread)


def _stacked(above: sparse.csr_array, below: sparse.csr_array) -> sparse.csr_array:
    """The rows of both, over the words of `below`."""
    return sparse.csr_array(sparse.vstack([wide(above, below.shape[1]), below], format="csr"))


def _with_rows(similarity: sparse.csr_array, alike: sparse.csr_array) -> sparse.csr_array:
    """The fitted similarities as they are, with the new items' as rows and, the same both ways, as columns."""
    n = similarity.shape[0]
    below = sparse.hstack([similarity, by_column(alike[:, :n])], format="csr")
    found = sparse.csr_array(sparse.vstack([below, alike], format="csr"))
    found.sort_indices()
    return found


def _tower(tower: TwoTower, catalogue: Catalogue, alike: sparse.csr_array) -> TwoTower:
    """Each new item where the items are that it reads like: the likeness-weighted mean of their vectors.

    An item that is like none the tower knows stays unknown to it.
    """
    known = (tower.rows >= 0).astype(np.float32)
    weights = keep_largest_of_rows(sparse.csr_array(alike * known[None, :]), TOWER_NEIGHBOURS)
    total = np.asarray(weights.sum(axis=1)).ravel()
    new = catalogue.item_ids[len(tower.rows) :]
    placed = [row for row, item in enumerate(new) if total[row] > 0 and item not in tower.export.item_index]
    if not placed:
        return TwoTower.fit(tower.export, catalogue)
    mean = sparse.csr_array(weights[placed] / total[placed][:, None])
    vectors = mean @ tower.vectors
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    vectors *= (mean @ np.linalg.norm(tower.vectors, axis=1))[:, None]  # as long as they are: liked as much
    history = mean @ (tower.export.history_embeddings[tower.rows] * known[:, None])
    export = replace(
        tower.export,
        item_ids=[*tower.export.item_ids, *(new[row] for row in placed)],
        item_vectors=np.vstack([tower.export.item_vectors, vectors.astype(np.float32)]),
        history_embeddings=np.vstack([tower.export.history_embeddings, history.astype(np.float32)]),
    )
    return TwoTower.fit(export, catalogue)


def _padded(source: Any, n_items: int, names: tuple[str, ...]) -> Any:
    """With zeros for the new items in the arrays of these names, whose last axis is the items."""
    values = {name: getattr(source, name) for name in names}
    widths = {
        name: [(0, 0)] * (each.ndim - 1) + [(0, n_items - each.shape[-1])] for name, each in values.items()
    }
    return replace(source, **{name: np.pad(each, widths[name]) for name, each in values.items()})


def _trends(trends: Trends, n_new: int) -> Trends:
    """New items as `Trends.fit` sees items without an event."""
    index = {str(row): row for row in range(n_new)}
    nobody = Trends.fit(Events.of([], index, datetime.fromtimestamp(0, UTC), {}))
    return Trends(
        **{
            each.name: np.concatenate([getattr(trends, each.name), getattr(nobody, each.name)], axis=-1)
            for each in fields(trends)
        }
    )
