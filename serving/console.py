"""`aisle recommend`: the released model's answer in the terminal, without the API and without Feast's import.

A user's history is read from gold.user_history as of the newest built point, the very rows that the online store was
filled from: 0.2 s instead of the seconds that importing Feast costs. A session's is read from silver.
"""

from __future__ import annotations

import json

from aisle import clock, features, lake, ratings
from aisle.errors import NotThere, SettingsError
from aisle.settings import Settings
from aisle.terminal import rendered
from engine.cut import Cut
from engine.state import UserState, from_frame
from serving import alone, live, release
from serving.alone import Answer
from serving.schemas import RecommendedItem
from serving.view import View


def recommend(
    settings: Settings,
    user: str | None = None,
    item: str | None = None,
    session: str | None = None,
    k: int | None = None,
    explain: bool = False,
    as_json: bool = False,
) -> str:
    """The answer as a table, or as JSON.

    Raises NotThere without a release, SettingsError for a question that is none.
    """
    k = settings.serving.k if k is None else k
    _check(settings, user, item, session, k)
    pointer = release.current()
    if pointer is None:
        raise NotThere(
            "nothing is released yet: run `make demo`, or `aisle run train` and then `aisle run publish`"
        )
    view = View.of(live.load(pointer), pointer.version)
    if item is not None:
        found = Answer("similar", alone.similar(view, item, k))
        heading = f"Similar to {view.recommender.item(item)['title']} ({item})"
    else:
        state = _user(settings, user) if user is not None else _session(settings, session)
        found = alone.answer(view, state, k)
        heading = _heading(state, user, session)
    if as_json:
        return _json(pointer.version, found)
    return _table(f"{heading}\n{found.rung}, version {pointer.version}", found.items, explain)


def _check(settings: Settings, user: str | None, item: str | None, session: str | None, k: int) -> None:
    faults = []
    if sum(each is not None for each in (user, item, session)) != 1:
        faults.append("name one of --user, --item and --session")
    if not 1 <= k <= settings.serving.max_k:
        faults.append(f"-k must be 1 to {settings.serving.max_k}, not {k}")
    if faults:
        raise SettingsError("; ".join(faults))


def _user(settings: Settings, user: str) -> UserState:
    """A user's newest row of gold; without one, a user of whom nothing is known."""
    built = features.built()
    if built is None:
        return UserState(user)
    found = features.histories(clock.parse(built.as_of), user)
    return UserState(user) if found.empty else from_frame(found)[0]


def _session(settings: Settings, session: str) -> UserState:
    """A session's own events with items, newest first. Its country is not known."""
    columns = ["session_id", "user_id", "item_id", "event_type", "event_time", "quantity", "value"]
    events = lake.read_frame("silver.interactions", columns=columns, filters=[("session_id", "=", session)])
    events = events[events["item_id"].notna()].sort_values("event_time", ascending=False)
    cut, rated = Cut.of(settings.features), ratings.Bounds.of(settings.ingest)
    said = zip(events["event_type"], events["value"], strict=True)
    events["event_type"] = [rated.kind_of(kind, value) for kind, value in said]
    events = events.iloc[list(cut.kept(events["item_id"].tolist(), events["event_type"].tolist()))]
    times = events["event_time"].astype("datetime64[s, UTC]").astype("int64")
    return UserState(
        session,
        None,
        events["item_id"].tolist(),
        events["event_type"].tolist(),
        times.tolist(),
        events["quantity"].fillna(1.0).tolist(),
    )


def _heading(state: UserState, user: str | None, session: str | None) -> str:
    who = f"User {user}" if user is not None else f"Session {session}"
    if not len(state.item_ids):
        return f"{who}: nothing is known of it"
    where = f" in {state.country}" if state.country else ""
    return f"{who}{where}: {len(state.item_ids)} events"


def _json(version: str, found: Answer) -> str:
    items = [each.model_dump() for each in found.items]
    return json.dumps(
        {"model_version": version, "rung": found.rung, "items": items}, ensure_ascii=False, indent=1
    )


def _table(heading: str, items: list[RecommendedItem], explain: bool) -> str:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(heading), title_justify="left", show_edge=False, pad_edge=False)
    columns = ["#", "item", "title", "price", "score", "why", *(["parts of the score"] if explain else [])]
    for name in columns:
        side = "right" if name in ("#", "price", "score") else "left"
        table.add_column(name, justify=side, no_wrap=name in ("#", "item", "price", "score"))
    for place, each in enumerate(items, 1):
        price = "" if each.price is None else f"{each.price:.2f}"
        cells = [str(place), each.item_id, each.title, price, f"{each.score:.3f}", each.reason.text]
        if explain:
            cells.append(", ".join(f"{source} {part:.3f}" for source, part in each.reason.parts.items()))
        table.add_row(*map(Text, cells))
    return rendered(table)
