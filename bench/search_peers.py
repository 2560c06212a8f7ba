"""What search is compared with: each is built over the same titles and gives the numbers of its ten best items for a text."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Protocol

import numpy as np

K = 10


class Engine(Protocol):
    def find(self, query: str) -> list[int]: ...


class Aisle:
    """The embedded index of serving, text alone: no preference, filters, facets or pages."""

    def __init__(self, ids: Sequence[str], titles: Sequence[str]):
        from aisle import settings
        from serving.search_index import Document
        from serving.search_text import build

        documents = {item: Document(title) for item, title in zip(ids, titles, strict=True)}
        self.index = build(documents, settings.load().search)

    def find(self, query: str) -> list[int]:
        found = self.index.search(query)
        best = np.argsort(-found.text, kind="stable")[:K]
        return found.slots[best].tolist()

    def all(self, query: str) -> np.ndarray:
        """Numbers of all that is found, which facets and filters are counted over."""
        return self.index.search(query).slots


class Exact:
    """Items whose title has every word of the query as it is written, shortest titles first: search without tolerance."""

    def __init__(self, ids: Sequence[str], titles: Sequence[str]):
        self.sizes, self.having = [], {}
        for number, title in enumerate(titles):
            words = set(re.findall(r"\w+", title.lower()))
            self.sizes.append(len(words))
            for word in words:
                self.having.setdefault(word, set()).add(number)

    def find(self, query: str) -> list[int]:
        words = re.findall(r"\w+", query.lower())
        found = set.intersection(*(self.having.get(word, set()) for word in words)) if words else set()
        return sorted(found, key=lambda each: self.sizes[each])[:K]


class Like:
    """SQL: every word LIKE '%word%' in SQLite, in memory."""

    def __init__(self, ids: Sequence[str], titles: Sequence[str]):
        self.db = sqlite3.connect(":memory:")
        self.db.execute("create table items (number integer primary key, title text)")
        self.db.executemany("insert into items values (?, ?)", enumerate(titles))

    def find(self, query: str) -> list[int]:
        words = query.split()
        where = " and ".join(["title like ?"] * len(words))
        asked = f"select number from items where {where} order by length(title) limit {K}"
        return [row[0] for row in self.db.execute(asked, [f"%{word}%" for word in words])]


class Trigrams:
    """SQLite FTS5 over trigrams, in memory: items that share trigrams with the query, by BM25."""

    def __init__(self, ids: Sequence[str], titles: Sequence[str]):
        self.db = sqlite3.connect(":memory:")
        self.db.execute("create virtual table items using fts5(title, tokenize='trigram')")
        self.db.executemany("insert into items(rowid, title) values (?, ?)", enumerate(titles, 1))

    def find(self, query: str) -> list[int]:
        pieces = {word[at : at + 3] for word in query.lower().split() for at in range(len(word) - 2)}
        if not pieces:
            return []
        asked = " OR ".join('"' + piece.replace('"', '""') + '"' for piece in sorted(pieces))
        rows = self.db.execute(
            f"select rowid from items where items match ? order by rank limit {K}", [asked]
        )
        return [row[0] - 1 for row in rows]


class Tantivy:
    """The library raw: Tantivy in memory with stems; a word as it is, or with one edit from 4 letters on and two from 8, by BM25."""

    def __init__(self, ids: Sequence[str], titles: Sequence[str]):
        import tantivy

        self.tantivy = tantivy
        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("number", stored=True)
        schema.add_text_field("title", tokenizer_name="plain")
        schema.add_text_field("stemmed", tokenizer_name="en_stem")
        self.schema = schema.build()
        index = tantivy.Index(self.schema)
        plain = (
            tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase()).build()
        )
        index.register_tokenizer("plain", plain)
        writer = index.writer(num_threads=1)
        for number, title in enumerate(titles):
            writer.add_document(tantivy.Document(number=number, title=title, stemmed=title))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self.index, self.searcher = index, index.searcher()

    def find(self, query: str) -> list[int]:
        hits = self.searcher.search(self._query(query), K).hits
        return [self.searcher.doc(address)["number"][0] for _, address in hits]

    def all(self, query: str) -> np.ndarray:
        """Numbers of all that is found: in one segment they are its own."""
        hits = self.searcher.search(self._query(query), self.searcher.num_docs).hits
        return np.array([address.doc for _, address in hits])

    def _query(self, query: str):
        query_of, occur = self.tantivy.Query, self.tantivy.Occur
        parts = []
        for word in re.findall(r"\w+", query.lower()):
            edits = (len(word) >= 4) + (len(word) >= 8)
            exact = query_of.term_query(self.schema, "title", word)
            parts.append((occur.Should, query_of.boost_query(exact, 2.0)))
            if edits:
                near = query_of.fuzzy_term_query(self.schema, "title", word, distance=edits)
                parts.append((occur.Should, near))
        text = " ".join(re.findall(r"\w+", query))
        if text:
            parts.append((occur.Should, self.index.parse_query(text.lower(), ["stemmed"])))
        return query_of.boolean_query(parts)


PEERS: dict[str, type] = {
    "aisle": Aisle,
    "exact words": Exact,
    "SQL LIKE": Like,
    "SQLite FTS5 trigram": Trigrams,
    "Tantivy": Tantivy,
}
