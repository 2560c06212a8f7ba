"""What many people bought lately: overall, and in the user's country."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays, Source

LEAST_BUYERS = 5  # of an item in a country, before a shopper is told that it is popular there


if TYPE_CHECKING:
    from engine.history import OneUser


@dataclass(frozen=True)
class Popularity(Source):
    """Recent buyers of each item, as a share of all recent buyers.

    overall: (n_items,) float32. by_country: (c, n_items) float32, each country's share drawn towards
    `overall` by `prior` buyers' worth, so that three buyers in a small country do not make a bestseller.
    countries: c names. local: (c, n_items) bool, where the country may be named as the reason: LEAST_BUYERS of its
    buyers took the item, a larger share of them than of all buyers.
    """

    overall: np.ndarray
    by_country: np.ndarray
    countries: tuple[str, ...]
    local: np.ndarray
    name = "popularity"

    @classmethod
    def fit(cls, events: Events, catalogue: Catalogue, days: float = 30.0, prior: float = 50.0) -> Popularity:
        """`n_buyers_30d` says what is popular; `n_buyers` breaks its ties and fills a quiet month."""
        recent, ever = catalogue.numbers("n_buyers_30d"), catalogue.numbers("n_buyers")
        overall = recent / max(recent.max(initial=0.0), 1.0) + 1e-3 * ever / max(ever.max(initial=0.0), 1.0)
        bought = events.counts(events.buying & (events.age <= days), clip=True)
        countries = tuple(sorted({country for country in events.countries if country}))
        by_country = np.empty((len(countries), len(catalogue)), np.float32)
        local = np.zeros(by_country.shape, bool)
        of_all, all_buyers = bought.sum(axis=0), np.count_nonzero(bought.sum(axis=1))
        for row, country in enumerate(countries):
            inside = bought[np.flatnonzero(events.countries == country)]
            took, buyers = inside.sum(axis=0), np.count_nonzero(inside.sum(axis=1))
            by_country[row] = (took + prior * overall) / (buyers + prior)
            local[row] = (took >= LEAST_BUYERS) & (took * all_buyers > of_all * buyers)
        return cls(overall.astype(np.float32), by_country, countries, local)

    def of_country(self, country: str | None) -> np.ndarray:
        """(n_items,) shares; the overall ones for an unknown country."""
        return self.by_country[self.countries.index(country)] if country in self.countries else self.overall

    @cached_property
    def _table(self) -> np.ndarray:
        return np.vstack([self.by_country, self.overall[None]])

    @cached_property
    def _index(self) -> dict[str, int]:
        return {country: row for row, country in enumerate(self.countries)}

    def scores(self, events: Events) -> np.ndarray:
        return self._table[[self._index.get(country, len(self.countries)) for country in events.countries]]

    def put(self, events: OneUser, out: np.ndarray) -> None:
        out[:] = self._table[self._index.get(events.countries[0], len(self.countries))]

    def evidences(self, events: Events, items: np.ndarray) -> Sequence[dict | None]:
        """Nothing of what nobody bought: it may be here for what it reads like."""
        country = events.countries[0]
        place = self._index.get(country)
        there = [False] * len(items) if place is None else self.local[place, items].tolist()
        return [
            {"popular_in": str(country) if named else None} if bought else None
            for bought, named in zip(self.overall[items].tolist(), there, strict=True)
        ]

    def named(self, country: str | None, item: int) -> str | None:
        """The country, where it may be named as the reason for an item; None: popular with everybody."""
        there = country in self.countries and self.local[self.countries.index(country), item]
        return str(country) if there else None

    def arrays(self) -> Arrays:
        return {
            "overall": self.overall,
            "by_country": self.by_country,
            "countries": np.array(self.countries, dtype=np.str_),
            "local": self.local,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Popularity:
        """A bundle of before `local` was kept names no country."""
        by_country = arrays["by_country"]
        local = arrays.get("local", np.zeros(by_country.shape, bool))
        return cls(arrays["overall"], by_country, tuple(arrays["countries"].tolist()), local)
