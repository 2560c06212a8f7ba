"""What may be asked for: the bodies and parameters of the reading routes, and the one form that all of them become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from aisle.checked import Checked
from aisle.settings import Settings
from engine.rules import Chosen, PriceRange, Rules
from serving import proof
from serving.same_question import given
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
            "category": "LIGHT",
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

    page: from 1 on; beyond the first it goes on with the answer `request_id`. exact: reasons by TreeSHAP. given: of a further page,
    the names of what was sent with it, see `serving.same_question`.

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
    given: tuple[str, ...] = field(default=(), repr=False)

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


class _Body(Checked):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _pages(page: int, request_id: str | None) -> Sequence[str]:
    if page == 1 or request_id is not None:
        return ()
    return [f"page {page} needs the request_id of the answer that it goes on with"]


def _one_subject(item_id: str | None, basket: Sequence[str]) -> Sequence[str]:
    return ["give item_id or basket, not both"] if item_id is not None and basket else ()


def _a_subject(item_id: str | None, basket: Sequence[str], page: int) -> Sequence[str]:
    """A further page has the one of its first page."""
    if item_id is not None or basket or page > 1:
        return ()
    return ["needs item_id or basket: what should the items go with?"]


def _prices(min_price: float | None, max_price: float | None) -> Sequence[str]:
    if min_price is None or max_price is None or min_price <= max_price:
        return ()
    return [f"min_price {min_price} is above max_price {max_price}"]


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

        between = (_pages,)

        def _ask(self, kind: Kind, **more: Any) -> Ask:
            held = self.__dict__
            own = {name: held[name] for name in names}
            sent = given(self) if self.page > 1 else ()
            return Ask(kind=kind, **own, exact=self.explain, given=sent, **more)

    names = tuple(name for name in Shared.model_fields if name != "explain")

    class Ruled(Shared):
        rules: Rules = Field(
            default=NO_RULES, description="Beside the shop's own rules: an item must pass them all."
        )

    class RecommendationQuestion(Ruled):
        item_id: Id | None = Field(default=None, description="What goes with the item whose page it is.")
        basket: tuple[Id, ...] = Field(default=(), max_length=100, description="What goes with all of these.")

        between = (_pages, _one_subject)

        def ask(self, kind: Kind = "recommendations") -> Ask:
            return self._ask(kind, item_id=self.item_id, basket=self.basket, rules=self.rules)

    class RelatedQuestion(RecommendationQuestion):
        between = (_pages, _one_subject, _a_subject)

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

        between = (_pages, _prices)

        def ruled(self) -> Rules:
            some = self.min_price is not None or self.max_price is not None
            if not (some or self.in_stock or self.brand or self.exclude):
                return NO_RULES
            return Rules(
                in_stock=self.in_stock,
                price=PriceRange(min=self.min_price, max=self.max_price) if some else None,
                brands=Chosen(include=tuple(self.brand)),
                exclude=tuple(self.exclude),
            )

        def ask(self, kind: Kind, item_id: str | None = None) -> Ask:
            """item_id: of the path."""
            found = self._ask(kind, item_id=item_id, rules=self.ruled())
            return replace(found, given=(*found.given, "item_id")) if item_id and self.page > 1 else found

    class RecommendationParameters(ListParameters):
        item_id: Id | None = Field(default=None, description="What goes with this item.")
        basket: list[Id] = Field(
            default=[], max_length=100, description="What goes with these; may be repeated."
        )

        between = (_pages, _prices, _one_subject)

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
