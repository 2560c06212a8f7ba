"""Feature services: what a model names as its input. A published service is not changed; a new one takes its place."""

from feast import FeatureService

from feature_repo.entities import OWNER
from feature_repo.views import co_visits, item_stats, item_text, user_history, user_stats

retrieval_v1 = FeatureService(
    name="retrieval_v1",
    features=[user_history, user_stats[["country", "n_events", "n_orders", "days_since_last"]]],
    description="Who asks: history and country of a user, for candidate sources and slices.",
    tags={"entity": "user", "stage": "retrieval"},
    owner=OWNER,
)
item_v1 = FeatureService(
    name="item_v1",
    features=[
        item_text,
        item_stats[["n_buyers", "n_buyers_30d", "n_orders", "n_orders_30d", "n_returns", "days_since_first"]],
    ],
    description="What can be recommended: text, price and popularity of an item, for item towers and popularity.",
    tags={"entity": "item", "stage": "retrieval"},
    owner=OWNER,
)
ranking_v1 = FeatureService(
    name="ranking_v1",
    features=[user_stats, item_stats, item_text],
    description="User and item side by side, for a ranker. Names repeat between views: ask for full feature names.",
    tags={"entity": "user, item", "stage": "ranking"},
    owner=OWNER,
)
related_v1 = FeatureService(
    name="related_v1",
    features=[co_visits],
    description="Bought together, as of the newest day only.",
    tags={"entity": "item", "stage": "catalogue"},
    owner=OWNER,
)

SERVICES = [retrieval_v1, item_v1, ranking_v1, related_v1]
