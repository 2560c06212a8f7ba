"""Further pages of an answer: from the order that its first page was made of, whatever happened since.

But what the rules forbid by now, was deleted, or is hidden by its user meanwhile, is on no page. In this process' memory,
bounded in number and time: with several workers a page may be asked of one that did not give the answer, which says so.

Nobody waits for anybody: two threads may work out the same page, of which the first to put it there is right. A lock would be held
as long as a page takes, and a hurried one is made on the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aisle.errors import NotThere
from engine.places import Places
from engine.recommender import Recommended
from engine.rules import had
from engine.state import UserState, epoch
from serving.asking import Ask
from serving.cached import Lru, Pool
from serving.ladder import climb, hidden
from serving.making import Made, made
from serving.reasons import DIGITS
from serving.rulebook import Version
from serving.same_question import require
from serving.together import Together
from serving.view import View

PLAIN = ("segment", "popular", "curated")  # rungs that know nothing of a history


@dataclass
class Kept:
    """An answer whose pages are turned. pages: ids by page, from 1 on; each is put there once, by `dict.setdefault`, and follows
    from those before it.

    standing: of who asked, see Sessions.standing.
    """

    ask: Ask
    pool: Pool
    pages: dict[int, list[str]]
    standing: tuple[int, bool]


class Turned:
    """At most `most` answers, each for `seconds`. May be used from many threads."""

    def __init__(self, most: int, seconds: float):
        self.most, self.seconds = most, seconds
        self._held: Lru[Kept] = Lru(most, seconds)

    def keep(self, request_id: str, ask: Ask, first: Made, standing: tuple[int, bool]) -> None:
        pages = {1: [each.item_id for each in first.shown]}
        self._held.put(request_id, Kept(ask, first.pool, pages, standing))

    def page(
        self,
        view: View,
        rules: Version,
        together: Together,
        ask: Ask,
        state: UserState,
        standing: tuple[int, bool],
        hurried: bool = False,
    ) -> Made:
        """The page that is asked for. state, standing: of now. hurried: there is no time for reasons of the user's own.

        Raises NotThere for an answer that is not kept, is somebody else's, or was made of what is to be used no more, and
        AnotherQuestion for what says something else than its first page.
        """
        held = self._held.get(ask.request_id)
        if held is None or held.ask.asker != ask.asker or held.standing != standing:
            raise NotThere(
                f"no answer {ask.request_id!r} of this path, user_id and session_id is kept (at most {self.most} answers "
                f"for {self.seconds:.0f} s, in the process that gave it): ask for its first page again"
            )
        require(held.ask, ask)
        return _page(view, rules, together, held, ask.page, state, hurried)


def _page(
    view: View, rules: Version, together: Together, held: Kept, number: int, state: UserState, hurried: bool
) -> Made:
    ask, pool = held.ask, held.pool
    documents, assortment = rules.book.rules(ask), view.assortment
    allowed = assortment.allowed(documents)
    allowed[assortment.rows_of(tuple(had(pool.state, documents, epoch(pool.now))))] = False
    for each in (pool.state, state):
        allowed[hidden(view.recommender, each, pool.now)] = False
    ids, index = assortment.catalogue.item_ids, assortment.catalogue.index
    order = np.array(
        [row for item in pool.ids if (row := index.get(item, -1)) >= 0 and allowed[row]], np.int64
    )
    places = Places.of(assortment, documents, allowed)
    shown: set[int] = set()
    for page in range(1, number + 1):
        if page not in held.pages:
            rows = places.page(order, (page - 1) * ask.k, ask.k, frozenset(shown))
            held.pages.setdefault(page, [ids[row] for row in rows])
        shown |= set(assortment.rows_of(tuple(held.pages[page])))
    rows = [row for row in assortment.rows_of(tuple(held.pages[number])) if allowed[row]]
    told = _told(view, rules, together, held, rows, hurried)
    return made(view, pool, rows, told, places, (number - 1) * ask.k, bool(set(order.tolist()) - shown))


def _told(
    view: View, rules: Version, together: Together, held: Kept, rows: list[int], hurried: bool
) -> list[Recommended]:
    """The reasons of a page, from the history that the first one was made of; the scores of then."""
    ask, pool = replace(held.ask, page=1), held.pool
    known, plain = pool.rung != "session", hurried or pool.rung in PLAIN
    listing = climb(view, ask, pool.state, rules.book, together, known, len(pool.ids), hurried=plain)
    scores = dict(zip(pool.ids, pool.scores.tolist(), strict=True))
    told = listing.told(rows, ask.exact, DIGITS)
    return [each._replace(score=scores.get(each.item_id, each.score)) for each in told]
