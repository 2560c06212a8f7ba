"""A release as a search sees it: its view, the items of a moment ago behind it, and the index over the texts of all of them.

Made once a release and change, by the search that comes first; from one to the next only the texts that changed are read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aisle.settings import Search
from engine.assortment import Assortment
from engine.interactions import Catalogue
from engine.pauses import breathe, resting
from engine.recommender import Recommender
from serving.cached import Lru
from serving.laying import is_deleted
from serving.search_facets import Columns
from serving.search_fresh import Fresh, behind
from serving.search_index import Document, SearchIndex
from serving.search_text import build
from serving.view import View

RELEASES = 3  # whose search views are kept: served, the one before, one beside
PLACES_BYTES = 32 * 2**20  # of shoppers' places that are kept, with what their reasons are told from
PLACES_SECONDS = 30.0
AT_ONCE = 4096  # rows that are compared before a rest


@dataclass(frozen=True)
class Texts:
    """What is searched, by row: of the items of `catalogue`, then of the fresh ones."""

    ids: Sequence[str]
    titles: Sequence[str]
    brands: Sequence[Any]
    categories: Sequence[Any]
    catalogue: Catalogue | None = None

    @classmethod
    def of(cls, catalogue: Catalogue, fresh: Sequence[Fresh] = (), like: Texts | None = None) -> Texts:
        """like: earlier ones, whose columns are used again where they are the same memory."""
        if like is not None and not fresh and len(like.ids) == len(catalogue) and like.is_of(catalogue):
            return like
        frame, nothing = catalogue.frame, [None] * len(catalogue)
        titles, brands, categories = (
            frame[name].tolist() if name in frame else nothing for name in ("title", "brand", "categories")
        )
        named = zip(titles, catalogue.item_ids, strict=True)
        return cls(
            [*catalogue.item_ids, *(each.item_id for each in fresh)],
            [
                *(title if isinstance(title, str) and title else item for title, item in named),
                *(each.title for each in fresh),
            ],
            [*brands, *(each.brand for each in fresh)],
            [*categories, *(each.categories for each in fresh)],
            catalogue,
        )

    def is_of(self, catalogue: Catalogue) -> bool:
        """Whether a catalogue says the same, as far as can be told without reading it."""
        if self.catalogue is None or self.catalogue.item_ids is not catalogue.item_ids:
            return False
        now, then = catalogue.frame, self.catalogue.frame
        return all(
            name not in now or np.shares_memory(np.asarray(now[name]), np.asarray(then[name]))
            for name in ("title", "brand", "categories")
        )

    def document(self, row: int) -> Document:
        brand, path = self.brands[row], self.categories[row]
        if not isinstance(path, (list, tuple, np.ndarray)):
            path = () if path is None or path != path else (path,)
        return Document(
            self.titles[row],
            brand if isinstance(brand, str) else "",
            tuple(str(each) for each in path if each is not None and each != ""),
        )

    def changed(self, before: Texts) -> dict[str, Document | None]:
        """What an index of `before` does not say, by item. Most often nothing but a few rows, or the last ones, differ."""
        alike = _alike(self.ids, before.ids)
        columns = (
            (self.titles, before.titles),
            (self.brands, before.brands),
            (self.categories, before.categories),
        )
        rows: set[int] = set()
        for now, then in columns:
            for start in range(0, alike if now is not then else 0, AT_ONCE):
                one, other = now[start : start + AT_ONCE], then[start : start + AT_ONCE]
                if _plain(one) != _plain(other):
                    some = zip(range(start, alike), one, other, strict=False)
                    rows |= {row for row, new, old in some if new is not old and not _same(new, old)}
                breathe()
        found: dict[str, Document | None] = {self.ids[row]: self.document(row) for row in rows}
        held = {item: before.document(row) for row, item in enumerate(before.ids[alike:], alike)}
        for row, item in enumerate(self.ids[alike:], alike):
            document = self.document(row)
            if held.pop(item, None) != document:
                found[item] = document
        return found | dict.fromkeys(held)


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many ids two lists begin with alike."""
    if one is other or one == other:
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((row for row, (a, b) in pairs if a != b), min(len(one), len(other)))


def _plain(values: Sequence[Any]) -> list[Any]:
    """Values that can be compared all at once."""
    return [each.tolist() if isinstance(each, np.ndarray) else each for each in values]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str):
        return one == other
    if isinstance(one, (list, tuple, np.ndarray)) and isinstance(other, (list, tuple, np.ndarray)):
        return list(one) == list(other)
    return bool(one == other) or (one != one and other != other)


@dataclass(frozen=True)
class Indexed:
    """An index and what it says. rows: (slots,) the row of each slot, -1 for what is no item any more."""

    texts: Texts
    index: SearchIndex
    rows: np.ndarray

    @classmethod
    def of(cls, texts: Texts, settings: Search, like: Indexed | None = None) -> Indexed:
        """like: an earlier one, of whose index only what changed is made anew."""
        if like is None:
            index: SearchIndex = build(
                {texts.ids[row]: texts.document(row) for row in range(len(texts.ids))}, settings
            )
        else:
            changed = texts.changed(like.texts) if texts is not like.texts else {}
            index = like.index.with_changes(changed) if changed else like.index
            if index.ids is like.index.ids and (texts.ids is like.texts.ids or texts.ids == like.texts.ids):
                return cls(texts, index, like.rows)
        known = {item: row for row, item in enumerate(texts.ids)}
        return cls(texts, index, np.array([known.get(item, -1) for item in index.ids], np.int64))


@dataclass(frozen=True)
class SearchView:
    """May be read from many threads. Rows: those of the view, then the fresh items.

    told: the version of what was fresh. places: by user and by country, see serving.search_blend.
    """

    view: View
    told: int
    fresh: tuple[Fresh, ...]
    assortment: Assortment
    indexed: Indexed
    columns: Columns
    places: Lru[Any] = field(default_factory=lambda: Lru(2, PLACES_SECONDS))

    @classmethod
    def of(
        cls, view: View, told: int, fresh: Sequence[Fresh], indexed: Indexed, like: SearchView | None = None
    ) -> SearchView:
        """like: an earlier one, whose parts are used again where nothing of them changed."""
        assortment = behind(view.assortment, fresh)
        columns = Columns.of(assortment, like.columns if like else None)
        each = 4 * len(indexed.texts.ids) * (len(view.recommender.sources) + 5)
        places: Lru[Any] = Lru(max(PLACES_BYTES // each, 2), PLACES_SECONDS)
        found = cls(view, told, tuple(fresh), assortment, indexed, columns, places)
        same = like is not None and like.view.recommender is view.recommender and like.fresh == found.fresh
        return replace(found, places=like.places) if like is not None and same else found

    def __len__(self) -> int:
        return len(self.indexed.texts.ids)

    def price(self, row: int) -> float | None:
        price = float(self.assortment.price[row])
        return price if np.isfinite(price) else None


class SearchViews:
    """The search view of the moment, made anew when release, overlay or what is fresh changed.

    overlay: what was told since the release (serving.overlay.Overlay); `take` is called after its own.
    """

    def __init__(self, settings: Search, overlay: Any):
        build({}, settings)  # raises SettingsError now, and not in the thread that makes the index
        self.settings, self.overlay = settings, overlay
        self._held: OrderedDict[str, SearchView] = OrderedDict()
        self._indexed: Indexed | None = None  # the newest
        self._told: dict[str, None] = {}  # items that were told of, and that some release does not know
        self._version = 0
        self._lock = threading.Lock()

    def take(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The journal's side."""
        if kind != "items":
            return
        known = [held.view.recommender.catalogue.index for held in self._held.values()]
        new = [
            row["item_id"] for row in rows if not known or any(row["item_id"] not in each for each in known)
        ]
        self._told.update(dict.fromkeys(new))
        self._version += bool(new)

    def prepare(self, recommender: Recommender) -> None:
        """Before its release is served, so that no search waits for its index."""
        catalogue = recommender.catalogue
        with self._lock:
            known = [
                catalogue.index,
                *(held.view.recommender.catalogue.index for held in self._held.values()),
            ]
            self._told.update(dict.fromkeys(list(self.overlay.items)))
            for item in list(self._told):  # one by one: more may be told meanwhile
                if all(item in each for each in known):
                    self._told.pop(item, None)
            before = self._indexed
        made = Indexed.of(Texts.of(catalogue), self.settings, before)  # with rests: no search waits for it
        with self._lock:
            self._version += 1
            self._indexed = made

    def keep(self, versions: Collection[str]) -> list[SearchView]:
        """Lets go of all other releases, whose recommenders would stay in memory, and gives them to who frees them."""
        with self._lock:
            before = self._held
            self._held = OrderedDict(
                (version, view) for version, view in before.items() if version in versions
            )
            return [view for version, view in before.items() if version not in versions]

    def ready(self, view: View) -> SearchView | None:
        """The search view, where it need not be made first."""
        held = self._held.get(view.version)
        return held if held is not None and held.view is view and held.told == self._version else None

    def of(self, view: View) -> SearchView:
        found = self.ready(view)
        if found is not None:
            return found
        with self._lock, resting(None):  # searches wait for the lock: no rest with it
            found = self.ready(view)
            if found is None:
                told, like = self._version, self._held.get(view.version)
                indexed, fresh = like.indexed if like else self._indexed, self._fresh(view)
                texts = Texts.of(view.recommender.catalogue, fresh, indexed.texts if indexed else None)
                made = Indexed.of(texts, self.settings, indexed)
                if indexed is self._indexed:  # else that of a release to come is kept for it
                    self._indexed = made
                found = SearchView.of(view, told, fresh, made, like)
                self._keep(found)
            return found

    def lately(self, version: str) -> SearchView | None:
        """The one of a release that was made last, whatever changed since; of another one, where there is none."""
        return self._held.get(version) or self.newest()

    def newest(self) -> SearchView | None:
        """The one that was made last, whatever changed since; None before the first."""
        return next(reversed(self._held.values()), None)

    def _keep(self, found: SearchView) -> None:
        held = OrderedDict(self._held)  # a new one, because requests read it without the lock
        held[found.view.version] = found
        held.move_to_end(found.view.version)
        while len(held) > RELEASES:
            held.popitem(last=False)
        self._held = held

    def _fresh(self, view: View) -> list[Fresh]:
        known, found = view.recommender.catalogue.index, []
        for item in list(self._told):
            told = self.overlay.items.get(item) if item not in known else None
            if told and told.get("title") and not is_deleted(told, self.overlay.shelf.of(item)):
                found.append(Fresh.of(item, told))
        return sorted(found, key=lambda each: each.item_id)
