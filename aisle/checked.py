"""Models that tell every fault of a document at once: those of single fields, and beside them those between fields.

Pydantic's own validators of a whole model are not asked where one of its fields is wrong, and the first of them that objects
silences the rest. Who mends such a document is told the next fault only when they send it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ModelWrapValidatorHandler, TypeAdapter, ValidationError, model_validator
from pydantic_core import InitErrorDetails, SchemaValidator, core_schema

Rule = Callable[..., Sequence[str]]


class Checked(BaseModel):
    """`between`: rules that take fields by their names, and say what contradicts itself between those.

    A rule is asked when the fields that it takes are sound, whatever the others are.
    """

    between: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _every_fault(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            found = handler(given)
        except ValidationError as error:
            faults = told(cls.between, _sound_fields(cls, given, error))
            if not faults:
                raise
            raise _as_error(cls, given, [*map(_again, error.errors(include_url=False)), *faults]) from None
        values = found.__dict__
        for rule, reads in _ready(cls):
            if rule(*reads(values)):
                raise _as_error(cls, given, told(cls.between, values))
        return found

    def _sound(self) -> Self:
        """Raises ValueError with the first fault."""
        for rule, reads in _ready(type(self)):
            for fault in rule(*reads(self.__dict__)):
                raise ValueError(fault)
        return self


def of_sound(model: type[BaseModel]) -> SchemaValidator:
    """Makes of sound JSON what `model_validate_json` makes, in less time; of any other it only says that it is not sound.

    To tell every fault a document is taken apart into Python's objects first, at each model in it; this reads it once.
    """
    return SchemaValidator(_reading_once(model.__pydantic_core_schema__))


def _reading_once(schema: Any) -> Any:
    """A core schema whose models check what is between their fields after those, and nothing around them."""
    if isinstance(schema, list):
        return [_reading_once(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _reading_once(each) for name, each in schema.items()}
    if found.get("type") != "function-wrap":
        return found
    checked = getattr(found["function"]["function"], "__self__", None)
    if not (isinstance(checked, type) and issubclass(checked, Checked)):
        return found
    return core_schema.no_info_after_validator_function(checked._sound, found["schema"], ref=found.get("ref"))


@cache
def takes(rule: Rule) -> tuple[str, ...]:
    """The names of the fields that a rule takes."""
    return rule.__code__.co_varnames[: rule.__code__.co_argcount]


@cache
def _ready(model: type[Checked]) -> list[tuple[Rule, Callable[[Any], tuple]]]:
    """Each rule with what reads its fields: a question is checked with every request."""
    return [(rule, _reading(takes(rule))) for rule in model.between]


def _reading(names: tuple[str, ...]) -> Callable[[Any], tuple]:
    read = itemgetter(*names)
    return read if len(names) > 1 else lambda values: (read(values),)


def told(rules: Sequence[Rule], sound: Mapping[str, Any]) -> list[InitErrorDetails]:
    """What rules say of fields by name; of those that lack one of theirs nothing."""
    faults = [
        fault
        for rule in rules
        if sound.keys() >= {*takes(rule)}
        for fault in rule(*[sound[name] for name in takes(rule)])
    ]
    return [
        InitErrorDetails(type="value_error", loc=(), input=None, ctx={"error": ValueError(fault)})
        for fault in faults
    ]


def _sound_fields(model: type[Checked], given: Any, error: ValidationError) -> dict[str, Any]:
    """The fields of a faulty document that rules take and that are sound by themselves, as the model would have them."""
    if not isinstance(given, dict):
        return {}
    wrong = {each["loc"][0] for each in error.errors(include_url=False) if each["loc"]}
    return {
        name: adapter.validate_python(given[name])
        if name in given
        else model.model_fields[name].get_default()
        for name, adapter in _adapters(model).items()
        if name not in wrong
    }


@cache
def _adapters(model: type[Checked]) -> dict[str, TypeAdapter[Any]]:
    fields = {name: model.model_fields[name] for rule in model.between for name in takes(rule)}
    types: dict[str, Any] = {name: field.annotation for name, field in fields.items()}
    for name, field in fields.items():
        if field.metadata:
            types[name] = Annotated[types[name], *field.metadata]
    return {name: TypeAdapter(each) for name, each in types.items()}


def _again(fault: Any) -> InitErrorDetails:
    return InitErrorDetails(
        type=fault["type"], loc=fault["loc"], input=fault["input"], ctx=fault.get("ctx", {})
    )


def _as_error(model: type[BaseModel], given: Any, faults: list[InitErrorDetails]) -> ValidationError:
    whole = [each if each["loc"] else InitErrorDetails(**{**each, "input": given}) for each in faults]
    return ValidationError.from_exception_data(model.__name__, whole)
