"""What many people bought lately: overall, and in the user's country."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.interactions import Catalogue, Events
from engine.sources.base import Arrays


@dataclass(frozen=True)
class Popularity:
    """Recent buyers of each item, as a share of all recent buyers.

    overall: (n_items,) float32. by_country: (c, n_items) float32, each country's share drawn towards
    `overall` by `prior` buyers' worth, so that three buyers in a small country do not make a bestseller.
    countries: c names.
    """

    overall: np.ndarray
    by_country: np.ndarray
    countries: tuple[str, ...]
    name = "popularity"

    @classmethod
    def fit(cls, events: Events, catalogue: Catalogue, days: float = 30.0, prior: float = 50.0) -> Popularity:
        """`n_buyers_30d` says what is popular; `n_buyers` breaks its ties and fills a quiet month."""
        recent, ever = catalogue.numbers("n_buyers_30d"), catalogue.numbers("n_buyers")
        overall = recent / max(recent.max(initial=0.0), 1.0) + 1e-3 * ever / max(ever.max(initial=0.0), 1.0)
        bought = events.counts((events.weight > 0) & (events.age <= days), clip=True)
        countries = tuple(sorted({country for country in events.countries if country}))
        by_country = np.empty((len(countries), len(catalogue)), np.float32)
        for row, country in enumerate(countries):
            inside = bought[np.flatnonzero(events.countries == country)]
            buyers = np.count_nonzero(inside.sum(axis=1))
            by_country[row] = (inside.sum(axis=0) + prior * overall) / (buyers + prior)
        return cls(overall.astype(np.float32), by_country, countries)

    def of_country(self, country: str | None) -> np.ndarray:
        """(n_items,) shares; the overall ones for an unknown country."""
        return self.by_country[self.countries.index(country)] if country in self.countries else self.overall

    def scores(self, events: Events) -> np.ndarray:
        table = np.vstack([self.by_country, self.overall[None]])
        index = {country: row for row, country in enumerate(self.countries)}
        return table[[index.get(country, len(self.countries)) for country in events.countries]]

    def evidence(self, events: Events, item: int) -> dict | None:
        country = events.countries[0]
        return {"popular_in": country} if country in self.countries else {"popular_in": None}

    def arrays(self) -> Arrays:
        return {
            "overall": self.overall,
            "by_country": self.by_country,
            "countries": np.array(self.countries, dtype=np.str_),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Popularity:
        return cls(arrays["overall"], arrays["by_country"], tuple(arrays["countries"].tolist()))
