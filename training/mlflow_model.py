"""The recommender as an MLflow model (models from code): MLflow runs this file when it loads a version.

Input: one row a user: item_ids, event_types, event_times (epoch seconds), quantities (newest event first), country.
Output: item_ids and scores, best first. Parameters: k; now (ISO time of asking; empty: the end of the model's data).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from engine.recommender import Recommender
from engine.state import from_frame


class AisleRecommender(PythonModel):
    """Answers from the bundle alone; users' histories come with the question (docs/adr/0004)."""

    def load_context(self, context: PythonModelContext) -> None:
        self.recommender = Recommender.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        asked = params or {}
        now = datetime.fromisoformat(asked["now"]) if asked.get("now") else self.recommender.recipe.cut
        states = from_frame(model_input.assign(user_id=[str(row) for row in range(len(model_input))]))
        ids, scores = self.recommender.batch(states, int(asked.get("k", 10)), now)
        kept = [row != "" for row in ids]
        return pd.DataFrame(
            {
                "item_ids": [row[keep].tolist() for row, keep in zip(ids, kept, strict=True)],
                "scores": [row[keep].astype(float).tolist() for row, keep in zip(scores, kept, strict=True)],
            }
        )


mlflow.models.set_model(AisleRecommender())
