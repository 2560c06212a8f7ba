"""What a search may ask, and what its answer looks like. The filters are the rules and parameters of every other list."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from aisle.settings import Settings
from serving.asking import Ask
from serving.schemas import Finite, Reason, Rung

Matching = Literal["all", "some", "none", "browse"]

EXAMPLES: dict[str, dict[str, Any]] = {
    "text": {
        "summary": "A text, misspelt; for a known customer",
        "value": {"q": "toadstol nite light", "user_id": "12347", "k": 10},
    },
    "typing": {
        "summary": "While somebody types: the last word is not whole yet",
        "value": {"q": "red retro", "typing": True, "session_id": "s-81c2", "k": 5},
    },
    "filters": {
        "summary": "Under rules, the language of all lists",
        "value": {
            "q": "lunch bag",
            "rules": {
                "in_stock": True,
                "price": {"max": 5},
                "brands": {"exclude": ["Own"]},
                "caps": {"category": 4},
            },
        },
    },
    "browse": {
        "summary": "No text: a category by what this visitor may like",
        "value": {"category": "LIGHT", "session_id": "s-81c2", "k": 20},
    },
    "page": {
        "summary": "The second page of an answer",
        "value": {"q": "lunch bag", "request_id": "5f0c9a7e4a3d4b0e9d2f6a1b8c7d6e5f", "page": 2},
    },
}
ANSWER = {
    "request_id": "5f0c9a7e4a3d4b0e9d2f6a1b8c7d6e5f",
    "model_version": "4",
    "variant": "",
    "rules_version": 3,
    "rung": "personalised",
    "degraded": [],
    "query": "toadstol night light",
    "corrected": "toadstool night light",
    "suggestion": None,
    "matching": "all",
    "words": [
        {"word": "toadstol", "taken_for": ["toadstool", "toadstools"], "how": "corrected", "edits": 1},
        {"word": "night", "taken_for": ["night"], "how": "exact", "edits": 0},
        {"word": "light", "taken_for": ["light", "lights"], "how": "exact", "edits": 0},
    ],
    "total": 1,
    "total_unfiltered": 1,
    "note": None,
    "page": 1,
    "next_page": None,
    "facets": {
        "categories": [{"value": "LIGHT", "count": 1}],
        "brands": [],
        "prices": [{"min": None, "max": None, "count": 1}],
        "without_price": 0,
    },
    "items": [
        {
            "item_id": "21731",
            "title": "RED TOADSTOOL LED NIGHT LIGHT",
            "price": 1.65,
            "position": 1,
            "score": 0.8912,
            "text": {"fit": 0.8741, "share": 0.6556},
            "preference": {"place": 3, "fit": 0.9424, "share": 0.2356},
            "matched": [{"word": "toadstol", "as": "toadstool", "how": "corrected", "in": "title"}],
            "pinned": False,
            "reason": None,
        }
    ],
}


@dataclass(frozen=True)
class Searched:
    """One search, however it came. ask: who asks, under which rules, which page. typing: the last word may be unfinished."""

    ask: Ask
    query: str = ""
    typing: bool = False


def tidied(text: str) -> str:
    """Without control characters and half surrogates, and with single spaces; a space at the end says that a word is whole.

    >>> tidied("  red\\x00 mug ")
    'red mug '
    """
    plain = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(plain.split()) + (" " if plain.strip() and plain[-1] == " " else "")


def bodies(settings: Settings, asked: SimpleNamespace) -> SimpleNamespace:
    """SearchQuestion and SearchParameters under the settings' limits. asked: the models of the other lists."""
    most = settings.search.max_query
    Query = Annotated[
        str,
        Field(
            max_length=most,
            description=f"What is searched for, at most {most} characters; empty: all that the filters let through, by preference.",
            examples=["toadstol night light"],
        ),
        AfterValidator(tidied),
    ]
    Typing = Annotated[
        bool,
        Field(description="The last word may be unfinished: items with what it begins are found as well."),
    ]

    Explained = Annotated[bool, Field(description="Adds to each item why the shopper may like it.")]

    class SearchQuestion(asked.ListQuestion):
        q: Query = ""
        typing: Typing = False
        explain: Explained = False

        def searched(self) -> Searched:
            return Searched(self._ask("search", rules=self.rules), self.q, self.typing)

    class SearchParameters(asked.ListParameters):
        q: Query = ""
        typing: Typing = False
        explain: Explained = False

        def searched(self) -> Searched:
            return Searched(self._ask("search", rules=self.ruled()), self.q, self.typing)

    return SimpleNamespace(SearchQuestion=SearchQuestion, SearchParameters=SearchParameters)


class WordTold(BaseModel):
    word: str
    taken_for: list[str] = Field(
        description="What it stands for, the likeliest first; empty: nothing is like it."
    )
    how: str = Field(
        description="Of the likeliest: exact, form (another form of the word), begins, split, joined, corrected; empty."
    )
    edits: int = Field(0, description="Letters changed, missing, too many or swapped.")


class Counted(BaseModel):
    value: str
    count: int


class PriceCounted(BaseModel):
    min: Finite = Field(None, description="As `rules.price` takes it; both ends included, null: open.")
    max: Finite = None
    count: int


class Facets(BaseModel):
    categories: list[Counted] = Field(description="Of every level of the items' paths, the commonest first.")
    brands: list[Counted]
    prices: list[PriceCounted] = Field(description="Rising; with `without_price` they add up to `total`.")
    without_price: int


class HitTold(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    word: str
    matched: str = Field(alias="as")
    how: str
    where: Literal["title", "item_id", "brand", "categories"] = Field(alias="in")


class TextShare(BaseModel):
    fit: float = Field(description="How well the text fits, 0 to 1.")
    share: float = Field(description="What of the score that is.")


class PreferenceShare(BaseModel):
    place: int = Field(
        description="The item's place, from 1 on, among all items by what this shopper may like."
    )
    fit: float = Field(description="1 - ln(place) / ln(items).")
    share: float = Field(description="What of the score that is.")


class SearchItem(BaseModel):
    item_id: str
    title: str
    price: Finite = None
    position: int
    score: float = Field(
        description="The sum of both shares, but for boosts; comparable within one answer only."
    )
    text: TextShare | None = Field(description="None where there was no text.")
    preference: PreferenceShare
    matched: list[HitTold] = Field(description="By which words it was found, and where.")
    pinned: bool = False
    reason: Reason | None = Field(None, description="With `explain`: why the shopper may like it.")


class SearchAnswer(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), json_schema_extra={"example": ANSWER})
    request_id: str = Field(description="Send it along with impressions and clicks, and to turn the page.")
    model_version: str
    variant: str = ""
    rules_version: int = 0
    rung: Rung = Field(description="What the preference went by.")
    degraded: list[str] = []
    query: str
    corrected: str | None = Field(
        None, description="The query as it was understood, where that is another one."
    )
    suggestion: str | None = Field(None, description="Where nothing was found: what may have been meant.")
    matching: Matching = Field(
        description="all: the items have every word. some: no item has, or a word means nothing here. none: nothing was found. "
        "browse: there was no text."
    )
    words: list[WordTold]
    total: int = Field(description="Items that were found and that the filters let through.")
    total_unfiltered: int = Field(description="Items that were found, whatever the filters.")
    note: str | None = Field(None, description="Where there is no item: why, and what to do.")
    page: int = 1
    next_page: int | None = None
    facets: Facets = Field(description="Counts over all items of `total`, not of the page.")
    items: list[SearchItem]
