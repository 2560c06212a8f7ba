"""Column names, said once. A stage that needs a name imports it from here."""

from __future__ import annotations

from typing import Final

EVENT_ID: Final = "event_id"
EVENT_TYPE: Final = "event_type"
EVENT_TIME: Final = "event_time"
USER_ID: Final = "user_id"
SESSION_ID: Final = "session_id"
ITEM_ID: Final = "item_id"
ORDER_ID: Final = "order_id"
QUANTITY: Final = "quantity"
PRICE: Final = "price"
VALUE: Final = "value"
QUERY: Final = "query"
REQUEST_ID: Final = "request_id"
POSITION: Final = "position"
SOURCE: Final = "source"
PROPERTIES: Final = "properties"

TITLE: Final = "title"
DESCRIPTION: Final = "description"
CATEGORIES: Final = "categories"
BRAND: Final = "brand"
COUNTRY: Final = "country"
UPDATED_AT: Final = "updated_at"

BATCH_ID: Final = "batch_id"
ROW_NUMBER: Final = "row_number"
INGESTED_AT: Final = "ingested_at"
SET_ASIDE: Final = "set_aside_reason"
REASONS: Final = "reasons"
EVENT_MONTH: Final = "event_month"
AS_OF: Final = "as_of"

UNDO: Final = "undo"  # takes back what its user said of an item before: like, dislike, hide
RATING: Final = "rating"  # the newest one of a user for an item counts
# What a rating is in histories by its value (aisle.ratings), a good one stays RATING. Nobody sends these two.
FAIR_RATING: Final = "fair_rating"
LOW_RATING: Final = "low_rating"
RATINGS: Final = (RATING, FAIR_RATING, LOW_RATING)
UNRATE: Final = "unrate"  # takes back its user's ratings of an item
TAKES_BACK: Final = {UNDO: ("like", "dislike", "hide"), UNRATE: RATINGS}
EVENT_TYPES: Final = (
    "view",
    "cart",
    "purchase",
    "return",
    RATING,
    "like",
    "dislike",
    "hide",
    "search",
    "impression",
    "click",
    UNDO,
    UNRATE,
)
HISTORY_TYPES: Final = (*EVENT_TYPES, FAIR_RATING, LOW_RATING)  # what an event may be in a history

KINDS: Final = ("events", "items", "users")
