"""`aisle compare A B`: two versions' lists side by side, for chosen users and as figures over a sample.

Both answer from the same histories, gold's newest, at the same moment, so that what differs is the model. Versions come from
the releases on disk where they were staged, else from the registry.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from aisle import clock, features
from aisle.errors import NotThere, SettingsError
from aisle.settings import Settings
from aisle.terminal import rendered
from engine.recommender import Recommended, Recommender
from engine.slices import HEAVY_EVENTS, LIGHT_EVENTS
from engine.state import UserState, from_frame
from serving import reasons, release

SAMPLE = 500  # users whose lists the figures compare
SHOWN = 2  # light and heavy users each, where none is named


@dataclass(frozen=True)
class Pair:
    """The two versions, by name."""

    names: tuple[str, str]
    models: tuple[Recommender, Recommender]

    def now(self, state: UserState) -> datetime:
        """The later cut, or the user's newest event if later: one moment for both."""
        newest = datetime.fromtimestamp(max(state.event_times, default=0), UTC)
        cuts = [each.recipe.cut for each in self.models if each.recipe.cut]
        return max([newest, *cuts])


def compare(
    settings: Settings,
    first: str,
    second: str,
    users: Sequence[str] = (),
    k: int | None = None,
    as_json: bool = False,
) -> str:
    """The tables, or JSON. Raises NotThere for an unknown version or user, SettingsError for a question that is none."""
    k = settings.serving.k if k is None else k
    if not 1 <= k <= settings.serving.max_k:
        raise SettingsError(f"-k must be 1 to {settings.serving.max_k}, not {k}")
    if first == second:
        raise SettingsError(
            f"version {first!r} against itself shows nothing: name two; `aisle models` lists them"
        )
    with tempfile.TemporaryDirectory() as scratch:
        pair = Pair((first, second), tuple(_load(settings, each, Path(scratch)) for each in (first, second)))  # type: ignore[arg-type]
        known = _histories()
        seed = settings.training.seed
        chosen = _named(known, users) if users else handful(known, seed)
        lists = [_side_by_side(pair, state, k) for state in chosen]
        found = {"versions": [first, second], "k": k, **agreement(pair, known, k, seed), "users": lists}
    if as_json:
        return json.dumps(found, ensure_ascii=False, indent=1)
    return "\n\n".join([_figures(found), *(_table(pair, each) for each in lists)])


def _load(settings: Settings, version: str, scratch: Path) -> Recommender:
    staged = release.folder(version) / "bundle"
    if (staged / release.MANIFEST).exists():
        return Recommender.load(staged)
    from aisle.registry import Registry

    return Recommender.load(Registry(settings).download(version, scratch / version) / "artifacts" / "bundle")


def _histories() -> list[UserState]:
    """Everybody with a history at the newest built point."""
    built = features.built()
    if built is None:
        raise NotThere("gold has no histories yet to compare lists for: `aisle run features`, then ask again")
    return from_frame(features.histories(clock.parse(built.as_of)))


def _named(known: Sequence[UserState], users: Sequence[str]) -> list[UserState]:
    there = {state.user_id: state for state in known}
    missing = [user for user in users if user not in there]
    if missing:
        raise NotThere(
            f"no history of {', '.join(map(repr, missing))}; users are named as in the imported events"
        )
    return [there[user] for user in users]


def handful(known: Sequence[UserState], seed: int) -> list[UserState]:
    """SHOWN light and SHOWN heavy users, drawn with the seed; fewer where the shop has none."""
    rng = np.random.default_rng(seed)
    lengths = np.array([len(state.item_ids) for state in known])
    found: list[UserState] = []
    for group in (
        np.flatnonzero((lengths > 0) & (lengths <= LIGHT_EVENTS)),
        np.flatnonzero(lengths >= HEAVY_EVENTS),
    ):
        found += [known[row] for row in np.sort(rng.permutation(group)[:SHOWN])]
    return found


def agreement(pair: Pair, known: Sequence[UserState], k: int, seed: int) -> dict[str, Any]:
    """n_users, overlap and rank_correlation: means over a seeded sample of the users.

    overlap: share of a list of k that the other has too. rank_correlation: Kendall's tau over the items of both lists, an
    item that a list lacks being behind all of its own; Fagin, Kumar and Sivakumar, Comparing top k lists (2003).
    """
    rows = np.random.default_rng(seed).permutation(len(known))[:SAMPLE]
    states = [known[row] for row in np.sort(rows) if len(known[row].item_ids)]
    if not states:
        return {"n_users": 0, "overlap": None, "rank_correlation": None}
    now = max(pair.now(state) for state in states)
    ours, theirs = (model.batch(states, k, now)[0] for model in pair.models)
    lists = [
        ([i for i in a if i], [i for i in b if i])
        for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)
    ]
    return {
        "n_users": len(states),
        "overlap": round(float(np.mean([len({*a} & {*b}) / max(len(a), len(b), 1) for a, b in lists])), 4),
        "rank_correlation": round(float(np.mean([tau(a, b) for a, b in lists])), 4),
    }


def tau(first: Sequence[str], second: Sequence[str]) -> float:
    """Kendall's tau-b of two lists over the items of both: 1 for the same list, well below 0 for lists that share nothing.

    >>> tau(["a", "b", "c"], ["a", "b", "c"]), tau(["a", "b"], ["c", "d"])
    (1.0, -0.8)
    """
    items = sorted({*first, *second})
    places = [
        np.array([listed.index(item) if item in listed else len(listed) for item in items])
        for listed in (list(first), list(second))
    ]
    signs = [np.sign(each[:, None] - each[None, :])[np.triu_indices(len(items), 1)] for each in places]
    size = np.sqrt(np.abs(signs[0]).sum() * np.abs(signs[1]).sum())
    return float((signs[0] * signs[1]).sum() / size) if size else 1.0


def _side_by_side(pair: Pair, state: UserState, k: int) -> dict[str, Any]:
    now = pair.now(state)
    lists = [model.recommend(state, k, now) for model in pair.models]
    ids = [[each.item_id for each in listed] for listed in lists]
    return {
        "user_id": state.user_id,
        "n_events": len(state.item_ids),
        "overlap": round(len({*ids[0]} & {*ids[1]}) / max(len(ids[0]), len(ids[1]), 1), 4),
        "lists": [
            [_item(model, each, ids[1 - side]) for each in listed]
            for side, (model, listed) in enumerate(zip(pair.models, lists, strict=True))
        ],
    }


def _item(model: Recommender, each: Recommended, other: list[str]) -> dict[str, Any]:
    """One place of a list. other_place: from 1, where the other list has the item; None where it does not."""
    reason = reasons.of(each.reason)
    return {
        "item_id": each.item_id,
        "title": str(model.item(each.item_id)["title"] or each.item_id),
        "score": round(each.score, 6),
        "source": reason.source,
        "why": reason.text,
        "other_place": other.index(each.item_id) + 1 if each.item_id in other else None,
    }


def _figures(found: dict[str, Any]) -> str:
    first, second = found["versions"]
    head = f"version {first} beside version {second}, lists of {found['k']}"
    if not found["n_users"]:
        return f"{head}: nobody has a history to compare them for"
    return (
        f"{head}, over {found['n_users']} users: overlap {found['overlap']:.3f}, "
        f"rank correlation {found['rank_correlation']:+.3f}\n"
        "= the same place in both, ↑↓ how many places up or down in this list, * in this list alone"
    )


def _table(pair: Pair, shown: dict[str, Any]) -> str:
    from rich.table import Table
    from rich.text import Text

    heading = f"User {shown['user_id']}: {shown['n_events']} events, overlap {shown['overlap']:.2f}"
    table = Table(title=Text(heading), title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    for name in pair.names:
        table.add_column("", no_wrap=True)
        table.add_column(Text(f"version {name}"), ratio=2)
        table.add_column("why", ratio=2)
    ours, theirs = shown["lists"]
    for place in range(max(len(ours), len(theirs))):
        cells = [str(place + 1)]
        for listed in (ours, theirs):
            cells += _cells(listed[place], place + 1) if place < len(listed) else ["", "", ""]
        table.add_row(*map(Text, cells))
    return rendered(table)


def _cells(each: dict[str, Any], place: int) -> list[str]:
    other = each["other_place"]
    if other is None:
        mark = "*"
    else:
        mark = "=" if other == place else f"{'↑' if other > place else '↓'}{abs(other - place)}"
    return [mark, f"{each['title']} ({each['item_id']})", each["why"]]
