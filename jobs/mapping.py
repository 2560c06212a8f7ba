"""Mapping files: how a foreign file's columns become the contract's. Documented with an example in docs/importing.md.

Every expression is DuckDB SQL over the foreign columns, all of them text whatever the file's format was, and over the
names of ``[define]``. Expressions are tried one by one before any row is made, so that a report names all faults.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aisle.columns import EVENT_ID, EVENT_TIME, EVENT_TYPE, EVENT_TYPES, KINDS, SET_ASIDE, SOURCE, UPDATED_AT
from aisle.errors import BadFile, BadMapping
from aisle.tables import CONTRACTS

REQUIRED = {
    "events": (EVENT_TYPE, EVENT_TIME),
    "items": ("item_id", "title", UPDATED_AT),
    "users": ("user_id", UPDATED_AT),
}
ELSEWHERE = re.compile(
    r"\b(over|select|random|setseed|uuid\w*|gen_random_uuid|now|today|\w*current_\w+)\b", re.IGNORECASE
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(_Part):
    """``name``: what `source` says of the rows, else the file's name; ``time``: where the window of --since and --until
    is read; ``header``: the columns' names of delimited text that has no header; ``delimiter``: where it cannot be told from the
    first line, up to four characters."""

    name: str = ""
    encoding: str = "utf-8"
    time: str | None = None
    header: tuple[str, ...] = ()
    delimiter: str = Field("", max_length=4)


class TypeRule(_Part):
    """The event type ``is_`` of the lines where ``when`` holds; without ``when``, of all the others."""

    is_: Literal[EVENT_TYPES] = Field(alias="is")
    when: str | None = None


class SetAsideRule(_Part):
    when: str
    reason: str = Field(min_length=1)


class Mapping(_Part):
    """A mapping file, or the identity where a file already speaks the contract."""

    kind: Literal[KINDS]
    source: Origin = Origin()
    define: dict[str, str] = {}
    columns: dict[str, str]
    event_type: tuple[TypeRule, ...] = ()
    set_aside: tuple[SetAsideRule, ...] = ()
    group_by: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of what the file means, not of how it is written: a comment changes nothing."""
        said = self.model_dump(by_alias=True)
        for name in (
            "header",
            "delimiter",
        ):  # a mapping that says nothing of them is what it was before there were any
            if not said["source"][name]:
                del said["source"][name]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @property
    def derives_ids(self) -> bool:
        return self.kind == "events" and EVENT_ID not in self.columns

    @property
    def time_digest(self) -> str:
        """Of what makes the time of an event out of its line; empty where more than the line does, or another moment."""
        made = [self.columns.get(EVENT_TIME, ""), *(f"{name} = {sql}" for name, sql in self.define.items())]
        if any(ELSEWHERE.search(sql) for sql in made):
            return ""
        return hashlib.sha256("\n".join(made).encode()).hexdigest()


def load(path: Path, kind: str, file: str) -> Mapping:
    """A checked mapping file for rows of `file`. Raises BadMapping that lists every wrong key and value at once."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        what = f"{path} is a folder" if path.is_dir() else f"no mapping file {path}"
        raise BadMapping(f"{what}; examples lie in conf/mappings/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadMapping(f"{path} is not valid TOML: {error}") from None
    try:
        found = Mapping.model_validate({"kind": kind, **values})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise BadMapping(f"{path}: {faults}; docs/importing.md shows a mapping") from None
    faults = list(_contract_faults(found, kind))
    if faults:
        raise BadMapping(f"{path}: {'; '.join(faults)}")
    named = found.source.model_copy(update={"name": found.source.name or file})
    return found.model_copy(update={"source": named})


def _contract_faults(mapping: Mapping, kind: str) -> Iterator[str]:
    """What a mapping says that the contract does not know, or leaves out."""
    if mapping.kind != kind:
        yield f"it maps {mapping.kind}, not {kind}: run `aisle import {mapping.kind}` or give another file"
        return
    for name in mapping.columns:
        if name not in CONTRACTS[kind]:
            yield f"columns.{name} is no column of {kind}{close(name, CONTRACTS[kind])}"
    given = {*mapping.columns, *([EVENT_TYPE] if mapping.event_type else [])}
    missing = [name for name in REQUIRED[kind] if name not in given]
    if missing:
        yield f"it does not say where {', '.join(missing)} come from"
    if mapping.event_type and EVENT_TYPE in mapping.columns:
        yield "event_type stands both under [columns] and as [[event_type]] rules: keep one"
    if sum(rule.when is None for rule in mapping.event_type) > 1:
        yield "two [[event_type]] rules have no `when`: one is the default, the others need a condition"


def identity(columns: list[str], kind: str, file: str) -> Mapping:
    """The mapping of a file whose header is the contract's. Raises BadFile with all unknown and missing columns."""
    faults = [
        f"unknown column {name!r}{close(name, CONTRACTS[kind])}"
        for name in columns
        if name not in CONTRACTS[kind]
    ]
    missing = [name for name in REQUIRED[kind] if name not in columns]
    if kind == "events" and not {"user_id", "session_id"} & set(columns):
        missing.append("user_id or session_id")
    faults += [f"no column {name!r}" for name in missing]
    if faults:
        raise BadFile(
            f"{file} is no table of {kind}: {'; '.join(faults)}. Rename them, or give --mapping FILE"
        )
    return Mapping(
        kind=kind,
        source=Origin(name=file),
        columns={name: identifier(name) for name in columns},
    )


def select(mapping: Mapping, columns: list[str], since: str | None, until: str | None) -> str:
    """SQL that gives the rows of a window in the contract's columns, as text: row_number, columns, set_aside_reason.

    Without ``group_by`` one row per line, in the file's order; with it one per group, ordered by the group.
    """
    names = [*columns, *mapping.define]
    number = f"row_number() OVER (ORDER BY {', '.join(mapping.group_by)})" if mapping.group_by else "_row"
    found = ", ".join(
        f"nullif(CAST(({_expression(mapping, name, columns, names)}) AS VARCHAR), '') AS {name}"
        for name in CONTRACTS[mapping.kind]
    )
    aside = _cases([(rule.when, rule.reason) for rule in mapping.set_aside], None)
    return (
        f"SELECT CAST({number} AS BIGINT) AS row_number, {found}, CAST({aside} AS VARCHAR) AS {SET_ASIDE} "
        f"FROM {lines(mapping)} WHERE {inside(mapping, names, since, until)}{group_by(mapping)}"
    )


def inside(mapping: Mapping, names: list[str], since: str | None, until: str | None) -> str:
    """The condition of a window. A line whose time cannot be read is in every window: a row rule names it."""
    text = mapping.source.time or mapping.columns.get(
        EVENT_TIME if mapping.kind == "events" else UPDATED_AT, "NULL"
    )
    moment = f"try_cast(({column(text, names)}) AS TIMESTAMPTZ)"
    bounds = [f"{moment} >= TIMESTAMPTZ '{since}'"] if since else []
    bounds += [f"{moment} < TIMESTAMPTZ '{until}'"] if until else []
    return f"coalesce({' AND '.join(bounds)}, true)" if bounds else "true"


def lines(mapping: Mapping, first: int | None = None) -> str:
    """``lines`` with the `first` names of [define] (all by default); each may use the ones before it."""
    table = "lines"
    for name, sql in list(mapping.define.items())[:first]:
        table = f"(SELECT *, ({sql}) AS {identifier(name)} FROM {table})"
    return table


def group_by(mapping: Mapping) -> str:
    return f" GROUP BY {', '.join(mapping.group_by)}" if mapping.group_by else ""


def _expression(mapping: Mapping, name: str, columns: list[str], names: list[str]) -> str:
    if name == EVENT_TYPE and mapping.event_type:
        default = next((rule.is_ for rule in mapping.event_type if rule.when is None), None)
        return _cases([(rule.when, rule.is_) for rule in mapping.event_type if rule.when], default)
    if name == EVENT_ID:
        given = column(mapping.columns[EVENT_ID], names) if EVENT_ID in mapping.columns else "NULL"
        return f"coalesce(nullif(CAST(({given}) AS VARCHAR), ''), {derived_id(columns)})"
    if name == SOURCE and SOURCE not in mapping.columns:
        return quoted(mapping.source.name)
    return column(mapping.columns[name], names) if name in mapping.columns else "NULL"


def derived_id(columns: list[str]) -> str:
    """128 bits of SHA-256 over every value of a line with its column's name, in the order of the names.

    Absent values are left out, so that the same line in another format, or beside a new column, keeps its id.
    """
    parts = ", ".join(f"{quoted(name + '=')} || {identifier(name)}" for name in sorted(columns))
    return f"left(sha256(concat_ws(chr(31), 'events', {parts})), 32)"


def column(text: str, names: list[str]) -> str:
    """A bare column name may hold anything, a blank too; all else is SQL."""
    return identifier(text) if text in names else text


def _cases(cases: list[tuple[str, str]], default: str | None) -> str:
    other = quoted(default) if default else "NULL"
    arms = " ".join(f"WHEN ({when}) THEN {quoted(then)}" for when, then in cases)
    return f"CASE {arms} ELSE {other} END" if arms else other


def quoted(value: object) -> str:
    """A SQL text literal."""
    return "'" + str(value).replace("'", "''") + "'"


def scanned(path: Path) -> str:
    """A path as SQL text that names this very file: DuckDB would read [ ] * ? as a pattern.

    >>> scanned(Path("sales[1].csv"))
    "'sales[[]1].csv'"
    """
    return quoted("".join(f"[{char}]" if char in "[*?" else char for char in str(path)))


def identifier(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def close(name: str, known) -> str:
    found = get_close_matches(name.lower(), [str(each) for each in known], n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""
