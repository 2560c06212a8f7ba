"""The arguments of GraphQL's fields: those of the REST questions, under the names of the schema."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import strawberry
from strawberry import ID, Info
from strawberry.scalars import JSON

# As in serving.asking; what each may be, and what is taken where it is left out, is said and judged there.
OF_LISTS: dict[str, Any] = {
    "k": int | None,
    "user_id": ID | None,
    "session_id": ID | None,
    "country": str | None,
    "category": str | None,
    "placement": str | None,
    "rules": JSON | None,
    "page": int | None,
    "request_id": str | None,
    "explain": bool | None,
}
OF_SUBJECTS: dict[str, Any] = {**OF_LISTS, "item_id": ID | None, "basket": list[ID] | None}
OF_SEARCH: dict[str, Any] = {"q": str | None, "typing": bool | None, **OF_LISTS}
OF_ONE: dict[str, Any] = {"item_id": ID, **OF_LISTS}  # needed, so it has no default and comes first


@strawberry.type
class Reason:
    """Why an item is on the list."""

    source: str
    text: str
    evidence: JSON | None
    parts: JSON


def reason(told: dict[str, Any]) -> Reason:
    """Of the REST answer's."""
    return Reason(
        source=told["source"],
        text=told["text"],
        evidence=told.get("evidence"),
        parts=told.get("parts", {}),
    )


def field(
    answer: Callable[..., Awaitable[Any]], arguments: dict[str, Any], gives: str, description: str
) -> Any:
    """A field with these arguments. answer: gets self, info, and what was given, null left out. gives: the type's name."""

    async def resolver(self: Any, info: Info, **given: Any) -> Any:
        return await answer(self, info, **{name: each for name, each in given.items() if each is not None})

    usual, kind = inspect.Parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD
    resolver.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            usual("self", kind),
            usual("info", kind, annotation=Info),
            *(
                usual(name, kind, annotation=each, default=None if each is not ID else usual.empty)
                for name, each in arguments.items()
            ),
        ],
        return_annotation=gives,
    )
    resolver.__module__ = answer.__module__  # where strawberry looks for the type
    return strawberry.field(resolver, description=description)
