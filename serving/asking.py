"""What may be asked for: the bodies and parameters of the reading routes, and the one form that all of them become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aisle.settings import Settings
from engine.rules import Chosen, PriceRange, Rules
from serving import proof
from serving.schemas import questions

Kind = Literal["recommendations", "similar", "together", "popular", "trending"]
NO_RULES = Rules()

EXAMPLES: dict[str, dict[str, Any]] = {
    "user": {
        "summary": "A known customer, in stock and not bought in the last month",
        "value": {
            "user_id": "12347",
            "k": 10,
            "rules": {"in_stock": True, "already": {"event_types": ["purchase"], "days": 30}},
        },
    },
    "session": {
        "summary": "An anonymous visitor, by what they did in this session",
        "value": {"session_id": "s-81c2", "country": "Germany", "k": 10, "placement": "home"},
    },
    "item": {
        "summary": "On the page of an item",
        "value": {"item_id": "22423", "k": 6, "rules": {"price": {"max": 20}, "caps": {"brand": 2}}},
    },
    "basket": {"summary": "Beside a basket", "value": {"basket": ["22423", "21731"], "k": 4}},
    "category": {
        "summary": "A category page, with a pinned and a boosted item",
        "value": {
            "user_id": "12347",
            "category": "lights",
            "rules": {
                "pins": [{"item_id": "21731", "position": 1}],
                "boosts": [{"column": "brand", "value": "Own", "times": 1.5}],
            },
        },
    },
    "page": {
        "summary": "The second page of an answer",
        "value": {"user_id": "12347", "request_id": "5f0c9a7e4a3d4b0e9d2f6a1b8c7d6e5f", "page": 2},
    },
}


@dataclass(frozen=True)
class Ask:
    """One question, however it came. Hashable: what is asked is part of a cached answer's key.

    page: from 1 on; beyond the first it goes on with the answer `request_id`. exact: reasons by TreeSHAP.

    Raises NoProof where the request that is being answered may not ask for this user.
    """

    kind: Kind = "recommendations"
    k: int = 10
    user_id: str | None = None
    session_id: str | None = None
    country: str | None = None
    item_id: str | None = None
    basket: tuple[str, ...] = ()
    category: str | None = None
    placement: str | None = None
    rules: Rules = NO_RULES
    page: int = 1
    request_id: str | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        proof.require(self.user_id)

    def __hash__(self) -> int:
        """Worked out once: a question is looked for, and kept, under itself."""
        found = self.__dict__.get("_hash")
        if found is None:
            found = hash(tuple(self.__dict__.values()))
            object.__setattr__(self, "_hash", found)
        return found

    @property
    def asker(self) -> tuple:
        """What must be the same on every page of an answer."""
        return self.kind, self.user_id, self.session_id

    @property
    def subjects(self) -> tuple[str, ...]:
        """The items that the question is about; they are no answer to it."""
        return (*self.basket, *((self.item_id,) if self.item_id else ()))

    def of_user(self, user_id: str) -> Ask:
        return replace(self, user_id=user_id)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def bodies(settings: Settings) -> SimpleNamespace:
    """The request models under the settings' limits, by name; each has `ask()`."""
    Id: Any = questions(settings)[0]
    answers, most = settings.answers, settings.serving.max_k
    Count: Any = Annotated[int, Field(ge=1, le=most, description=f"How many, 1 to {most}.")]
    Page = Annotated[
        int, Field(ge=1, le=answers.max_pages, description="From 1 on; further ones need `request_id`.")
    ]
    Who = Annotated[
        Id | None,
        Field(description="Who is shopping; an unknown id goes by session and country.", examples=["12347"]),
    ]
    Session = Annotated[
        Id | None, Field(description="A visitor's session: its events count at once, known user or not.")
    ]
    Country = Annotated[
        Id | None,
        Field(
            description="Where an unknown user is; a known user's own country counts.", examples=["Germany"]
        ),
    ]
    Placement = Annotated[
        Id | None,
        Field(description="Where on the page the list stands: its rules hold, and the log says so."),
    ]
    Category = Annotated[
        Id | None, Field(description="Only items of this category, at any level of their path.")
    ]
    Answer = Annotated[Id | None, Field(description="The answer that a further page goes on with.")]
    Exact = Annotated[
        bool, Field(description="Parts of reasons by TreeSHAP instead of along the trees' paths; slower.")
    ]
    usual = settings.serving.k

    class Shared(_Body):
        k: Count = usual
        user_id: Who = None
        session_id: Session = None
        country: Country = None
        category: Category = None
        placement: Placement = None
        page: Page = 1
        request_id: Answer = None
        explain: Exact = False

        @model_validator(mode="after")
        def _pages(self) -> Self:
            if self.page > 1 and self.request_id is None:
                raise ValueError(f"page {self.page} needs the request_id of the answer that it goes on with")
            return self

        def _ask(self, kind: Kind, **more: Any) -> Ask:
            own = {name: getattr(self, name) for name in names}
            return Ask(kind=kind, **own, exact=self.explain, **more)

    names = tuple(name for name in Shared.model_fields if name != "explain")

    class Ruled(Shared):
        rules: Rules = Field(
            default=NO_RULES, description="Beside the shop's own rules: an item must pass them all."
        )

    class RecommendationQuestion(Ruled):
        item_id: Id | None = Field(default=None, description="What goes with the item whose page it is.")
        basket: tuple[Id, ...] = Field(default=(), max_length=100, description="What goes with all of these.")

        @model_validator(mode="after")
        def _one_subject(self) -> Self:
            if self.item_id is not None and self.basket:
                raise ValueError("give item_id or basket, not both")
            return self

        def ask(self, kind: Kind = "recommendations") -> Ask:
            return self._ask(kind, item_id=self.item_id, basket=self.basket, rules=self.rules)

    class RelatedQuestion(RecommendationQuestion):
        @model_validator(mode="after")
        def _a_subject(self) -> Self:
            if self.item_id is None and not self.basket:
                raise ValueError("needs item_id or basket: what should the items go with?")
            return self

    class SimilarQuestion(Ruled):
        item_id: Id

        def ask(self, kind: Kind = "similar") -> Ask:
            return self._ask(kind, item_id=self.item_id, rules=self.rules)

    class ListQuestion(Ruled):
        def ask(self, kind: Kind) -> Ask:
            return self._ask(kind, rules=self.rules)

    class ListParameters(Shared):
        """The parameters of a GET: those of POST that fit one line."""

        in_stock: bool = Field(default=False, description="Leaves out what is out of stock.")
        min_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
        max_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
        brand: list[Id] = Field(default=[], max_length=100, description="Only these brands; may be repeated.")
        exclude: list[Id] = Field(
            default=[], max_length=1000, description="Item ids not to show; may be repeated."
        )

        @model_validator(mode="after")
        def _prices(self) -> Self:
            if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
                raise ValueError(f"min_price {self.min_price} is above max_price {self.max_price}")
            return self

        def ruled(self) -> Rules:
            if not (
                self.in_stock or self.brand or self.exclude or self.min_price or self.max_price is not None
            ):
                return NO_RULES
            some = self.min_price is not None or self.max_price is not None
            return Rules(
                in_stock=self.in_stock,
                price=PriceRange(min=self.min_price, max=self.max_price) if some else None,
                brands=Chosen(include=tuple(self.brand)),
                exclude=tuple(self.exclude),
            )

        def ask(self, kind: Kind, item_id: str | None = None) -> Ask:
            return self._ask(kind, item_id=item_id, rules=self.ruled())

    class RecommendationParameters(ListParameters):
        item_id: Id | None = Field(default=None, description="What goes with this item.")
        basket: list[Id] = Field(
            default=[], max_length=100, description="What goes with these; may be repeated."
        )

        @model_validator(mode="after")
        def _one_subject(self) -> Self:
            if self.item_id is not None and self.basket:
                raise ValueError("give item_id or basket, not both")
            return self

        def ask(self, kind: Kind = "recommendations", item_id: str | None = None) -> Ask:
            return self._ask(kind, item_id=self.item_id, basket=tuple(self.basket), rules=self.ruled())

    class BatchQuestion(_Body):
        users: tuple[Id, ...] = Field(
            min_length=1, max_length=answers.batch_users, description=f"At most {answers.batch_users}."
        )
        k: Count = usual
        country: Country = None
        category: Category = None
        placement: Placement = None
        rules: Rules = NO_RULES

        def asks(self) -> list[Ask]:
            """One a user, in their order; who is named twice is asked once."""
            shared = {
                "k": self.k,
                "country": self.country,
                "category": self.category,
                "placement": self.placement,
            }
            return [Ask(user_id=user, rules=self.rules, **shared) for user in dict.fromkeys(self.users)]

    return SimpleNamespace(
        Id=Id,
        RecommendationQuestion=RecommendationQuestion,
        RelatedQuestion=RelatedQuestion,
        SimilarQuestion=SimilarQuestion,
        ListQuestion=ListQuestion,
        RecommendationParameters=RecommendationParameters,
        ListParameters=ListParameters,
        BatchQuestion=BatchQuestion,
    )
