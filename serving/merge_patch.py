"""PATCH as JSON Merge Patch means it (RFC 7396): what is left out stays, and null clears.

In the lake an update says nothing of a field that it leaves out, so a clearing has to be a value: the empty text, list or object.
A field that has no empty value, such as a price, cannot be cleared; null is refused there, with what to send in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, create_model

from serving.row import Row, text_of

EMPTY: Final[Mapping[str, Any]] = {
    "description": "",
    "brand": "",
    "categories": [],
    "tags": [],
    "attributes": {},
    "country": "",
    "language": "",
}
OF_A_REVIEW: Final[Mapping[str, Any]] = {"title": "", "text": ""}
WAY_OUT: Final[Mapping[str, str]] = {
    "title": "an item has a title: send another one",
    "price": "send the price that it has now, or leave it out",
    "currency": "send the currency that it has now, or leave it out",
    "image_url": "send another address, such as that of a picture that says there is none, or leave it out",
    "stock": "send 0 where there is none to sell, or the pieces that there are",
    "released_at": "send the moment that holds, or leave it out",
    "consent": "send true or false",
    "value": "a rating has one: send another one, or DELETE the review",
}


class Changes(Row):
    """What changes; the rest stays. empty: what clears each field that can be."""

    empty: ClassVar[Mapping[str, Any]] = EMPTY

    def columns(self) -> dict[str, str]:
        """What was given, as text by column; of null what clears the column."""
        return {
            name: text_of(self.empty[name] if value is None else value)
            for name, value in self
            if name in self.model_fields_set
        }


def changes(
    name: str,
    doc: str,
    fields: Mapping[str, tuple[Any, dict[str, Any]]],
    empty: Mapping[str, Any] = EMPTY,
) -> type[Changes]:
    """A model of a PATCH's body. fields: by name, the type of a value and what `Field` takes beside it. empty: see `Changes`."""
    made: type[Changes] = create_model(
        name,
        __base__=Changes,
        __doc__=doc,
        **{each: _change(each, kind, more, each in empty) for each, (kind, more) in fields.items()},  # type: ignore[call-overload]
    )
    made.empty = empty
    return made


def _change(name: str, kind: Any, more: dict[str, Any], clears: bool) -> tuple[Any, Any]:
    if clears:
        told = " ".join(filter(None, (more.get("description"), "null clears it.")))
        return kind | None, Field(None, **{**more, "description": told})

    def given(value: Any) -> Any:
        if value is None:
            raise ValueError(f"cannot be cleared: {WAY_OUT[name]}")
        return value

    # A default that OpenAPI does not tell of: null is none of the values.
    return Annotated[kind, BeforeValidator(given)], Field(default_factory=lambda: None, **more)
