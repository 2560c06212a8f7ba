"""`python -m bench.serving_peer PORT`: a straightforward serving stack over the same shop, as the parts' own guides put it together.

FastAPI; for every request `get_online_features` of the Feast SDK on the same online store, and `predict` of a Keras model: the query
tower of the TensorFlow Recommenders tutorial (bench.tutorial_two_tower) under its BruteForce layer over all items. Its weights are as
they are initialised, which costs what trained ones cost: this peer is asked for speed alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_recommenders as tfrs
import uvicorn
from fastapi import FastAPI

from aisle import features
from aisle import settings as settings_module
from bench.tutorial_two_tower import QueryTower
from serving import release

K, SIZE, HISTORY, HALF_LIFE_DAYS = 20, 64, 50, 60.0
SERVICE = "retrieval_v1"


class Inputs:
    """A user's features as the tower reads them: the newest HISTORY items and their weights, country, length."""

    def __init__(self, now: float):
        self.now = now

    def of(self, row: dict[str, list]) -> dict[str, np.ndarray]:
        ids = (row["item_ids"][0] or [])[:HISTORY]
        times = np.array((row["event_times"][0] or [])[:HISTORY], dtype=np.float64)
        weights = np.zeros((1, HISTORY), np.float32)
        if len(ids):
            decay = 0.5 ** ((self.now - times) / 86_400 / HALF_LIFE_DAYS)
            weights[0, : len(ids)] = decay / decay.sum()
        history = np.full((1, HISTORY), "", dtype=object)
        history[0, : len(ids)] = ids
        return {
            "history": tf.constant(history, dtype=tf.string),
            "weights": tf.constant(weights),
            "country": tf.constant([row["country"][0] or ""], dtype=tf.string),
            "log_count": tf.constant([np.log1p(len(ids))], dtype=tf.float32),
        }


def model_of(items: list[str], countries: list[str]) -> tf.keras.Model:
    """Queries to (scores, ids) of the K best."""
    tower = QueryTower(items, countries or ["none"], SIZE)
    vectors = tf.math.l2_normalize(tf.random.stateless_normal((len(items), SIZE), seed=(7, 7)), axis=1)
    index = tfrs.layers.factorized_top_k.BruteForce(tower, k=K)
    index.index(vectors, tf.constant(items))
    return index


def create_app() -> FastAPI:
    settings = settings_module.load()
    released = release.current()
    assert released is not None
    items = pd.read_parquet(Path(released.path) / "items.parquet", columns=["item_id"])["item_id"].tolist()
    store = features.store(settings)
    service = store.get_feature_service(SERVICE)
    inputs = Inputs(pd.Timestamp(released.as_of).timestamp())
    model = model_of(items, ["United Kingdom", "Germany", "France", "EIRE", "Spain"])
    app = FastAPI()

    @app.get("/recommendations")
    def recommendations(user_id: str) -> dict:
        row = store.get_online_features(features=service, entity_rows=[{"user_id": user_id}]).to_dict()
        scores, ids = model.predict(inputs.of(row), verbose=0)
        return {
            "items": [
                {"item_id": item.decode(), "score": float(score)}
                for item, score in zip(ids[0], scores[0], strict=True)
            ]
        }

    recommendations("warm up: no such user")
    return app


def main() -> None:
    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
