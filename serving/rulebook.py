"""The shop's rules as data: one versioned document, every change of it on record.

``$AISLE_HOME/rules/history.jsonl`` holds one line a version, each with the digest of the line before; the last one is in
force. Whoever changes, drops or inserts a line breaks the chain, and reading says where. Other processes of the API see a
new version within FOLLOW_SECONDS.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aisle.decisions import canonical
from aisle.errors import RaceLost, TamperedRecord
from aisle.lake import home
from engine.rules import Chosen, Name, Rules
from serving.asking import NO_RULES, Ask

log = logging.getLogger("aisle.rules")
FOLLOW_SECONDS = 0.2
PAGES = 1_000  # categories, and items and baskets, whose rule is made once
LONGEST_HISTORY = 10_000  # versions that GET /v1/rules/history looks through


class RuleBook(BaseModel):
    """The whole document. A list on a category page in a placement obeys all three scopes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "all": {"in_stock": True, "caps": {"brand": 3}, "exclude": ["POST"]},
                "categories": {"LIGHT": {"pins": [{"item_id": "21731", "position": 1}]}},
                "placements": {"basket": {"price": {"max": 10}}},
                "curated": ["22423", "85123A"],
            }
        },
    )
    all: Rules = Field(default=NO_RULES, description="Of every list.")
    categories: dict[Name, Rules] = Field(
        default={}, max_length=1000, description="Of the pages of these categories."
    )
    placements: dict[Name, Rules] = Field(
        default={}, max_length=1000, description="Of lists with this `placement`."
    )
    curated: Annotated[tuple[Name, ...], Field(max_length=1000)] = Field(
        default=(), description="Shown, in this order, where nothing else answers."
    )

    def scoped(self, ask: Ask) -> list[tuple[str, Rules]]:
        """(scope, document) of all that a question must obey, the most particular last."""
        own = (
            ("all", self.all),
            (f"categories.{ask.category}", self.categories.get(ask.category or "", NO_RULES)),
            (f"placements.{ask.placement}", self.placements.get(ask.placement or "", NO_RULES)),
            ("category page", _of_category(ask.category) if ask.category else NO_RULES),
            ("request", ask.rules),
            ("subject", _without(ask.subjects) if ask.subjects else NO_RULES),
        )
        return [(scope, each) for scope, each in own if each is not NO_RULES]

    def rules(self, ask: Ask) -> tuple[Rules, ...]:
        """The documents of `scoped`."""
        return tuple(each for _, each in self.scoped(ask))

    def named(self) -> dict[str, set[str]]:
        """What it names, by column: items, categories and brands."""
        found: dict[str, set[str]] = {
            "item_id": {*self.curated},
            "categories": {*self.categories},
            "brand": set(),
        }
        for each in (self.all, *self.categories.values(), *self.placements.values()):
            found["item_id"] |= {*each.exclude, *(pin.item_id for pin in each.pins)}
            found["categories"] |= {*each.categories.include, *each.categories.exclude}
            found["brand"] |= {*each.brands.include, *each.brands.exclude}
            for boost in each.boosts:
                found[boost.column].add(boost.value)
        return found


@lru_cache(PAGES)
def _of_category(category: str) -> Rules:
    return Rules(categories=Chosen(include=(category,)))


@lru_cache(PAGES)
def _without(items: tuple[str, ...]) -> Rules:
    return Rules(exclude=items)


@dataclass(frozen=True)
class Version:
    """One version of the book: number from 1 on, 0 before the first. by: who wrote it; note: why."""

    version: int
    at: str
    by: str
    note: str
    book: RuleBook
    digest: str
    previous: str

    def told(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "at": self.at,
            "by": self.by,
            "note": self.note,
            "digest": self.digest,
            "previous_digest": self.previous,
            "rules": self.book.model_dump(mode="json", exclude_defaults=True),
        }


EMPTY = Version(0, "", "", "", RuleBook(), "", "")


class Rulebook:
    """The document in force. Read by requests without a lock; `put` is the only way to change it."""

    def __init__(self) -> None:
        self._held, self._stamp, self._looked = EMPTY, (0, 0), 0.0
        self._chain = Chain()
        self._lock = threading.Lock()
        self.fault: str | None = None

    def current(self) -> Version:
        """What is in force. Where the file cannot be read or was tampered with, the last good version goes on, and `fault` says why."""
        if time.monotonic() - self._looked >= FOLLOW_SECONDS:
            with self._lock:
                self._look()
        return self._held

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            found = _path().stat()
            stamp = (found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            stamp = (0, 0)
        except OSError as error:
            self._complain(error)
            return
        if stamp == self._stamp:
            return
        try:
            last = self._chain.last()
        except (OSError, TamperedRecord) as error:
            self._complain(error)
            return
        self._held, self._stamp, self.fault = last, stamp, None

    def _complain(self, error: Exception) -> None:
        if self.fault != str(error):
            log.error("the rules cannot be read, version %d goes on: %s", self._held.version, error)
        self.fault = str(error)

    def put(self, book: RuleBook, by: str, note: str = "", expected: int | None = None) -> Version:
        """Writes the next version and returns it; the same document again is no new version.

        Raises RaceLost where `expected` is given and is not the version in force, TamperedRecord where the chain is broken.
        """
        _path().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_path().with_name(".lock"), timeout=30):
            last = self._chain.last()
            if expected is not None and expected != last.version:
                raise RaceLost(
                    f"the rules are at version {last.version}, not {expected}: read them again, then repeat"
                )
            if book == last.book and last.version:
                return last
            body = {
                "version": last.version + 1,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "by": by,
                "note": note,
                "rules": book.model_dump(mode="json", exclude_defaults=True),
                "previous_digest": last.digest,
            }
            _cut_half_a_line()
            with _path().open("a", encoding="utf-8") as file:
                file.write(json.dumps({**body, "digest": _digest(body)}, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        with self._lock:
            self._look()
        return self._held


class Chain:
    """The history's last version, without judging a line twice. May be used from many threads.

    A line that was judged is not looked at again as long as all bytes up to its end are those of then, by their digest. So that
    a change of an old line is found as `history` finds it, and ten thousand versions are read in milliseconds.
    """

    def __init__(self) -> None:
        self._judged = (
            0,
            hashlib.sha256().digest(),
            EMPTY,
        )  # bytes from the start, their digest, the last version in them

    def last(self) -> Version:
        """EMPTY before the first. Raises OSError, and TamperedRecord as `history` does."""
        try:
            text = memoryview(_path().read_bytes())
        except FileNotFoundError:
            text = memoryview(b"")
        size, digest, last = self._judged
        if hashlib.sha256(text[:size]).digest() != digest:
            size, last = 0, EMPTY
        *lines, half = bytes(text[size:]).split(b"\n")
        for line in lines:
            last = _version(last.version + 1, line.decode(errors="replace"), last.digest)
        whole = len(text) - len(half)
        self._judged = whole, hashlib.sha256(text[:whole]).digest(), last
        return last


def history() -> list[Version]:
    """Every version, oldest first. Raises TamperedRecord with the line that does not follow from the one before.

    A last line without its end is being written, or its writer was killed: it is not in force.
    """
    try:
        text = _path().read_text(
            encoding="utf-8", errors="replace"
        )  # half a line may end in half a character
    except FileNotFoundError:
        return []
    found: list[Version] = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        found.append(_version(number, line, found[-1].digest if found else ""))
    return found


def _version(number: int, line: str, previous: str) -> Version:
    try:
        body = json.loads(line)
        digest = body.pop("digest")
        book = RuleBook.model_validate(body["rules"])
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise TamperedRecord(f"{_path()}: line {number} is no version of the rules ({error})") from None
    if _digest(body) != digest or body["previous_digest"] != previous or body["version"] != number:
        raise TamperedRecord(
            f"{_path()}: line {number} was changed after it was written, or one before it was: restore the file"
        )
    return Version(number, body["at"], body["by"], body["note"], book, digest, previous)


def _cut_half_a_line() -> None:
    """Takes away what a killed writer left at the end, so that the next line does not continue it. The caller holds the lock."""
    if not _path().exists():
        return
    text = _path().read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        log.warning("%s ends in half a line, which is taken away: its writer was killed", _path())
        os.truncate(_path(), whole)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def _path() -> Path:
    return home() / "rules" / "history.jsonl"
