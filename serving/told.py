"""What was told of one item or user, field by field: the last word counts, whatever the order in which it came."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from engine.sources.content_words import LONGEST, pairs

Row = dict[str, Any]
SHOWN = frozenset(
    ("title", "brand", "categories", "price", "deleted")
)  # what an answer depends on, beside stock
ITEM_FIELDS = (*sorted(SHOWN), "stock")
USER_FIELDS = ("country", "consent")  # what an answer goes by; landing has the others


class Told:
    """Of one item or user: each field's last value and when it was told (epoch microseconds)."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[str, tuple[Any, int]] = {}

    def fold(self, row: Row, names: Iterable[str]) -> set[str]:
        """Takes what is newer, and tells which values changed. The order of rows does not matter."""
        changed = set()
        for name in names:
            text = row.get(name)
            held, at = self.fields.get(name, (None, 0))
            if text is not None and row["at"] > at:
                value = read(name, text)
                self.fields[name] = (value, row["at"])
                changed |= {name} if value != held else set()
        return changed

    def get(self, name: str) -> Any:
        return self.fields.get(name, (None, 0))[0]

    @property
    def newest(self) -> int:
        return max((at for _, at in list(self.fields.values())), default=0)


def read(name: str, text: str) -> Any:
    """A column's text as its value.

    >>> read("price", "1.50"), read("categories", '["a"]'), read("deleted", "false")
    (1.5, ['a'], False)
    """
    if name == "categories":
        return json.loads(text)
    if name == "description":
        return text[:LONGEST]
    if name in ("deleted", "consent"):
        return text == "true"
    if name == "price":
        return round(float(text), 2)  # as silver's decimals
    return int(text) if name == "stock" else text


def part(told: Told, name: str, key: str | None) -> Any:
    """A field, or what it says of `key` where it is a map, which is kept as its text; empty where that was cleared.

    >>> told = Told()
    >>> _ = told.fold({"attributes": '{"tier": "gold"}', "at": 1}, ["attributes"])
    >>> part(told, "attributes", "tier"), part(told, "attributes", "size"), part(Told(), "attributes", "tier")
    ('gold', '', None)
    """
    value = told.get(name)
    return value if key is None or value is None else json.loads(value).get(key, "")


def fields_of(told: Told) -> dict[str, Any]:
    """What an item tells beyond what is shown of it, as an items frame has it. It is kept as text: few of them are read.

    >>> told = Told()
    >>> _ = told.fold({"tags": '["new"]', "attributes": '{"colour": "red"}', "at": 1}, ("tags", "attributes"))
    >>> fields_of(told)
    {'description': None, 'tags': ['new'], 'attributes': ['colour=red']}
    """
    tags, attributes = (json.loads(told.get(name) or "null") for name in ("tags", "attributes"))
    return {"description": told.get("description"), "tags": tags, "attributes": pairs(attributes)}


def text(name: str, value: Any) -> str:
    """What `read` reads as this value.

    >>> text("price", 1e-05), text("deleted", False), text("categories", ["a"])
    ('0.00001', 'false', '["a"]')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "price":
        return format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def rows_of(held: Mapping[str, Told], key: str) -> Iterator[Row]:
    """The journal's rows again, as few as say the same: one for each moment at which something was told that still holds."""
    for name, told in held.items():
        moments: dict[int, Row] = {}
        for column, (value, at) in told.fields.items():
            moments.setdefault(at, {"at": at, key: name})[column] = text(column, value)
        yield from (moments[at] for at in sorted(moments))
