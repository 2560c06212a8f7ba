"""What came in since, over what the store has: the same history as silver and gold would make of the same events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from aisle import settings as settings_module
from aisle.settings import Settings
from engine.cut import Cut
from engine.state import UserState
from serving.sessions import Profile, Sessions, without_undone

START = datetime(2026, 11, 25, 8, tzinfo=UTC).timestamp()
Row = dict[str, Any]


def row(number: int, second: float = 0.0, kind: str = "view", item: str | None = "i1", **more: Any) -> Row:
    moment = datetime.fromtimestamp(START + second, UTC).isoformat(timespec="microseconds")
    found = {
        "event_id": f"e{number}",
        "event_type": kind,
        "event_time": moment,
        "item_id": item,
        "at": number + 1,
    }
    return {name: value for name, value in {**found, **more}.items() if value is not None}


def taken(settings: Settings, rows: list[Row], **more: Any) -> Sessions:
    found = Sessions(settings, **more)
    for each in rows:
        found.take("events", [each])
    return found


def gold(rows: list[Row], cut: Cut = Cut(500, 200, 2000)) -> UserState:
    """As jobs.silver and jobs.user_history make it: one row an id, newest first, ties by item, type and quantity, cut."""
    once = list({each["event_id"]: each for each in reversed(rows)}.values())
    kept = sorted(
        (
            (each["event_time"], each["item_id"], each["event_type"], float(each.get("quantity", 1.0)))
            for each in once
            if each.get("user_id") and each.get("item_id")
        ),
        reverse=True,
    )
    kept = [kept[place] for place in cut.kept([each[1] for each in kept], [each[2] for each in kept])]
    times = [int(datetime.fromisoformat(each[0]).timestamp()) for each in kept]
    return UserState(
        "u", None, [each[1] for each in kept], [each[2] for each in kept], times, [each[3] for each in kept]
    )


def parts(state: UserState) -> tuple:
    return (
        list(state.item_ids),
        list(state.event_types),
        [int(each) for each in state.event_times],
        [float(each) for each in state.quantities],
    )


events = st.lists(
    st.builds(
        lambda number, second, kind, item, quantity: row(
            number, second, kind, item, user_id="u", quantity=str(quantity)
        ),
        st.integers(0, 25),
        st.integers(0, 12),
        st.sampled_from(["view", "cart", "purchase", "search", "impression", "hide", "undo", "rating"]),
        st.sampled_from(["i1", "i2", "i3"]),
        st.sampled_from([1.0, 2.0]),
    ),
    max_size=40,
).map(lambda rows: list({each["event_id"]: each for each in rows}.values()))  # an id stands for one event


@how(max_examples=300, deadline=None)
@given(events, st.data())
def test_merged_is_what_silver_and_gold_would_say(rows: list[Row], data: st.DataObject) -> None:
    """Whatever the order of arrival, however often sent, and wherever the store's knowledge ends."""
    settings = settings_module.load()
    sent = data.draw(st.permutations(rows + rows[:5]))
    known = data.draw(
        st.lists(st.sampled_from(rows), unique_by=lambda each: each["event_id"]) if rows else st.just([])
    )
    length = data.draw(st.integers(1, 30))
    cut = Cut(length, data.draw(st.integers(0, length)), data.draw(st.sampled_from([0, 2, 4, 100])))
    found = Sessions(settings)
    found.cut = data.draw(st.sampled_from([Cut(500, 200, 2000), cut]))  # kept; what is shown is cut below
    for each in sent:
        found.take("events", [each])
    found.cut = cut
    store = gold(known, cut)
    assert parts(found.merged(store, "u", None)) == parts(without_undone(gold(rows, cut)))


def test_an_event_that_the_store_has_counts_once_and_two_alike_twice(settings: Settings) -> None:
    rows = [row(1, user_id="u", kind="purchase"), row(2, user_id="u", kind="purchase")]
    found = taken(settings, rows)
    store = UserState("u", "France", ["i1"], ["purchase"], [int(START)], [1.0])
    assert parts(found.merged(store, "u", None))[0] == ["i1", "i1"]
    assert found.merged(store, "u", None).country == "France"
    both = UserState("u", "France", ["i1", "i1"], ["purchase"] * 2, [int(START)] * 2, [1.0, 1.0])
    assert found.merged(both, "u", None) is both


def test_a_history_without_quantities_stays_whole(settings: Settings) -> None:
    found = taken(settings, [row(1, 5, user_id="u")])
    state = found.merged(UserState("u", None, ["i9"], ["purchase"], [1]), "u", None)
    assert parts(state) == (["i1", "i9"], ["view", "purchase"], [int(START) + 5, 1], [1.0, 1.0])


def test_a_session_alone_and_joined_with_its_user(settings: Settings) -> None:
    found = taken(settings, [row(1, 1, session_id="s"), row(2, 2, item="i2", session_id="s")])
    assert parts(found.merged(UserState(""), None, "s"))[0] == ["i2", "i1"]
    assert found.merged(UserState("u"), "u", None) == UserState("u")
    assert parts(found.merged(UserState("u"), "u", "s"))[0] == ["i2", "i1"]  # both named in the question
    found.take("events", [row(3, 3, item="i3", session_id="s", user_id="u")])
    assert parts(found.merged(UserState("u"), "u", None))[0] == ["i3", "i2", "i1"]
    assert parts(found.merged(UserState(""), None, "s"))[0] == ["i3", "i2", "i1"]
    assert (found.user_of("s"), found.sessions_of("u")) == ("u", ["s"])


def test_a_session_that_another_user_takes_over_is_theirs(settings: Settings) -> None:
    """A shared machine: what the second one does there says nothing of the first."""
    found = taken(
        settings, [row(1, session_id="s", user_id="a"), row(2, item="i2", session_id="s", user_id="b")]
    )
    found.take("events", [row(3, 9, item="i3", session_id="s")])
    assert parts(found.merged(UserState("a"), "a", None))[0] == ["i1"]
    assert parts(found.merged(UserState("a"), "a", "s"))[0] == ["i1"]
    assert parts(found.merged(UserState("b"), "b", None))[0] == ["i3", "i2"]


def test_memory_is_bounded(settings: Settings) -> None:
    small = settings.model_copy(update={"writes": settings.writes.model_copy(update={"remember_rows": 100})})
    found = Sessions(small)
    for number in range(1000):
        found.take("events", [row(number, number, user_id=f"u{number % 300}", session_id=f"s{number}")])
    assert found._events <= 100
    assert len(found._held) <= 100
    assert sum(len(each.events) for each in found._held.values()) == found._events
    for number in range(1000):  # one user with ever new sessions, and no item
        found.take("events", [row(number, 0, "search", None, user_id="bot", session_id=f"b{number}")])
    assert len(found._held) <= 100
    assert len(found._held["user", "bot"].others) <= 50
    assert len(found.sessions_of("bot")) == 99, "all that are held"
    found.take("events", [row(2000, 2000, user_id="u99")])
    assert parts(found.merged(UserState("u99"), "u99", None))[0] == ["i1"]


@pytest.mark.parametrize("said", ["like", "dislike", "hide"])
def test_what_is_taken_back_is_as_if_never_said(settings: Settings, said: str) -> None:
    rows = [
        row(1, 0, "purchase", user_id="u"),
        row(2, 1, said, user_id="u"),
        row(3, 2, said, "i2", user_id="u"),
    ]
    found = taken(settings, [*rows, row(4, 3, "undo", user_id="u")])
    assert parts(found.merged(UserState("u"), "u", None))[:2] == (["i2", "i1"], [said, "purchase"])
    found.take("events", [row(5, 4, said, user_id="u")])  # and said anew
    assert parts(found.merged(UserState("u"), "u", None))[1] == [said, said, "purchase"]
    store = gold([*rows, row(4, 3, "undo", user_id="u")])  # the same, when the store has it all
    assert parts(Sessions(settings).merged(store, "u", None))[:2] == (["i2", "i1"], [said, "purchase"])


def test_who_is_erased_has_no_history_and_may_begin_anew(settings: Settings) -> None:
    rows = [row(1, user_id="u", session_id="s"), row(2, session_id="s")]
    found = taken(settings, rows)
    store = UserState("u", "France", ["i9"], ["purchase"], [int(START) - 9], [1.0])
    found.take("erasures", [{"user_id": "u", "sessions": ["s"], "at": int(START + 60) * 1_000_000}])
    assert found.merged(store, "u", "s") == UserState("u", None, [], [], [], [])
    assert not len(found.merged(UserState(""), None, "s").item_ids)
    for each in rows:  # read again, as after a restart or from another process
        found.take("events", [each])
    found.take("events", [row(9, 1, user_id="u") | {"at": int(START + 90) * 1_000_000}])  # sent late
    assert not len(found.merged(store, "u", "s").item_ids)
    later = row(3, 120, item="i3", user_id="u", session_id="s") | {"at": int(START + 120) * 1_000_000}
    found.take("events", [later])
    assert parts(found.merged(store, "u", None))[0] == ["i3"]


def test_who_asks_with_a_session_alone_hears_of_that_session_alone(settings: Settings) -> None:
    """A session id is no proof of who somebody is, and anybody may send an event that names theirs and another's user."""
    rows = [
        row(1, 1, user_id="u"),
        row(2, 2, item="i2", user_id="u", session_id="home"),
        row(3, 3, item="i3", user_id="u", session_id="put upon"),
    ]
    found = taken(settings, rows, profile=lambda _: Profile("Spain"))
    alone = found.merged(UserState(""), None, "put upon")
    assert (parts(alone)[0], alone.country) == (["i3"], None)
    assert parts(found.merged(UserState("u"), "u", None))[0] == ["i3", "i2", "i1"]


def test_an_erasure_takes_what_was_done_in_more_sessions_than_are_joined(settings: Settings) -> None:
    rows = [row(number, number, user_id="u", session_id=f"s{number}") for number in range(60)]
    live = taken(settings, rows)
    sessions = live.sessions_of("u")
    assert len(sessions) == 60
    erasure = {"user_id": "u", "sessions": sessions, "at": int(START + 90) * 1_000_000}
    live.take("erasures", [erasure])
    again = Sessions(
        settings
    )  # a restart reads the erasures first, then what was done before it was known whose it is
    again.take("erasures", [erasure])
    again.take("events", [row(100 + number, number, session_id=f"s{number}") for number in range(60)])
    for found in (live, again):
        assert not any(len(found.merged(UserState(""), None, f"s{number}").item_ids) for number in range(60))
        assert found._events == 0


def test_an_erasure_takes_nothing_of_who_took_the_session_over(settings: Settings) -> None:
    rows = [
        row(1, session_id="s"),
        row(2, item="i2", session_id="s", user_id="a"),
        row(3, item="i3", session_id="s", user_id="b"),
    ]
    erasure = {"user_id": "a", "sessions": ["s"], "at": int(START + 60) * 1_000_000}
    live = taken(settings, rows)
    live.take("erasures", [erasure])
    again = Sessions(settings)  # a restart reads the erasures first
    again.take("erasures", [erasure])
    again.take("events", rows)
    for found in (live, again):
        assert parts(found.merged(UserState("b"), "b", None))[0] == ["i3"]
        assert parts(found.merged(UserState(""), None, "s"))[0] == ["i3"]
        assert found.merged(UserState("a"), "a", None).item_ids == []


def test_who_does_not_consent_gets_what_strangers_get(settings: Settings) -> None:
    found = taken(settings, [row(1, user_id="u")], profile=lambda _: Profile("Spain", False))
    store = UserState("u", "France", ["i9"], ["purchase"], [1], [1.0])
    assert found.merged(store, "u", None) == UserState("u", "Spain")
