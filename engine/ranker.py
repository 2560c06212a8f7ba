"""The ranker: boosted trees over the candidates' features, and what each answer owes to which of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import tree_text
from engine.ranking import BOTH, ITEM, PAIR, SCORE, USER, Candidates

if TYPE_CHECKING:
    import lightgbm

# A feature that is no source's score belongs to a part of its own in an explanation.
PARTS = {
    **dict.fromkeys((*PAIR, *BOTH), "rhythm"),
    **dict.fromkeys(USER, "customer"),
    **dict.fromkeys(ITEM, "trend"),
}


@dataclass(frozen=True)
class Ranker:
    """A LambdaMART model as text (LightGBM's own format, no pickle). Burges, From RankNet to LambdaRank to LambdaMART (2010).

    May be read from many threads.
    """

    text: str

    @cached_property
    def model(self) -> lightgbm.Booster:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features that it reads, in order."""
        return tree_text.features_of(self.text)

    def described(self) -> dict[str, Any]:
        """feature_names, tree_info and average_output, as `lightgbm.Booster.dump_model` has them."""
        return tree_text.described(self.text) or self.model.dump_model()

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources whose scores it reads, in the order of its features."""
        return tuple(name.removeprefix(SCORE) for name in self.names if name.startswith(SCORE))

    def importance(self) -> dict[str, float]:
        """Share of the trees' gain by feature."""
        gains = self.model.feature_importance("gain")
        return dict(zip(self.names, (gains / max(gains.sum(), 1e-12)).tolist(), strict=True))

    def scores(self, found: Candidates) -> np.ndarray:
        """(n,) float32, higher is better."""
        if not len(found.features):
            return np.zeros(0, np.float32)
        # Threads cost more than they bring below some thousands of rows, and a server has other requests.
        threads = 0 if len(found.features) > 20_000 else 1
        return np.asarray(self.model.predict(found.features, num_threads=threads), np.float32)

    def by_feature(self, features: np.ndarray) -> list[dict[str, float]]:
        """What adds up to each row's score, exactly (TreeSHAP, Lundberg et al. 2018): by feature, and 'base', the mean of all."""
        rows = np.asarray(self.model.predict(features, pred_contrib=True, num_threads=1))
        names = [*self.names, "base"]
        return [
            {name: value for name, value in zip(names, row, strict=True) if value} for row in rows.tolist()
        ]

    def parts(self, features: np.ndarray) -> list[dict[str, float]]:
        """`by_feature`, summed by source, and by PARTS for the rest."""
        found = []
        for row in self.by_feature(features):
            parts: dict[str, float] = {}
            for name, value in row.items():
                owner = PARTS.get(name, name.removeprefix(SCORE))
                parts[owner] = parts.get(owner, 0.0) + value
            found.append({owner: value for owner, value in parts.items() if value})
        return found
