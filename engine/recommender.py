"""The recommender: sources, their blend, the ranker over their candidates, and answers with reasons.

A fitted recommender is immutable and holds no row of a user (docs/adr/0004): who asks brings a `UserState`.
It may be read from many threads. Here is how one is made, out of histories, a bundle or another one; how it scores is in
`engine.scoring`, how it answers in `engine.answering`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import cast

import pandas as pd

from aisle.settings import Final
from engine import beforehand, bundle, storage
from engine.answering import Answering, Recommended
from engine.blend import Weights
from engine.discovery import Discovery
from engine.fitting import fit_source, fit_sources
from engine.interactions import Catalogue, Events
from engine.new_items import grow
from engine.ranker import Ranker
from engine.recipe import Recipe
from engine.scoring import Ranked, Scored
from engine.sources import Export
from engine.sources.content import Content
from engine.sources.content_words import FIELDS
from engine.state import from_frame
from engine.trends import Trends
from engine.vector_sources import indexed

__all__ = ["Ranked", "Recipe", "Recommended", "Recommender", "Scored", "fit_source"]


class Recommender(Answering):
    """See `fit` and `load`; the constructor takes fitted parts."""

    @classmethod
    def fit(
        cls,
        items: pd.DataFrame,
        histories: pd.DataFrame,
        cut: datetime,
        recipe: Recipe,
        exports: Mapping[str, Export] | None = None,
        ranker: Ranker | None = None,
    ) -> Recommender:
        """Fits every source of the recipe to what was known before `cut`. The ranker is taken as it is: None ranks by the blend.

        items: item_id, title, categories, brand, price, n_buyers, n_buyers_30d, deleted, and description, tags and attributes
        (name=value) where the shop has them; histories: user_id,
        country, item_ids, event_types, event_times (epoch s), quantities, newest first. exports: learned models by source;
        a learned source of the recipe without one is left out. Raises ValueError without items.
        """
        catalogue = Catalogue.of(items)
        if not len(catalogue):
            raise ValueError(
                f"no item to recommend before {cut.isoformat()}: the items frame is empty or all deleted"
            )
        events = Events.of(from_frame(histories), catalogue.index, cut, recipe.event_weights, recipe.counting)
        sources = fit_sources(recipe, events, catalogue, exports or {})
        kept = {name: settings for name, settings in recipe.sources.items() if name in sources}
        recipe = recipe.model_copy(update={"cut": cut, "sources": kept})
        # What `content` made of these is in it, in a tenth of the bytes; an answer reads none of them.
        catalogue = replace(catalogue, frame=catalogue.frame.drop(columns=[*FIELDS], errors="ignore"))
        found = cls(recipe, catalogue, sources, Trends.fit(events), ranker)
        return found.with_discovery(histories) if recipe.final.discovery_slots else found

    @classmethod
    def load(cls, folder: Path) -> Recommender:
        """Raises BundleRejected, naming the file, where one is missing, altered or not what it should be."""
        parts = storage.load(Path(folder))
        found = cls(parts.recipe, parts.catalogue, parts.sources, parts.trends, parts.ranker)
        if parts.cold:
            found.__dict__["cold"] = parts.cold
        found.discovery = parts.discovery
        with bundle.rejecting(Path(folder), "what is made beforehand"):
            beforehand.put(found, parts.beforehand)
        return found

    def unload(self) -> None:
        """Takes out of memory what of its bundle was read to make it: questions bring back what they read of it."""
        storage.unload(self)

    def save(self, folder: Path) -> None:
        """Writes the bundle; see engine.bundle. Raises ValueError where items came or went since the fit."""
        storage.save(self, Path(folder))

    def faults(self, unload: bool = True) -> list[str]:
        """See `storage.faults`."""
        return storage.faults(self, unload)

    # -- another one out of the same parts

    def without(self, names: Collection[str]) -> Recommender:
        """The same sources but for these, without the ranker, which reads them."""
        left = {name: source for name, source in self.sources.items() if name not in names}
        settings = {name: self.recipe.sources.get(name, {}) for name in left}
        recipe = self.recipe.model_copy(update={"sources": settings})
        return Recommender(recipe, self.catalogue, left, self.trends)

    def with_weights(self, weights: Weights) -> Recommender:
        """The same sources under another blend, without the ranker."""
        recipe = self.recipe.model_copy(update={"weights": weights})
        return Recommender(recipe, self.catalogue, self.sources, self.trends)

    def with_ranker(self, ranker: Ranker | None) -> Recommender:
        """The same sources and blend, their candidates ordered by another ranker, or by none."""
        return Recommender(self.recipe, self.catalogue, self.sources, self.trends, ranker)

    def with_final(self, final: Final) -> Recommender:
        """The same ranking under another last stage; `Final()` for none."""
        recipe = self.recipe.model_copy(update={"final": final})
        found = Recommender(recipe, self.catalogue, self.sources, self.trends, self.ranker)
        found.discovery = self.discovery
        return found

    def with_discovery(self, histories: pd.DataFrame) -> Recommender:
        """The same ranking with the prices that its recipe's discovery slots go by, of those who are known at its cut. They are
        of these scores: another blend or ranker has none before it is asked for them."""
        found = self.with_final(self.recipe.final)
        found.discovery = Discovery.fit(self, histories)
        return found

    def with_items(self, items: pd.DataFrame) -> Recommender:
        """The same model over the catalogue of now, without a refit: see `engine.new_items.grow`.

        What was made of the model is made for the new items alone. It cannot be saved: a bundle holds what was fitted.
        """
        found = Recommender(self.recipe, *grow(self.catalogue, self.sources, self.trends, items), self.ranker)
        found.discovery = self.discovery and self.discovery.over(len(found.catalogue))
        made, new = self.__dict__, len(found.catalogue) > len(self.catalogue)
        if made.get("cold") is not None:
            content = cast(Content, found.sources[Content.name])
            found.__dict__["cold"] = made["cold"].with_items(content, found.trends) if new else made["cold"]
        if "indexed" in made:
            found.__dict__["indexed"] = indexed(found.sources, len(found.catalogue), found.cold, self.indexed)
        if made.get("ranking") is not None:
            found.__dict__["ranking"] = made["ranking"].over(self.things, found.things)
        if "paths" in made:
            found.__dict__["paths"] = made["paths"]
        return found

    def over(self, catalogue: Catalogue, changed: Collection[str]) -> Recommender:
        """The same model over the same items with other values in the `changed` columns, or others gone.

        What was made of the model stays made, but for what such a value is read for.
        """
        found = Recommender(self.recipe, catalogue, self.sources, self.trends, self.ranker)
        found.discovery = self.discovery
        final, made = self.recipe.final, self.__dict__
        kept = {"cold", "lately", "indexed", "paths"}
        if not {*changed} & {*final.caps, *(boost.column for boost in final.boosts)}:
            kept.add("last_stage")
        if "price" not in changed:
            kept |= {"things", "ranking"}
        elif made.get("ranking") is not None:
            found.__dict__["ranking"] = made["ranking"].over(self.things, found.things)
        found.__dict__.update({name: made[name] for name in kept & made.keys()})
        return found
