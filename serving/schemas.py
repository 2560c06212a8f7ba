"""Questions and answers of the API, version 1. Borders are checked here, and every fault is listed."""

import math
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from aisle.settings import Settings
from serving import examples

Rung = Literal["personalised", "session", "related", "trending", "segment", "popular", "curated"]

ITEM_EXAMPLE = {
    "item_id": "21731",
    "title": "RED TOADSTOOL LED NIGHT LIGHT",
    "price": 1.65,
    "score": 33.599651,
    "reason": {
        "source": "personal",
        "evidence": {"event_type": "purchase", "times": 5, "days_ago": 2.3},
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
    if not text.isprintable():  # which refuses more than is refused here: odd spaces, private characters
        wrong = sorted({f"U+{ord(char):04X}" for char in text if unicodedata.category(char) in ("Cc", "Cs")})
        if wrong:
            raise ValueError(
                f"has control characters ({', '.join(wrong)}); leave them out: this is printable text"
            )
    if not text.strip():
        raise ValueError("is blank; leave it out, or give it at least one letter or digit")
    return text


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoQuestion(_Question):
    """A path that takes no parameter: one that is given all the same is a mistake, and told."""


def questions(settings: Settings) -> tuple[Any, Any, Any]:
    """(an id, a number of items, no parameter) as types that carry the settings' limits."""
    longest, most = settings.ingest.max_id_length, settings.serving.max_k
    Id = Annotated[str, Field(max_length=longest), AfterValidator(printable)]
    Count = Annotated[int, Field(ge=1, le=most, description=f"How many, 1 to {most}.")]
    return Id, Count, NoQuestion


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
    position: int = Field(default=1, description="From 1 on, over all pages.")
    score: float = Field(description="Higher is better; comparable within one answer only.")
    reason: Reason
    pinned: bool = Field(default=False, description="A rule put it here.")


LIST_EXAMPLE = {
    "request_id": "5f0c9a7e4a3d4b0e9d2f6a1b8c7d6e5f",
    "model_version": "4",
    "variant": "",
    "rules_version": 3,
    "rung": "personalised",
    "degraded": [],
    "page": 1,
    "next_page": 2,
    "items": [ITEM_EXAMPLE],
}


class Recommendations(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), json_schema_extra={"example": LIST_EXAMPLE})

    request_id: str = Field(description="Send it along with impressions and clicks, and to turn the page.")
    model_version: str
    variant: str = Field(
        "", description="Which of two releases side by side answered; empty where there is one."
    )
    rules_version: int = Field(0, description="Of the shop's rules that held; 0 before the first.")
    rung: Rung = Field(
        description="What the answer went by: the user's history, the session, the item or basket, what is on the rise, "
        "their country, everybody's purchases, the shop's own list."
    )
    degraded: list[str] = Field(
        [], description="Why the answer has less than it should have; empty where it has all."
    )
    page: int = 1
    next_page: int | None = Field(None, description="None where nothing is left.")
    items: list[RecommendedItem]


class Batched(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"answers": [LIST_EXAMPLE], "users": ["12347"]}})

    answers: list[Recommendations] = Field(
        description="One a user, in the order of `users`, each named once."
    )
    users: list[str]


class Item(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": examples.ITEM})

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
    model_config = ConfigDict(json_schema_extra={"example": examples.HISTORY})

    user_id: str
    country: str | None
    events: list[HistoryEvent] = Field(description="Newest first.")


class Readiness(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": examples.READY})

    status: Literal["ready", "starting", "no_release"]
    version: str | None = None
    digest: str | None = None
    released_at: str | None = None
    features: str = Field(
        description="The online store: opening, open or down. Down, answers are popular items."
    )
    fault: dict | None = Field(None, description="Why a newer release than `version` is not served.")
    beside: dict | None = Field(
        None, description="The release beside it: version, share, at, and a fault where it answers nobody."
    )


class Problem(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(json_schema_extra={"example": examples.PROBLEM})

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict] | None = None
