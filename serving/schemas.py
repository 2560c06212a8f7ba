"""Questions and answers of the API, version 1. Borders are checked here, and every fault is listed."""

import math
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from aisle.settings import Settings

Rung = Literal["personalised", "popular_country", "popular"]

ITEM_EXAMPLE = {
    "item_id": "21731",
    "title": "RED TOADSTOOL LED NIGHT LIGHT",
    "price": 1.65,
    "score": 33.599651,
    "reason": {
        "source": "personal",
        "evidence": {"times": 5, "days_ago": 2.3},
        "parts": {
            "popularity": 6.2733,
            "personal": 14.5319,
            "linear": 6.262,
            "two_tower": 1.0324,
            "again": 5.5,
        },
        "text": "You bought it 5 times, last 2 days ago",
    },
}


def printable(text: str) -> str:
    """Refuses what no id has: control characters, NUL among them, and half surrogates.

    >>> printable("naïve-42")
    'naïve-42'
    """
    wrong = sorted({f"U+{ord(char):04X}" for char in text if unicodedata.category(char) in ("Cc", "Cs")})
    if wrong:
        raise ValueError(f"has control characters ({', '.join(wrong)}); an id is printable text")
    if not text.strip():
        raise ValueError("is blank; leave it out or name an id")
    return text


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoQuestion(_Question):
    """A path that takes no parameter: one that is given all the same is a mistake, and told."""


def questions(settings: Settings) -> tuple[Any, Any, Any]:
    """(an id, a number of items, the recommendation question) as types that carry the settings' limits."""
    longest, most, usual = settings.ingest.max_id_length, settings.serving.max_k, settings.serving.k
    Id = Annotated[str, Field(max_length=longest), AfterValidator(printable)]
    Count = Annotated[int, Field(ge=1, le=most, description=f"How many, 1 to {most}.")]

    class RecommendationQuestion(_Question):
        user_id: Id | None = Field(
            None, description="Who is shopping; an unknown id gets what is popular.", examples=["12347"]
        )
        session_id: Id | None = Field(
            None, description="An anonymous visitor's session; accepted, and without effect yet."
        )
        country: Id | None = Field(
            None,
            description="Where an unknown user is; a known user's own country counts.",
            examples=["Germany"],
        )
        k: Count = usual

    class CountQuestion(_Question):
        k: Count = usual

    return Id, CountQuestion, RecommendationQuestion


class Reason(BaseModel):
    source: str = Field(description="The candidate source that brought the item most of its score.")
    evidence: Any = Field(None, description="What the source went by, such as items of the user's history.")
    parts: dict[str, float] = Field({}, description="What each source added to the score.")
    text: str = Field(description="The reason in words.")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


Finite = Annotated[float | None, AfterValidator(_finite)]


class RecommendedItem(BaseModel):
    item_id: str
    title: str
    price: Finite = Field(None, description="As of the model's data, in the shop's currency.")
    score: float = Field(description="Higher is better; comparable within one answer only.")
    reason: Reason


class Recommendations(BaseModel):
    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "example": {
                "request_id": "5f0c9a7e4a3d4b0e9d2f6a1b8c7d6e5f",
                "model_version": "4",
                "rung": "personalised",
                "items": [ITEM_EXAMPLE],
            }
        },
    )
    request_id: str
    model_version: str
    rung: Rung = Field(
        description="What the answer went by: the user's history, their country, or everybody's purchases."
    )
    items: list[RecommendedItem]


class SimilarItems(BaseModel):
    model_config = ConfigDict(protected_namespaces=())
    request_id: str
    model_version: str
    item_id: str
    items: list[RecommendedItem]


class Item(BaseModel):
    item_id: str
    title: str
    price: Finite = None
    categories: list[str] = []


class HistoryEvent(BaseModel):
    item_id: str
    title: str | None = Field(description="None where the released model does not know the item.")
    event_type: str
    event_time: str = Field(description="UTC, ISO 8601.")
    quantity: float | None = None


class History(BaseModel):
    user_id: str
    country: str | None
    events: list[HistoryEvent] = Field(description="Newest first.")


class Readiness(BaseModel):
    status: Literal["ready", "starting", "no_release"]
    version: str | None = None
    digest: str | None = None
    released_at: str | None = None
    features: str = Field(
        description="The online store: opening, open or down. Down, answers are popular items."
    )
    fault: dict | None = Field(None, description="Why a newer release than `version` is not served.")


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict] | None = None
