"""Feature services: what a model names as its input. A published service is not changed; a new one takes its place."""

from __future__ import annotations

from feast import FeatureService, FeatureView

from feature_repo.entities import OWNER

ITEM_COUNTS = ["n_buyers", "n_buyers_30d", "n_orders", "n_orders_30d", "n_returns", "days_since_first"]


def services(views: dict[str, FeatureView]) -> list[FeatureService]:
    """Every service over `views` (by name)."""
    return [
        FeatureService(
            name="retrieval_v1",
            features=[
                views["user_history"],
                views["user_stats"][["country", "n_events", "n_orders", "days_since_last"]],
            ],
            description="Who asks: history and country of a user, for candidate sources and slices.",
            tags={"entity": "user", "stage": "retrieval"},
            owner=OWNER,
        ),
        FeatureService(
            name="item_v1",
            features=[views["item_text"], views["item_stats"][ITEM_COUNTS]],
            description="What can be recommended: text, price and popularity of an item.",
            tags={"entity": "item", "stage": "retrieval"},
            owner=OWNER,
        ),
        FeatureService(
            name="ranking_v1",
            features=[
                views["user_stats"][
                    ["n_events", "n_orders", "n_items", "spend", "days_since_last", "mean_price"]
                ],
                views["item_stats"][["n_buyers", "n_buyers_30d", "n_orders_30d", "n_returns"]],
                views["item_text"][["categories", "brand", "price"]],
            ],
            description="What a ranker reads of a user and an item side by side.",
            tags={"entity": "user, item", "stage": "ranking"},
            owner=OWNER,
        ),
        FeatureService(
            name="related_v1",
            features=[views["co_visits"]],
            description="Bought together, at the newest as_of of each run of `features`.",
            tags={"entity": "item", "stage": "catalogue"},
            owner=OWNER,
        ),
    ]
