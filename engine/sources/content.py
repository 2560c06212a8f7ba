"""What reads like what a user bought: the words of titles, brand and categories, and what else the shop tells of its items.
It knows items that nobody bought yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source
from engine.sources.content_fields import Fields, Told, rarity
from engine.sources.content_words import WORD, Beyond, beyond
from engine.sources.neighbours import by_column, nearest, pack, product, strongest, unpack

if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class Content(Source):
    """Cosine of TF-IDF vectors. Salton and Buckley, Term-weighting approaches in automatic text retrieval (1988).

    similarity: (n_items, n_items) sparse float32, the largest of each row; zero diagonal, symmetric before the cut.
    half_life_days: of the history that it is scored from. told: of tags, attributes and descriptions; None where no item has any.
    """

    similarity: sparse.csr_array
    half_life_days: float
    told: Told | None = None
    name = "content"

    @classmethod
    def fit(
        cls, events: Events, catalogue: Catalogue, neighbours: int = 200, half_life_days: float = 60.0
    ) -> Content:
        titles, told = [words(catalogue, row) for row in range(len(catalogue))], None
        more = beyond(catalogue)
        if more is None:
            vectors = tfidf(titles)
        else:
            vectors, told = _of_fields(titles, more)
        similarity = nearest(vectors, sparse.csr_array(vectors.T), neighbours)
        return cls(by_column(similarity), half_life_days, told)

    def scores(self, events: Events) -> np.ndarray:
        return product(events.tastes(self.half_life_days), self.similarity, events)

    def put(self, events: OneUser, out: np.ndarray) -> None:
        events.tastes(self.half_life_days).put(self.similarity, out)

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        found = strongest(self.similarity, events.tastes(self.half_life_days), items)
        if self.told is None:
            return [each and {**each, "alike": True} for each in found]
        return [
            each and {**each, "alike": True, **self._same(each["item"], item)}
            for each, item in zip(found, items.tolist(), strict=True)
        ]

    def _same(self, one: int, other: int) -> dict[str, list[str]]:
        shared = self.told.same(one, other) if self.told else []
        return {"same": shared} if shared else {}

    def arrays(self) -> Arrays:
        own = {**pack(self.similarity), "parameters": np.array([self.half_life_days])}
        return own | (self.told.arrays() if self.told else {})

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Content:
        return cls(unpack(arrays), float(arrays["parameters"][0]), Told.from_arrays(arrays))


def _of_fields(titles: list[list[str]], more: list[Beyond]) -> tuple[sparse.csr_array, Told]:
    column: dict[str, int] = {}
    read = Fields.of(titles, more, column)
    spread, n = read.spread(), len(titles)
    idf = rarity(spread, n)
    fields = read.with_keywords(idf, spread, n)
    assert read.description is not None
    return fields.vectors(idf, spread, n), Told.of(fields, read.description.indices, column, spread)


def words(catalogue: Catalogue, row: int) -> list[str]:
    """The words of an item's title, its brand and its categories, told apart by where they stand."""
    title, brand = (str(catalogue.value(name, row) or "") for name in ("title", "brand"))
    labels = [f"brand:{brand.lower()}"] if brand else []
    labels += [f"category:{str(each).lower()}" for each in catalogue.value("categories", row) or []]
    return [*WORD.findall(title.lower()), *labels]


def tfidf(documents: list[list[str]]) -> sparse.csr_array:
    """(n_documents, n_words) float32 rows of unit length; words of one document only are left out.

    weight = (1 + ln tf) (1 + ln((1 + n) / (1 + df))), as scikit-learn's sublinear_tf and smooth_idf.
    """
    df = Counter(word for each in documents for word in set(each))
    column = {word: place for place, word in enumerate(sorted(word for word, n in df.items() if n > 1))}
    idf = np.array([1 + np.log((1 + len(documents)) / (1 + df[word])) for word in column])
    rows, columns, values = [], [], []
    for row, each in enumerate(documents):
        for word, tf in Counter(word for word in each if word in column).items():
            rows.append(row)
            columns.append(column[word])
            values.append((1 + np.log(tf)) * idf[column[word]])
    shape = (len(documents), max(len(column), 1))
    found = sparse.coo_array((np.array(values, np.float32), (rows, columns)), shape=shape).tocsr()
    length = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(length, 1e-9)).astype(np.float32) @ found)
