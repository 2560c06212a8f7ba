"""Further pages of a search: from the order of its first page, whatever happened since; but what the rules forbid by now or was
deleted is on none. In this process' memory, bounded in number and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aisle.errors import NotThere
from engine.places import Places
from serving.cached import Lru
from serving.same_question import require
from serving.search_asking import Searched
from serving.search_view import SearchView


@dataclass
class Kept:
    """An answer whose pages are turned. pages: ids by page, from 1 on; each is put there once, whoever comes first.

    standing: of who asked, see Sessions.standing.
    """

    searched: Searched
    order: list[str]
    pages: dict[int, list[str]]
    standing: tuple[int, bool]


class Turning:
    """At most `most` answers, each for `seconds`. May be used from many threads."""

    def __init__(self, most: int, seconds: float):
        self.most, self.seconds = most, seconds
        self._held: Lru[Kept] = Lru(most, seconds)

    def keep(
        self,
        request_id: str,
        searched: Searched,
        order: list[str],
        first: list[str],
        standing: tuple[int, bool],
    ) -> None:
        """order: item ids of all pages. first: those of the first page."""
        self._held.put(request_id, Kept(searched, order, {1: first}, standing))

    def of(self, searched: Searched, standing: tuple[int, bool]) -> Kept:
        """Raises NotThere for an answer that is not kept, is somebody else's, or was made of what is to be used no more, and
        AnotherQuestion for what says something else than its first page. An empty text is one that was left out.
        """
        held = self._held.get(searched.ask.request_id)
        same = held and held.searched.ask.asker == searched.ask.asker and held.standing == standing
        if held is None or not same:
            raise NotThere(
                f"no search {searched.ask.request_id!r} of this user_id and session_id is kept (at most {self.most} answers "
                f"for {self.seconds:.0f} s, in the process that gave it): ask for its first page again"
            )
        first = held.searched
        texts = first.query, searched.query or first.query
        require(first.ask, searched.ask, {"q": texts, "typing": (first.typing, searched.typing)})
        return held


def again(view: SearchView, ids: Sequence[str], allowed: np.ndarray) -> np.ndarray:
    """The rows of an earlier order that may still be shown."""
    index = view.assortment.catalogue.index
    return np.array([row for item in ids if (row := index.get(item, -1)) >= 0 and allowed[row]], np.int64)


def page_of(
    view: SearchView, places: Places, order: np.ndarray, number: int, k: int, kept: Kept | None
) -> tuple[list[int], bool]:
    """Rows of a page, and whether there is more. Pages before it that nobody asked for are worked out, so that none repeats."""
    if kept is None:
        page = places.page(order, 0, k)
        return page, len(order) > len(page)
    ids, index = view.indexed.texts.ids, view.assortment.catalogue.index
    may_show, shown = set(order.tolist()), set()
    for each in range(1, number + 1):
        if each not in kept.pages:
            rows = places.page(order, (each - 1) * k, k, frozenset(shown))
            kept.pages.setdefault(each, [ids[row] for row in rows])  # without a lock: see serving.turning
        rows = [row for item in kept.pages[each] if (row := index.get(item, -1)) >= 0]
        shown |= set(rows)
    return [row for row in rows if row in may_show], bool(may_show - shown)
