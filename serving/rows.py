"""Rows as they may come in: events, items, users, stock. One model a kind, which a row is judged by and OpenAPI told of.

The limits are those of the row rules of `ingest` (jobs/rules.py), so that what is accepted here is not quarantined there.
What is kept is text by column of `bronze.<kind>`, as any other landed row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model

from aisle.columns import EVENT_TYPES
from aisle.settings import Settings
from serving.merge_patch import OF_A_REVIEW, changes
from serving.row import Row
from serving.schemas import printable

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # as jobs/rules.py: before it no clock was set
TEXT = 1_000  # characters of a field
LONG_TEXT = 20_000  # of a description or a review
ENTRIES = 50  # of a list or an object
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(T| )\d{2}:\d{2}")
LARGEST = 2**31 - 1  # Spark's int
LEAST = 0.005  # of a price: less is 0.00 in silver's decimals


def clean(text: str) -> str:
    """Refuses NUL, which no later step survives; other control characters are a text's own affair."""
    if "\0" in text:
        raise ValueError("has a NUL character; leave it out")
    return text


def iso(moment: Any) -> Any:
    """Only ISO texts are times: of a number nobody can say whether it is seconds or milliseconds."""
    if not isinstance(moment, str) or not MOMENT.match(moment):
        raise ValueError("is no ISO 8601 time such as 2026-11-25T08:30:00Z")
    return moment


def utc(moment: datetime) -> datetime:
    """In UTC; a time without a zone is taken for one."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999") from None


@dataclass(frozen=True)
class Models:
    """One model a kind of row, with the settings' limits. whole, patch, pieces, profile, opinion, revision: without ids that the
    path has."""

    event: type[Row]
    item: type[Row]
    whole: type[Row]
    patch: type[Row]
    stock: type[Row]
    pieces: type[Row]
    user: type[Row]
    profile: type[Row]
    review: type[Row]
    opinion: type[Row]
    revision: type[Row]
    preference: type[Row]


def models(settings: Settings) -> Models:
    limits = settings.ingest
    ahead = timedelta(hours=limits.future_tolerance_hours)
    low, high = limits.min_rating, limits.max_rating

    def plausible(moment: datetime) -> datetime:
        if moment < EARLIEST:
            raise ValueError(f"lies before {EARLIEST:%Y-%m-%d}: the sender's clock was never set")
        if moment > datetime.now(UTC) + ahead:
            raise ValueError(
                f"lies more than {limits.future_tolerance_hours:g} h in the future (ingest.future_tolerance_hours)"
            )
        return moment

    Id = Annotated[str, Field(min_length=1, max_length=limits.max_id_length), AfterValidator(printable)]
    Text = Annotated[str, Field(max_length=TEXT), AfterValidator(clean)]
    Words = Annotated[str, Field(max_length=TEXT), AfterValidator(printable)]
    Long = Annotated[str, Field(max_length=LONG_TEXT), AfterValidator(clean)]
    Moment = Annotated[datetime, Field(strict=False), BeforeValidator(iso), AfterValidator(utc)]
    Past = Annotated[Moment, AfterValidator(plausible)]
    Texts = Annotated[list[Words], Field(max_length=ENTRIES)]
    Map = Annotated[
        dict[Annotated[str, Field(max_length=100), AfterValidator(clean)], Text], Field(max_length=ENTRIES)
    ]
    Price = Annotated[float, Field(ge=0, le=limits.max_price)]
    Pieces = Annotated[int, Field(ge=0, le=LARGEST)]

    class Event(Row):
        """One thing that happened."""

        event_id: Id | None = Field(
            None,
            description="Yours, so that a repetition counts once; without one it is a digest of the row.",
            examples=["e-20261125-1"],
        )
        event_type: Literal[EVENT_TYPES] = Field(examples=["view"])
        event_time: Past | None = Field(
            None,
            description="ISO 8601, UTC where it has no zone; without one it is now.",
            examples=["2026-11-25T08:30:00Z"],
        )
        user_id: Id | None = Field(None, examples=["12347"])
        session_id: Id | None = Field(
            None, description="One of user_id and session_id is needed.", examples=["s-81f3"]
        )
        item_id: Id | None = Field(None, description="Needed but for a search.", examples=["22423"])
        order_id: Id | None = None
        quantity: Annotated[float, Field(gt=0, le=limits.max_quantity)] | None = None
        price: Price | None = Field(None, description="Per unit.")
        value: float | None = Field(None, description=f"Of a rating: from {low:g} to {high:g}.")
        query: Text | None = Field(None, description="Of a search.")
        request_id: Id | None = Field(None, description="Of the answer in which the item was shown.")
        position: Pieces | None = Field(None, description="As that answer says: from 1 on.", examples=[1])
        source: Text | None = None
        properties: Map | None = None

        @classmethod
        def lacking(cls, row: dict[str, Any]) -> list[tuple[str, str]]:
            kind, wrong = row.get("event_type"), []
            if row.get("user_id") is None and row.get("session_id") is None:
                wrong.append(("user_id", "neither user_id nor session_id"))
            if row.get("item_id") is None and kind != "search":
                wrong.append(("item_id", "no item_id"))
            value = row.get("value")
            if value is None and kind == "rating":
                wrong.append(("value", "rating without value"))
            elif kind == "rating" and isinstance(value, (int, float)) and not low <= value <= high:
                wrong.append(
                    (
                        "value",
                        f"lies beyond the ratings' scale, {low:g} to {high:g} (ingest.min_rating, max_rating)",
                    )
                )
            price = row.get("price")
            if isinstance(price, (int, float)) and 0 <= price < LEAST and kind in ("purchase", "return"):
                wrong.append(("price", "price of a purchase is zero; leave it out where it is unknown"))
            return wrong

    facts: dict[str, tuple[Any, dict[str, Any]]] = {
        "description": (Long, {}),
        "categories": (
            Texts,
            {"description": "A path, the broadest first.", "examples": [["Home", "Lights"]]},
        ),
        "brand": (Text, {}),
        "price": (Annotated[float, Field(ge=LEAST, le=limits.max_price)], {"examples": [12.5]}),
        "currency": (Annotated[str, Field(pattern="^[A-Z]{3}$")], {"examples": ["GBP"]}),
        "image_url": (Annotated[str, Field(max_length=2_000, pattern="^(https?://|/)")], {}),
        "tags": (Texts, {}),
        "attributes": (Map, {}),
        "stock": (Pieces, {"description": "Pieces there are; 0: none to sell.", "examples": [40]}),
        "released_at": (Moment, {}),
    }
    of_users: dict[str, tuple[Any, dict[str, Any]]] = {
        "country": (Words, {"examples": ["Germany"]}),
        "language": (Words, {"examples": ["de"]}),
        "attributes": (Map, {}),
        "consent": (bool, {"description": "false: nothing this user did bears on an answer."}),
    }
    told, told_of_users = (
        {name: (kind | None, Field(None, **more)) for name, (kind, more) in fields.items()}
        for fields in (facts, of_users)
    )
    patch = changes("ItemPatch", "What changes of an item; the rest stays.", {"title": (Words, {}), **facts})
    titled = {"title": (Words, Field(examples=["Toadstool night light"]))}
    whole = create_model("ItemWhole", __base__=Row, __doc__="An item.", **titled, **told)
    item = create_model(
        "ItemRow", __base__=whole, __doc__="An item.", item_id=(Id, Field(examples=["22423"]))
    )
    pieces = create_model(
        "Pieces", __base__=Row, __doc__="Pieces there are of an item.", stock=(Pieces, Field(examples=[40]))
    )
    stock = create_model(
        "StockRow",
        __base__=pieces,
        __doc__="Pieces there are of an item.",
        item_id=(Id, Field(examples=["22423"])),
    )
    profile = changes("Profile", "What changes of a user; the rest stays.", of_users)
    user = create_model(
        "UserRow",
        __base__=Row,
        __doc__="A user.",
        **told_of_users,
        user_id=(Id, Field(examples=["12347"])),
    )

    Stars = Annotated[float, Field(ge=low, le=high)]
    stars: dict[str, Any] = {
        "description": "On the scale ingest.min_rating to max_rating.",
        "examples": [high],
    }
    liked: dict[str, Any] = {"examples": ["Bright, and the children love it."]}

    class Opinion(Row):
        """What a user thinks of an item: kept as an event of type rating, the words in its properties."""

        event_id: Id | None = None
        value: Stars = Field(**stars)
        title: Text | None = None
        text: Long | None = Field(None, **liked)
        event_time: Past | None = None

    class Review(Opinion):
        """What a user thinks of an item: kept as an event of type rating, the words in its properties."""

        user_id: Id = Field(examples=["12347"])

    revision = changes(
        "ReviewPatch",
        "What changes of a review; the rest stays.",
        {"value": (Stars, stars), "title": (Text, {}), "text": (Long, liked)},
        OF_A_REVIEW,
    )

    class Preference(Row):
        """What a user says of an item."""

        event_id: Id | None = None
        item_id: Id = Field(examples=["22423"])
        preference: Literal["like", "dislike", "hide", "undo"] = Field(
            description="hide: never show it again. undo: takes back what was said of this item.",
            examples=["hide"],
        )
        session_id: Id | None = None

    return Models(
        Event, item, whole, patch, stock, pieces, user, profile, Review, Opinion, revision, Preference
    )
