"""What was said of items and users since the release: laid over the immutable bundle, so that the next answer shows it.

Three speeds. Stock is a look-up. A price, a title or a deletion of a known item is a new `Catalogue` around the same
arrays: milliseconds, made by the first answer that needs it. A new item has to be placed among the others
(`engine.new_items.grow`), which reads the catalogue's words anew: seconds on a large one, so a thread does it, and until it
is done the item is known to `stock` and `title`, but not recommended. Those that silver has and no release are placed first
(`serving.newcomers`), and what was told lies over them as over a release's own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import batched
from typing import Any

from aisle.segment import Segment
from engine.recommender import Recommender
from engine.sources.content_words import FIELDS
from serving.laying import is_deleted, laid_over, shows
from serving.live import Loaded, beside_requests
from serving.newcomers import Newcomers, placed
from serving.release import Pointer
from serving.sessions import Profile
from serving.shelf import ROW, Shelf
from serving.told import ITEM_FIELDS, SHOWN, USER_FIELDS, Row, Told, fields_of, part, rows_of

log = logging.getLogger("aisle.overlay")
NOTHING = Profile()

USERS_SECONDS = 7 * 86_400.0  # by then the features have it
MOST_CHANGES = 1_000_000
ATOMIC = 100  # rows taken at a time: an answer waits for them, at most a millisecond
AT_ONCE = (
    0.2  # seconds of work on new items without a rest: a shop of some thousand items has them placed by then
)
RETRY_SECONDS = 30.0  # before a lake that could not be read is asked again for new items
SWAP_SECONDS = 3.0  # that a release waits at most for new items to be placed among its own
RELEASES = 3  # that are kept laid over: served now, the one before, a canary


@dataclass(frozen=True)
class _Base:
    """A released recommender, or one grown by new items. newcomers: those of silver, which lie under those that were told.
    added: what was read of each of the latter, beyond what is shown of it."""

    recommender: Recommender
    newcomers: Newcomers
    added: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, released: Recommender) -> _Base:
        return cls(released, Newcomers.none(released))


@dataclass(frozen=True)
class _Laid:
    """seen: how many of the changes are in it. shelf: the version of the shelf that is."""

    loaded: Loaded
    base: _Base
    seen: int
    shelf: int
    recommender: Recommender

    def is_over(self, loaded: Loaded) -> bool:
        """Of the same release; its variant is another matter, and another object at every question."""
        return self.loaded.recommender is loaded.recommender


class Overlay:
    """Filled by the journal (`take`), read by the request path."""

    def __init__(self, shelf: Shelf | None = None, segment: str = "country") -> None:
        self._version = 0
        self.segment = Segment.of(segment)
        self.shelf = shelf or Shelf()
        self.items: dict[str, Told] = {}
        self.users: dict[str, Told] = {}
        self.grow_seconds = 0.0  # of the last growing
        self._erased: dict[str, int] = {}
        self._new: dict[
            Pointer, tuple[int, set[str]]
        ] = {}  # by release: changes looked at, items it does not know
        self._forgotten: tuple[Any, ...] = ()
        self._changes: list[str] = []  # items, in the order in which what an answer shows of them changed
        self._laid: OrderedDict[str, _Laid] = OrderedDict()  # by the release's version
        self._lock = threading.Lock()
        self._placing = threading.Lock()  # one growing at a time
        self._unread = False  # silver could not be read when its new items were looked for
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._grow, name="overlay", daemon=True)

    def start(self) -> None:
        self.shelf.start()
        self._thread.start()

    def stop(self) -> None:
        self.shelf.stop()
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    @property
    def version(self) -> int:
        """Rises with each change of an item, here or in silver."""
        return self._version + self.shelf.version

    def keep(self, versions: Collection[str]) -> list[Any]:
        """Lets go of all other releases, which would stay in memory with what is laid over them, and gives them to who frees them."""
        with self._lock:
            return [self._laid.pop(version) for version in self._laid.keys() - set(versions)]

    # -- the journal's side

    def take(self, kind: str, rows: list[Row]) -> None:
        for some in batched(rows, ATOMIC):
            with self._lock:
                for row in some:
                    if kind == "items":
                        self._take_item(row)
                    elif kind == "users" and row["at"] > self._erased.get(row["user_id"], 0):
                        self.users.setdefault(row["user_id"], Told()).fold(
                            row, {self.segment.column, *USER_FIELDS}
                        )
                    elif kind == "erasures":
                        self._erase(row["user_id"], row["at"])
        if kind == "items":
            self._wanted.set()

    def _take_item(self, row: Row) -> None:
        item = row["item_id"]
        # The words of an item that a release has are read at its next fit; of the others they say what it is like.
        names = ITEM_FIELDS if self._is_released(item) else (*ITEM_FIELDS, *FIELDS)
        changed = self.items.setdefault(item, Told()).fold(row, names)
        self._version += bool(changed)
        if changed & SHOWN:
            self._changes.append(item)
        if len(self._changes) > MOST_CHANGES:  # all anew, once in a long while
            self._changes = list(self.items)
            self._laid.clear()
            self._new = {}

    def _is_released(self, item: str) -> bool:
        """By every release that may be served, of which there is one."""
        held = self._laid.values()
        return bool(held) and all(item in each.loaded.recommender.catalogue.index for each in held)

    def _erase(self, user_id: str, at: int) -> None:
        self._erased[user_id] = max(at, self._erased.get(user_id, 0))
        held = self.users.get(user_id)
        if held and held.newest <= at:
            del self.users[user_id]
        elif held:
            held.fields = {name: told for name, told in held.fields.items() if told[1] > at}

    def rows(self, kind: str) -> list[Row]:
        """All that is known of a kind as rows of the journal, for a shorter one."""
        with self._lock:
            held, key = (self.items, "item_id") if kind == "items" else (self.users, "user_id")
            return list(rows_of(held, key))

    # -- the request's side

    def stock(self, item_id: str) -> int | None:
        """Pieces there are, by who spoke last; None where nobody did."""
        held, shelved = self.items.get(item_id), self.shelf.of(item_id)
        value, at = held.fields.get("stock", (None, 0)) if held else (None, 0)
        return shelved.stock if shelved and shelved.updated_at > at else value

    def title(self, item_id: str, loaded: Loaded | None) -> str | None:
        """An item's title by who knows it best: what was told, silver, the release. None: unknown or deleted."""
        held, shelved = self.items.get(item_id), self.shelf.of(item_id)
        if is_deleted(held, shelved):
            return None
        title, at = held.fields.get("title", (None, 0)) if held else (None, 0)
        if shelved and shelved.title and shelved.updated_at > at:
            return shelved.title
        if title:
            return str(title)
        try:
            return str(loaded.recommender.item(item_id)["title"] or item_id) if loaded else None
        except KeyError:
            return None

    def item(self, item_id: str) -> dict[str, Any] | None:
        """title, price and categories of an item that was told of a moment ago, which a release does not place yet."""
        told = self.items.get(item_id)
        if told is None or not told.get("title") or is_deleted(told, self.shelf.of(item_id)):
            return None
        return {
            "title": told.get("title"),
            "price": told.get("price"),
            "categories": told.get("categories") or [],
        }

    def profile(self, user_id: str) -> Profile:
        held = self.users.get(user_id)
        return Profile(part(held, *self.segment), held.get("consent")) if held else NOTHING

    def recommender(self, loaded: Loaded) -> Recommender:
        """The release with all that was told since."""
        held = self._laid.get(loaded.pointer.version)
        if held and held.is_over(loaded) and self._is_whole(held):
            return held.recommender
        with self._lock:
            return self._lay(loaded).recommender

    def _is_whole(self, held: _Laid) -> bool:
        return held.seen == len(self._changes) and held.shelf == self.shelf.version

    def _lay(self, loaded: Loaded, base: _Base | None = None) -> _Laid:
        """Only what changed since is laid over what there is, where there is something; all of it over a new base."""
        held = self._laid.get(loaded.pointer.version)
        if held is None or not held.is_over(loaded):
            held = None
        if held is None or held.shelf != self.shelf.version:
            self._wanted.set()
        whole = held is None or base is not None or held.shelf != self.shelf.version
        if held and not whole:
            told: Iterable[str] = set(self._changes[held.seen :])
            under, base = held.recommender, held.base
        else:
            base = base or (held.base if held else _Base.of(loaded.recommender))
            under, told = base.recommender, list(self.items)
        known = {
            item: self.items[item]
            for item in told
            if item in self.items and not self._superseded(base.newcomers, item)
        }
        found = laid_over(under, known, self.shelf, whole)
        laid = _Laid(loaded, base, len(self._changes), self.shelf.version, found)
        self._laid[loaded.pointer.version] = laid
        self._laid.move_to_end(loaded.pointer.version)
        while len(self._laid) > RELEASES:
            self._laid.popitem(last=False)
        return laid

    def _superseded(self, newcomers: Newcomers, item: str) -> bool:
        """Whether silver spoke of an item after all that was told of it, and what it said is what was placed."""
        if item not in newcomers.items or newcomers.silver != self.shelf.delta_version:
            return False
        told, shelved = self.items[item], self.shelf.of(item)
        return shelved is not None and shelved.updated_at >= told.newest

    # -- new items, in the background

    def _grow(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait(RETRY_SECONDS if self._unread else None)
            self._wanted.clear()
            self._unread = False
            if self._stopping.is_set():
                return
            started = time.monotonic()
            try:
                for held in list(self._laid.values()):
                    self.place(held.loaded)
                self._forget()
            except Exception:  # the released items go on being answered; the next change tries again
                log.exception("new items could not be placed among the others")
            self._stopping.wait(time.monotonic() - started)  # with its rests, a fifth of one core at most

    def place(self, loaded: Loaded) -> None:
        """Lays over a release what it does not know yet of new items, those that silver has and those that were told."""
        started = time.monotonic()
        with self._placing, beside_requests(after=AT_ONCE):
            held = self._laid.get(loaded.pointer.version)
            base = held.base if held and held.is_over(loaded) else _Base.of(loaded.recommender)
            newcomers = self._newcomers(base.newcomers)
            told = {
                item: each for item, each in self._new_items(loaded).items() if item not in newcomers.items
            }
            more = {item: fields_of(self.items[item]) for item in told if item in self.items}
            same = newcomers.recommender is base.newcomers.recommender
            if same and all(base.added.get(item) == each for item, each in more.items()):
                if newcomers is not base.newcomers:
                    self._looked(loaded, replace(base, newcomers=newcomers))
                return
            # Of those that were too many to be newcomers.
            silver = {} if self._unread else self.shelf.rows([item for item in told if self.shelf.of(item)])
            nothing = dict.fromkeys(ROW)
            rows = {
                item: {**nothing, **silver.get(item, {}), **_said(each), **_said(more.get(item, {}))}
                for item, each in told.items()
            }
            grown = placed(newcomers.recommender, rows)
            with self._lock:
                self._lay(loaded, _Base(grown, newcomers, more))
                self._version += 1
        self.grow_seconds = time.monotonic() - started
        new = len(newcomers.items) + len(told)
        log.info("%d new items are recommended, placed in %.2f s", new, self.grow_seconds)

    def _newcomers(self, before: Newcomers) -> Newcomers:
        """As silver has them; those of before where it cannot be read, since what was told does not wait for it."""
        try:
            return before.of(self.shelf)
        except Exception as error:
            self._unread = True
            log.warning("new items of silver cannot be placed: %s: %s", type(error).__name__, error)
            return before

    def _looked(self, loaded: Loaded, base: _Base) -> None:
        """Silver is newer and says the same of newcomers; of some it may have the last word by now."""
        with self._lock:
            held = self._laid.get(loaded.pointer.version)
            if held is None or not held.is_over(loaded):
                return
            if any(
                self._superseded(base.newcomers, item) for item in base.newcomers.items & self.items.keys()
            ):
                self._lay(loaded, base)
                self._version += 1
            else:
                self._laid[loaded.pointer.version] = replace(held, base=base)

    def prepare(self, loaded: Loaded) -> None:
        """Before a release is swapped in: what shoppers see of new items does not go away with it. Where there are so many that
        they take longer than SWAP_SECONDS, the release comes first: it may be one that somebody goes back to in need."""

        def place() -> None:
            try:
                self.place(loaded)
            except Exception:  # its own items can be answered with; the overlay's thread tries again
                log.exception(
                    "new items could not be placed among those of version %s", loaded.pointer.version
                )

        placing = threading.Thread(target=place, name="overlay-of-the-next", daemon=True)
        placing.start()
        placing.join(SWAP_SECONDS)

    def placed_of(self, version: str) -> str:
        """Names the items of silver that lie over a release, see `Newcomers.name`."""
        held = self._laid.get(version)
        return held.base.newcomers.name if held else ""

    def _new_items(self, loaded: Loaded) -> dict[str, dict[str, Any]]:
        """What is shown of the items that a release does not know. Only what changed since the last look is looked at."""
        index, (looked, found) = loaded.recommender.catalogue.index, self._new.get(loaded.pointer, (0, set()))
        with self._lock:
            changes = self._changes[looked:]
        found |= {item for item in changes if item not in index}
        self._new = {
            held.loaded.pointer: self._new.get(held.loaded.pointer, (0, set()))
            for held in self._laid.values()
        }
        self._new[loaded.pointer] = (looked + len(changes), found)
        with self._lock:
            held = {item: self.items[item] for item in found if item in self.items}
            return {
                item: {name: told.get(name) for name in SHOWN}
                for item, told in held.items()
                if told.get("title") and not told.get("deleted")
            }

    def _forget(self) -> None:
        """What silver knows and every release that may be served shows, and users' words of last week, are not kept."""
        now = self.shelf.version, tuple(self._laid), int(time.time() // 3600)
        if now == self._forgotten or not self._laid:
            return
        self._forgotten = now
        laid = list(self._laid.values())
        known = [
            (item, told.newest)
            for item, told in list(self.items.items())
            if (shelved := self.shelf.of(item))
            and shelved.updated_at >= told.newest
            and all(
                self._superseded(each.base.newcomers, item) or shows(each.loaded.recommender, item, told)
                for each in laid
            )
        ]
        old = (time.time() - USERS_SECONDS) * 1_000_000
        users = [
            user
            for user, told in list(self.users.items())
            if told.newest < old and told.get("consent") is not False
        ]
        with self._lock:
            for item, told in self.items.items():
                if told.fields.keys() & {*FIELDS} and self._is_released(item):
                    told.fields = {name: each for name, each in told.fields.items() if name not in FIELDS}
            for item, newest in known:
                if self.items[item].newest == newest:
                    del self.items[item]
            for user in users:
                self.users.pop(user, None)


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != []}
