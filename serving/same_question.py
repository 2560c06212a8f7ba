"""A further page is of the question that its first page answered: what is sent again must be the same, what is left out is taken from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request

from aisle.errors import AnotherQuestion

if TYPE_CHECKING:
    from serving.asking import Ask

# Whose page it is, and which: with another user or session it is somebody else's, and not there.
OF_THE_PAGE = {"page", "request_id", "user_id", "session_id"}
STANDS_FOR = {  # what a field is in an `Ask`, where it has another name there
    "explain": "exact",
    "in_stock": "rules.in_stock",
    "min_price": "rules.price.min",
    "max_price": "rules.price.max",
    "brand": "rules.brands.include",
    "exclude": "rules.exclude",
}
LONGEST = 200  # characters of a value that is told


def given(question: BaseModel) -> tuple[str, ...]:
    """The names of what was sent with a further page: fields, and of `rules` each rule. Null is as good as left out.

    >>> from pydantic import create_model
    >>> given(create_model("Asked", page=(int, 1), k=(int, 9), category=(str | None, None))(page=2, k=3, category=None))
    ('k',)
    """
    names = question.model_fields_set - OF_THE_PAGE - {"rules"}
    found = [name for name in names if getattr(question, name) is not None]
    if "rules" in question.model_fields_set:
        rules: BaseModel = question.rules  # type: ignore[attr-defined]
        found += [f"rules.{name}" for name in rules.model_fields_set if getattr(rules, name) is not None]
    return tuple(sorted(found))


def sent(ask: Ask, request: Request) -> Ask:
    """With what the parameters of a GET really named: FastAPI fills in the defaults of all others."""
    if ask.page == 1 or request.method != "GET":
        return ask
    there = {*request.query_params, *request.path_params}
    return replace(ask, given=tuple(name for name in ask.given if name in there))


def require(first: Ask, then: Ask, more: Mapping[str, tuple[Any, Any]] = {}) -> None:
    """first: what page 1 was asked with, then: what a further one is. more: values of both that are in no `Ask`, by name.

    Raises AnotherQuestion with every field that was sent with the further page and says something else.
    """
    faults = []
    for name in then.given:
        before, now = more[name] if name in more else (_value(first, name), _value(then, name))
        if _plain(before) != _plain(now):
            told = f"page 1 of this answer had {_shown(before)}, and a further page is of the same question"
            faults.append(
                {
                    "where": name,
                    "detail": f"{told}: leave it out, or ask for page 1 anew",
                    "value": _short(now) if isinstance(now, str) else _shown(now),
                }
            )
    if faults:
        raise AnotherQuestion(faults)


def _value(ask: Ask, name: str) -> Any:
    """None where a rule on the way to it is not there."""
    found: Any = ask
    for step in STANDS_FOR.get(name, name).split("."):
        found = None if found is None else getattr(found, step)
    return found


def _plain(value: Any) -> Any:
    """To be compared: names in any order are the same names."""
    if isinstance(value, BaseModel):
        return {name: _plain(each) for name, each in value}
    if isinstance(value, tuple):
        whole = [_plain(each) for each in value]
        return sorted({*whole}) if all(isinstance(each, str) for each in whole) else whole
    return value


def _written(value: Any) -> Any:
    """Without what a rule leaves as it is."""
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    return value.model_dump(exclude_defaults=True) if isinstance(value, BaseModel) else value


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return _short(to_json(_written(value)).decode())


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
