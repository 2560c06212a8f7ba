"""A release as a question sees it: the recommender with what came since laid over it, its assortment for the rules, its shop window.

Made once a release and overlay version; a request only reads it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from engine.assortment import Assortment
from engine.pauses import breathe, resting
from engine.recommender import Ranked, Recommender
from engine.state import UserState
from serving.cached import Lru, fingerprint
from serving.live import Loaded

RANKED_BYTES = 32 * 2**20  # of users' scores that are kept for the other lists of their page
MOST_RANKED = 32  # of those lists: each also keeps what its neighbours say of the history, a megabyte or two
RANKED_SECONDS = 30.0
NARROW = 0.5  # of a catalogue: what a list of 500 needs is among the best of all where more is left


@dataclass(frozen=True)
class View:
    """May be read from many threads.

    version: of the release. digest, overlay: with it, what an answer depends on besides rules and user.
    titles, prices: by row of the catalogue; a price is None where it is not known.
    """

    version: str
    digest: str
    overlay: int
    recommender: Recommender
    assortment: Assortment
    titles: list[str]
    prices: list[float | None]
    _orders: dict[str | None, np.ndarray] = field(default_factory=dict)
    _ranked: Lru[Ranked] = field(default_factory=lambda: Lru(0, 0.0))

    @classmethod
    def of(
        cls,
        recommender: Recommender,
        version: str = "",
        digest: str = "",
        overlay: int = 0,
        stock: Callable[[str], int | None] = lambda item: None,
        like: View | None = None,
    ) -> View:
        """like: an earlier view, whose parts are used again where the recommender is the same."""
        if like is not None and like.recommender is recommender:
            assortment = like.assortment
            if like.overlay != overlay:
                assortment = Assortment.of(recommender.catalogue, stock, assortment)
            return cls(
                version,
                digest,
                overlay,
                recommender,
                assortment,
                like.titles,
                like.prices,
                like._orders,
                like._ranked,
            )
        catalogue = recommender.catalogue
        assortment = Assortment.of(catalogue, stock, like.assortment if like else None)
        names = catalogue.frame["title"].tolist() if "title" in catalogue.frame else [None] * len(catalogue)
        titles = [
            name if isinstance(name, str) and name else item
            for name, item in zip(names, catalogue.item_ids, strict=True)
        ]
        prices = [price if math.isfinite(price) else None for price in assortment.price.tolist()]
        each = 4 * len(catalogue) * (len(recommender.sources) + 3)
        ranked: Lru[Ranked] = Lru(max(1, min(RANKED_BYTES // each, MOST_RANKED)), RANKED_SECONDS)
        return cls(version, digest, overlay, recommender, assortment, titles, prices, {}, ranked)

    @property
    def key(self) -> tuple:
        return self.version, self.digest, self.overlay

    def __len__(self) -> int:
        return len(self.titles)

    def popular_scores(self, country: str | None) -> np.ndarray:
        """(n_items,) shares of recent buyers: of the country, or overall for None and unknown ones."""
        return self.recommender.popularity.of_country(country)

    def popular_order(self, country: str | None) -> np.ndarray:
        """Rows, most popular first; sorted once a country."""
        held = self._orders.get(country)
        if held is None:
            held = np.argsort(-self.popular_scores(country), kind="stable")
            self._orders[country] = held
        return held

    def ranked(self, state: UserState, now: datetime, allowed: np.ndarray | None = None) -> Ranked:
        """`Recommender.rank`, worked out once for the several lists of a page: their rules come after it.

        allowed: (n_items,) bool of what the rules let through. On a large catalogue whose sources are behind an index, rules that
        leave less than NARROW of it have their candidates looked for among what they leave.
        """
        if allowed is not None and not self._narrow(allowed):
            allowed = None
        key = fingerprint(state), now, None if allowed is None else hash(np.packbits(allowed).tobytes())
        found = self._ranked.get(key)
        if found is None:
            found = self.recommender.rank(state, now, allowed)
            self._ranked.put(key, found)
        return found

    def _narrow(self, allowed: np.ndarray) -> bool:
        return bool(self.recommender.indexed) and np.count_nonzero(allowed) < NARROW * len(allowed)

    def knows_country(self, country: str | None) -> bool:
        return country is not None and country in self.recommender.countries

    def row(self, item_id: str) -> int | None:
        """None for an item that is not in the catalogue, or was deleted."""
        found = self.assortment.catalogue.index.get(item_id)
        return None if found is None or self.assortment.gone[found] else found


class Views:
    """The view of the moment, made anew when release or overlay changed."""

    def __init__(self, service: Any):
        self.service = service
        self._held: dict[str, View] = {}
        self._prepared: View | None = None
        self._lock = threading.Lock()

    def prepare(self, recommender: Recommender) -> View:
        """A view before its release is served, so that no question waits for its parts."""
        recommender.warm()
        self._prepared = View.of(recommender, **self._told())
        return self._prepared

    def _told(self) -> dict[str, Any]:
        """What the overlay says, as `View.of` takes it."""
        overlay = getattr(self.service, "overlay", None)
        return {"overlay": overlay.version, "stock": overlay.stock} if overlay else {}

    def make_ready(self, loaded: Loaded) -> View:
        """The view of a release that is to be served, with what the first questions would wait for."""
        found = self.of(loaded)
        found.assortment.stock  # noqa: B018
        for country in {country for view in list(self._held.values()) for country in list(view._orders)}:
            breathe()
            found.popular_order(country)
        return found

    def ready(self, loaded: Loaded) -> View | None:
        """The view, where it need not be made first."""
        overlay, pointer = getattr(self.service, "overlay", None), loaded.pointer
        held = self._held.get(pointer.version)
        key = (pointer.version, pointer.digest, overlay.version if overlay else 0)
        return held if held is not None and held.key == key else None

    def of(self, loaded: Loaded) -> View:
        found = self.ready(loaded)
        if found is not None:
            return found
        with self._lock, resting(None):  # requests wait for the lock: no rest with it
            found = self.ready(loaded)
            if found is not None:
                return found
            overlay, pointer, told = getattr(self.service, "overlay", None), loaded.pointer, self._told()
            prepared, held = self._prepared, self._held.get(pointer.version)
            recommender = overlay.recommender(loaded) if overlay else loaded.recommender
            fits = prepared is not None and prepared.recommender is recommender
            if held is None or (fits and held.recommender is not recommender):
                held = prepared
            made = View.of(recommender, pointer.version, pointer.digest, like=held, **told)
            made.assortment.in_stock, made.assortment.by_price  # noqa: B018 - passes over all items: here, not in a question
            self._held = {**dict(list(self._held.items())[-2:]), pointer.version: made}
            return made

    def keep(self, versions: Collection[str]) -> list[View]:
        """Lets go of the views of all other releases, and gives them to who frees them."""
        with self._lock:
            before, prepared, self._prepared = self._held, self._prepared, None
            self._held = {version: view for version, view in before.items() if version in versions}
            gone = [view for version, view in before.items() if version not in versions]
            return [*gone, prepared] if prepared else gone
