"""A trained sequence model as a source."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from engine.interactions import Catalogue, Events
from engine.sequence import Histories, SequenceExport, user_vectors
from engine.sources.base import Arrays, Source
from engine.sources.neighbours import strongest_of

OCCLUDED = 20  # newest different items of a history that are tried as evidence
LAYER = "layer_"


@dataclass(frozen=True)
class Sequence(Source):
    """How much more than the mean item each one fits what comes next, in logits.

    vectors: (n_items, d) in the catalogue's order; zeros for items of which the model knows neither id nor attributes:
    they score 0, as everything does for a user without a history.
    """

    export: SequenceExport
    vectors: np.ndarray
    name = "sequence"

    @classmethod
    def fit(cls, export: SequenceExport, catalogue: Catalogue) -> Sequence:
        return cls(export, export.vectors(catalogue))

    @cached_property
    def known(self) -> np.ndarray:
        return self.vectors.any(axis=1)

    @cached_property
    def centred(self) -> np.ndarray:
        """(n_items, d): the vectors less their mean, so that the mean of a user's scores is 0."""
        mean = self.vectors.sum(axis=0) / max(int(self.known.sum()), 1)
        return (self.vectors - mean) * self.known[:, None]

    def scores(self, events: Events) -> np.ndarray:
        histories = self._histories(events.user, events.item, events.weight, events.age, events.n_users)
        return user_vectors(self.export, self.vectors, histories) @ self.centred.T

    def evidences(self, events: Events, items: np.ndarray) -> list[dict | None]:
        """The item of the history without which the score falls most, its share of all that falls, and 'order': True."""
        keep = (events.weight > 0) & self.known[events.item]
        mine, weight, age = events.item[keep], events.weight[keep], events.age[keep]
        _, first = np.unique(mine, return_index=True)
        tried = mine[np.sort(first)[:OCCLUDED]]
        if not len(tried):
            return [None] * len(items)
        without = np.concatenate([np.full((1, len(mine)), True), mine != tried[:, None]])
        row, place = np.nonzero(without)
        histories = self._histories(row, mine[place], weight[place], age[place], len(without))
        score = user_vectors(self.export, self.vectors, histories) @ self.centred[items].T
        found = strongest_of(tried, score[0] - score[1:])
        return [each and {**each, "order": True} for each in found]

    def _histories(self, user, item, weight, age, n_users: int) -> Histories:
        """Without the items that the model cannot read."""
        keep = self.known[item]
        return Histories.of(user[keep], item[keep], weight[keep], age[keep], n_users)

    def arrays(self) -> Arrays:
        export = self.export
        plain = {each.name: getattr(export, each.name) for each in fields(export) if each.name != "layers"}
        plain |= {name: np.array(plain[name], dtype=np.str_) for name in ("item_ids", "attributes")}
        plain["length"] = np.array([export.length])
        return {
            **plain,
            **{LAYER + name: each for name, each in export.layers.items()},
            "vectors": self.vectors,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Sequence:
        export = SequenceExport(
            item_ids=arrays["item_ids"].tolist(),
            item_vectors=arrays["item_vectors"],
            attributes=arrays["attributes"].tolist(),
            attribute_vectors=arrays["attribute_vectors"],
            distances=arrays["distances"],
            strength=arrays["strength"],
            length=int(arrays["length"][0]),
            layers={
                name.removeprefix(LAYER): each for name, each in arrays.items() if name.startswith(LAYER)
            },
        )
        return cls(export, arrays["vectors"])
