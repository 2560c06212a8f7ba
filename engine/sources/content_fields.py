"""The fields of items as one vector each: what a field may weigh beside the others, and what of it a release keeps.

A vector is the TF-IDF of the title's words, brand and categories, to which the other fields add: labels at most LABELS of the title's
length, a description at most DESCRIPTION of it. So a long text or a list of attributes never drowns a title. Words that no other item
has count to that length, though they make no two items alike: a title of such words leaves the rest to what else is told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from engine.pauses import breathe
from engine.sources.base import Arrays
from engine.sources.content_words import Beyond
from engine.sources.neighbours import keep_largest_of_rows, pack, rows_of, unpack

LABELS, DESCRIPTION = 1.0, 0.5  # of the title's length, at most
KEYWORDS = 32  # of a description: those that tell most
FEW = 20  # items that may share anything
COMMON = {"labels": 0.5, "description": 0.1}  # of the items: what more of them have says nothing
AT_ONCE = 64  # items whose words are read before a rest


def counted(documents: Iterable[list[str]], column: dict[str, int]) -> sparse.csr_array:
    """(documents, words) float32, 1 + ln of how often each word is there. column: of each word; new ones are added."""
    ends, columns, values = [0], [], []
    for row, each in enumerate(documents):
        if row % AT_ONCE == 0:
            breathe()
        for word, tf in Counter(each).items():
            columns.append(column.setdefault(word, len(column)))
            values.append(1 + math.log(tf))
        ends.append(len(columns))
    shape = (len(ends) - 1, max(len(column), 1))
    return sparse.csr_array((np.array(values, np.float32), columns, ends), shape=shape)


@dataclass(frozen=True)
class Fields:
    """What items tell, (items, words) each, over the same words. labels, description: None where no item has any."""

    title: sparse.csr_array
    labels: sparse.csr_array | None = None
    description: sparse.csr_array | None = None

    @classmethod
    def of(cls, titles: Iterable[list[str]], told: Sequence[Beyond], column: dict[str, int]) -> Fields:
        """column: of each word; new ones are added."""
        read = [counted(titles, column), counted((each.labels for each in told), column)]
        read.append(counted((each.description for each in told), column))
        return cls(*(wide(each, len(column)) for each in read))

    @property
    def others(self) -> list[sparse.csr_array]:
        return [each for each in (self.labels, self.description) if each is not None]

    def spread(self) -> np.ndarray:
        """(words,) in how many items each word is, in whatever field."""
        every = sum(self.others, self.title)
        return np.bincount(every.indices, minlength=every.shape[1])

    def with_keywords(self, idf: np.ndarray, spread: np.ndarray, n_items: int) -> Fields:
        """With the KEYWORDS of each description alone, of those that are not COMMON."""
        if self.description is None:
            return self
        told = idf * (spread <= max(FEW, COMMON["description"] * n_items))
        weights = keep_largest_of_rows(_times(self.description, told), KEYWORDS)
        weights.data /= idf[weights.indices].astype(np.float32)
        return Fields(self.title, self.labels, weights)

    def vectors(self, idf: np.ndarray, spread: np.ndarray, n_items: int) -> sparse.csr_array:
        """(items, words) float32 rows of unit length. A description counts with all words that it has here."""
        found = _times(self.title, idf)
        if self.others:
            most = _length(_times(self.title, np.where(idf > 0, idf, 1 + math.log((1 + n_items) / 2))))
        if self.labels is not None:
            told = idf * (spread <= max(FEW, COMMON["labels"] * n_items))
            found = _plus(found, _times(self.labels, told), LABELS * most)
        if self.description is not None:
            found = _plus(found, _times(self.description, idf), DESCRIPTION * most)
        found.data = (found.data / np.maximum(_length(found), 1e-9)[rows_of(found)]).astype(np.float32)
        return found


def rarity(spread: np.ndarray, n_items: int) -> np.ndarray:
    """(words,) inverse document frequency, smooth; 0 of a word that one item alone has, which is like nothing."""
    return np.where(spread > 1, 1 + np.log((1 + n_items) / (1 + np.maximum(spread, 1))), 0.0)


def wide(counts: sparse.csr_array, n_words: int) -> sparse.csr_array:
    """The same over more words, without a copy."""
    shape = (counts.shape[0], max(n_words, 1))
    return sparse.csr_array((counts.data, counts.indices, counts.indptr), shape=shape)


def _times(counts: sparse.csr_array, weight: np.ndarray) -> sparse.csr_array:
    data = counts.data * weight.astype(np.float32)[counts.indices]
    return sparse.csr_array((data, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


def _plus(found: sparse.csr_array, other: sparse.csr_array, most: np.ndarray) -> sparse.csr_array:
    """The rows of `other` added, shortened to `most` (items,) where they are longer; whole where there is no title at all."""
    scale = np.where(most > 0, np.minimum(1.0, most / np.maximum(_length(other), 1e-9)), 1.0)
    other.data = other.data * scale.astype(np.float32)[rows_of(other)]
    return sparse.csr_array(found + other)


def _length(found: sparse.csr_array) -> np.ndarray:
    return np.sqrt(np.bincount(rows_of(found), found.data**2, minlength=found.shape[0]))


@dataclass(frozen=True)
class Told:
    """What a release keeps of fields that its items frame does not have: new items are held against it, and reasons name it.

    text, ends: the words one after the other, UTF-8, and where each ends. spread: (words,) in how many fitted items each is, in
    whatever field. labels, description: (items, words).
    """

    text: np.ndarray
    ends: np.ndarray
    spread: np.ndarray
    labels: sparse.csr_array
    description: sparse.csr_array

    @classmethod
    def of(cls, fields: Fields, read: np.ndarray, column: dict[str, int], spread: np.ndarray) -> Told:
        """read: columns of all words of descriptions: how common those are that are no keywords has to be known too."""
        assert fields.labels is not None
        assert fields.description is not None
        there = np.zeros(len(spread), bool)
        there[fields.labels.indices] = there[fields.description.indices] = there[read] = True
        kept = np.flatnonzero(there & (spread > 1))
        words = [*column]
        encoded = [words[place].encode() for place in kept.tolist()]
        text = np.frombuffer(b"".join(encoded), np.uint8)
        ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
        parts = [sparse.csr_array(each[:, kept]) for each in (fields.labels, fields.description)]
        return cls(text, ends, spread[kept].astype(np.int32), *parts)

    def word(self, place: int) -> str:
        return bytes(self.text[self.ends[place - 1] if place else 0 : self.ends[place]]).decode()

    @cached_property
    def words(self) -> list[str]:
        whole, starts = self.text.tobytes(), [0, *self.ends[:-1].tolist()]
        return [whole[start:end].decode() for start, end in zip(starts, self.ends.tolist(), strict=True)]

    def over(self, column: dict[str, int]) -> tuple[np.ndarray, sparse.csr_array, sparse.csr_array]:
        """The column of each word among others', and both fields over them. column: new words are added."""
        place = np.array([column.setdefault(word, len(column)) for word in self.words], np.int32)
        shape = (self.labels.shape[0], max(len(column), 1))
        moved = [
            sparse.csr_array((each.data, place[each.indices], each.indptr), shape=shape)
            for each in (self.labels, self.description)
        ]
        return place, moved[0], moved[1]

    def same(self, one: int, other: int, most: int = 2) -> list[str]:
        """Labels that both items have, the rarest first."""
        shared = np.intersect1d(self._labels_of(one), self._labels_of(other))
        rarest = shared[np.argsort(self.spread[shared], kind="stable")]
        return [self.word(place) for place in rarest[:most].tolist()]

    def _labels_of(self, item: int) -> np.ndarray:
        return self.labels.indices[self.labels.indptr[item] : self.labels.indptr[item + 1]]

    def arrays(self) -> Arrays:
        found = {"told_text": self.text, "told_ends": self.ends, "told_spread": self.spread}
        for name, matrix in (("labels", self.labels), ("description", self.description)):
            found |= {f"told_{name}_{key}": each for key, each in pack(matrix).items()}
        return found

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Told | None:
        """None where there are none: a bundle of before, or a shop that has no such fields."""
        if "told_text" not in arrays:
            return None
        keys = ("data", "indices", "indptr", "shape")
        parts = [
            unpack({key: arrays[f"told_{name}_{key}"] for key in keys}) for name in ("labels", "description")
        ]
        return cls(arrays["told_text"], arrays["told_ends"], arrays["told_spread"], *parts)
