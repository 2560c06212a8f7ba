"""The newest events by user and by session, laid over the online store's history: an answer reflects what was just sent.

The store is as new as the last run of `features`; what came since is here, in bounded memory, and in the journal. An event
that both know counts once. A session whose user becomes known is theirs from its first event on. The other way round it is
not: a session id proves nothing of who somebody is, so that who asks with it alone is answered by what was done in it.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import batched
from typing import NamedTuple

from aisle import ratings
from aisle.columns import TAKES_BACK, UNDO
from aisle.erasures import Erased, merged
from aisle.settings import Settings
from engine.cut import Cut
from engine.state import UserState
from serving.told import Row

ATOMIC = 100  # rows taken at a time: an answer waits for them, at most a millisecond
SESSIONS = 50  # newest ones of a user that are joined with what they do
PREFERENCES = TAKES_BACK[UNDO]


class Event(NamedTuple):
    """Sorted as gold.user_history sorts: by time, then by what keeps equal moments in one order. micros: epoch."""

    micros: int
    item_id: str
    event_type: str
    quantity: float
    event_id: str
    accepted: int


@dataclass(slots=True)
class Recent:
    """Of one user or session. others: the sessions of a user, or the one user of a session. room: events, until they are cut."""

    room: int
    events: list[Event] = field(default_factory=list)  # a deque takes 600 bytes for its first one
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """What was said of a user since the release: None where nothing was. country: their segment, empty where it was cleared."""

    country: str | None = None
    consent: bool | None = None


def micros(moment: str) -> int:
    """Epoch microseconds of an ISO text with its zone.

    >>> micros("2026-11-25T08:30:00.000001+00:00")
    1795595400000001
    """
    return round(datetime.fromisoformat(moment).timestamp() * 1_000_000)


class Sessions:
    """Filled by the journal (`take`), read by the request path (`merged`).

    profile: what the overlay knows of a user.
    """

    def __init__(self, settings: Settings, profile: Callable[[str], Profile] = lambda _: Profile()):
        self.cut, self.most = Cut.of(settings.features), settings.writes.remember_rows
        self.rated = ratings.Bounds.of(settings.ingest)
        self.profile = profile
        self._held: OrderedDict[tuple[str, str], Recent] = (
            OrderedDict()
        )  # by kind of id and id, the latest last
        self._events = 0
        self._erased: dict[str, Erased] = {}
        self._erased_sessions: dict[str, int] = {}
        self._lock = threading.Lock()

    # -- the journal's side

    def take(self, kind: str, rows: list[Row]) -> None:
        for some in batched(rows, ATOMIC):
            with self._lock:
                if kind == "events":
                    for row in some:
                        self._add(row)
                elif kind == "erasures":
                    for row in some:
                        self._erase(Erased.of(row))

    def _add(self, row: Row) -> None:
        user, session, moment = row.get("user_id"), row.get("session_id"), micros(row["event_time"])
        of_session = 0 if user else self._erased_sessions.get(session, 0)  # what a user did is theirs alone
        erased = self._erased[user].at if user in self._erased else of_session
        if min(row["at"], moment) <= erased:
            return  # of before an erasure, whenever it is read or sent
        if user and session:
            mine, this = self._recent("user", user), self._recent("session", session)
            if session not in mine.others:
                mine.others = (*mine.others[1 - SESSIONS :], session)
            if this.others not in ((), (user,)):  # on a shared machine: what was before is not theirs
                self._events -= len(this.events)
                this.events.clear()
            this.others = (user,)
        if row.get("item_id"):
            quantity = float(row.get("quantity") or 1.0)
            event_type = self.rated.kind_of(row["event_type"], row.get("value"))
            event = Event(moment, row["item_id"], event_type, quantity, row["event_id"], row["at"])
            for kind, name in (("user", user), ("session", session)):
                if name:
                    recent = self._recent(kind, name)
                    recent.events.append(event)
                    self._events += 1
                    if len(recent.events) > recent.room:
                        self._cut(recent)
        while self._events > self.most or len(self._held) > self.most:
            self._events -= len(self._held.popitem(last=False)[1].events)

    def _recent(self, kind: str, name: str) -> Recent:
        found = self._held.get((kind, name))
        if found is None:
            found = self._held[kind, name] = Recent(self.cut.length)
        else:
            self._held.move_to_end((kind, name))
        return found

    def _cut(self, recent: Recent) -> None:
        """What is kept beyond the length leaves no room; some is left, so that not each event costs a cut."""
        events = sorted({event.event_id: event for event in recent.events}.values(), reverse=True)
        places = self.cut.kept([event.item_id for event in events], [event.event_type for event in events])
        self._events -= len(recent.events) - len(places)
        recent.events = [events[place] for place in places]
        recent.room = max(self.cut.length, len(places) + self.cut.length // 4)

    def _erase(self, erased: Erased) -> None:
        before = self._erased.get(erased.user_id, erased)
        self._erased[erased.user_id] = merged([before, erased])[erased.user_id]
        for session in erased.sessions:
            self._erased_sessions[session] = max(erased.at, self._erased_sessions.get(session, 0))
        theirs = [
            key
            for key, held in self._held.items()
            if key[0] == "session" and held.others == (erased.user_id,)
        ]
        for key in {
            ("user", erased.user_id),
            *theirs,
            *(("session", session) for session in erased.sessions),
        }:
            held = self._held.get(key)
            another = key[0] == "session" and held and held.others not in ((), (erased.user_id,))
            if held is not None and not another:  # a session that another user took over is theirs alone
                later = [event for event in held.events if event.accepted > erased.at]
                self._events -= len(held.events) - len(later)
                held.events, held.others = later, ()

    # -- the request's side

    def user_of(self, session_id: str) -> str | None:
        """Whose session it is, once an event named both."""
        with self._lock:
            held = self._held.get(("session", session_id))
            return next(iter(held.others), None) if held else None

    def sessions_of(self, user_id: str) -> list[str]:
        """All that are known here to be this user's, or were before somebody else took one over: more than the newest SESSIONS."""
        with self._lock:
            user, held = self._held.get(("user", user_id)), list(self._held.items())
        theirs = {name for (kind, name), each in held if kind == "session" and each.others == (user_id,)}
        return sorted(theirs.union(user.others if user else ()))

    def erasure(self, user_id: str) -> Erased | None:
        """Of a person who was erased; None for all others."""
        return self._erased.get(user_id)

    def standing(self, user_id: str | None, session_id: str | None) -> tuple[int, bool]:
        """(when what was known of who asks was erased last, whether they consent): what was made of their history when it
        was another one is to be used no more.
        """
        owner = user_id or (self.user_of(session_id) if session_id else None)
        erased = self._erased.get(owner) if owner else None
        of_session = self._erased_sessions.get(session_id, 0) if session_id else 0
        consents = not owner or self.profile(owner).consent is not False
        return max(erased.at if erased else 0, of_session), consents

    def recent(self, user_id: str | None, session_id: str | None) -> list[Event]:
        """What came in of a user, their sessions and this session, newest first, each event once; without a user, of this
        session alone.
        """
        with self._lock:
            user = self._held.get(("user", user_id)) if user_id else None
            names = {session_id} if session_id else set()
            names |= set(user.others) if user else set()
            held = [user] if user else []
            # A session that another user has taken over since is theirs alone.
            held += [
                found
                for name in names
                if (found := self._held.get(("session", name)))
                and (not user_id or set(found.others) <= {user_id})
            ]
            events = {event.event_id: event for each in held for event in each.events}
        return sorted(events.values(), reverse=True)

    def merged(self, state: UserState, user_id: str | None, session_id: str | None) -> UserState:
        """The state with what came in since, newest first, cut as engine.cut says.

        Nothing of who was erased before that, nothing of who does not consent, and no preference that was taken back.
        """
        owner = user_id or (self.user_of(session_id) if session_id else None)
        profile = self.profile(owner) if owner else Profile()
        if profile.country is not None and user_id:
            state = replace(state, country=profile.country or None)  # empty: it was cleared
        erased = self._erased.get(user_id) if user_id else None
        if erased:
            state = _since(state, erased, profile)
        if profile.consent is False:
            return UserState(state.user_id, state.country)
        fresh = self.recent(user_id, session_id)
        if not fresh and not _takes_back(state):
            return state
        return without_undone(laid_over(state, fresh, self.cut))


def _since(state: UserState, erased: Erased, profile: Profile) -> UserState:
    """What the store may still hold of an erased person goes; a country only where it was told afterwards."""
    places = [place for place, second in enumerate(state.event_times) if second * 1_000_000 > erased.at]
    return _picked(replace(state, country=profile.country or None), places)


def _picked(state: UserState, places: Iterable[int]) -> UserState:
    places = list(places)
    return replace(
        state,
        item_ids=[state.item_ids[place] for place in places],
        event_types=[state.event_types[place] for place in places],
        event_times=[state.event_times[place] for place in places],
        quantities=[state.quantities[place] for place in places] if len(state.quantities) else (),
    )


def laid_over(state: UserState, fresh: list[Event], cut: Cut) -> UserState:
    """The store's events and the fresh ones that it lacks, newest first, cut.

    The store knows no ids: as many events of one item, type, second and quantity as it has are held to be the same ones.
    """
    if not fresh:
        return state
    oldest, told = fresh[-1].micros // 1_000_000, bool(len(state.quantities))
    quantities = state.quantities if told else [1.0] * len(state.item_ids)
    among = next((place for place, at in enumerate(state.event_times) if at < oldest), len(state.event_times))
    stored = [  # those that fresh ones may come between, or be; the others follow as they are
        (
            int(state.event_times[place]) * 1_000_000,
            state.item_ids[place],
            state.event_types[place],
            quantities[place],
        )
        for place in range(among)
    ]
    known = Counter((at // 1_000_000, item, kind, quantity) for at, item, kind, quantity in stored)
    added: list[tuple[int, str, str, float]] = []
    for event in fresh:
        same = event.micros // 1_000_000, event.item_id, event.event_type, event.quantity if told else 1.0
        if known[same] > 0:
            known[same] -= 1
        else:
            added.append(event[:4])
    if not added:
        return state
    rows, rest = list(heapq.merge(added, stored, reverse=True)), slice(among, None)
    whole = replace(
        state,
        item_ids=[row[1] for row in rows] + list(state.item_ids[rest]),
        event_types=[row[2] for row in rows] + list(state.event_types[rest]),
        event_times=[row[0] // 1_000_000 for row in rows] + [int(at) for at in state.event_times[rest]],
        quantities=[row[3] for row in rows] + list(quantities[rest]),
    )
    places = cut.kept(whole.item_ids, whole.event_types)
    return whole if len(places) == len(whole.item_ids) else _picked(whole, places)


def without_undone(state: UserState) -> UserState:
    """Without the preferences and ratings that were taken back afterwards, and without the taking back itself."""
    if not _takes_back(state):
        return state
    undone: set[tuple[str, str]] = set()
    places = []
    for place, (item, kind) in enumerate(zip(state.item_ids, state.event_types, strict=True)):
        if kind in TAKES_BACK:
            undone.update((item, each) for each in TAKES_BACK[kind])
        elif (item, kind) not in undone:
            places.append(place)
    return _picked(state, places)


def _takes_back(state: UserState) -> bool:
    return not TAKES_BACK.keys().isdisjoint(state.event_types)
