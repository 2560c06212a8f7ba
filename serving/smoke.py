"""The smoke check of a staged bundle: `python -m serving.smoke BUNDLE`, a process that has seen nothing else.

Reads the plan of serving.sample as JSON from stdin; the last line of stdout is what it found: {"verdict",
"faults", "asked", "latency_ms", "memory_mb", ...}. Exit code 0 whatever the verdict; a crash is a verdict
too.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from aisle import settings as settings_module
from aisle.errors import AisleError
from engine.recommender import Recommended, Recommender
from engine.state import UserState
from serving import alone, release
from serving.features import OnlineStore, Store
from serving.view import View

NOBODY = "smoke check: no such user"


class Smoke:
    """Asks a recommender and collects faults; each says what was asked and what was wrong with the answer."""

    def __init__(self, recommender: Recommender, k: int, deleted: list[str]):
        self.recommender, self.k, self.deleted = recommender, k, set(deleted)
        self.view = View.of(recommender)
        self.faults: list[str] = []
        self.milliseconds: list[float] = []
        self.rungs: dict[str, int] = {}

    def ask(self, state: UserState) -> None:
        """The same answer that the API gives, and that it is a sound one."""
        started = time.perf_counter()
        found = alone.answer(self.view, state, self.k)
        self.milliseconds.append((time.perf_counter() - started) * 1000)
        self.rungs[found.rung] = self.rungs.get(found.rung, 0) + 1
        who = f"user {state.user_id!r} in {state.country}"
        if found.degraded:
            self.faults.append(f"{who}: {found.degraded}")
        self.judge(who, found.items)

    def similar(self, item_id: str) -> None:
        found = self.recommender.similar(item_id, self.k)
        self.judge(f"similar to {item_id!r}", found)
        if item_id in {each.item_id for each in found}:
            self.faults.append(f"similar to {item_id!r}: names the item itself")

    def judge(self, what: str, items: list[Recommended]) -> None:
        """No empty answer, no repeated, deleted or unknown item, no score that is no number, best first."""
        ids = [each.item_id for each in items]
        scores = np.array([each.score for each in items], dtype=float)
        if not items:
            self.faults.append(f"{what}: an empty answer")
            return
        if len(set(ids)) < len(ids) or len(ids) > self.k:
            self.faults.append(f"{what}: {len(ids)} items, {len(set(ids))} different, for k = {self.k}")
        if not np.isfinite(scores).all():
            self.faults.append(f"{what}: {int((~np.isfinite(scores)).sum())} scores are no numbers")
        for item in self.deleted.intersection(ids):
            self.faults.append(f"{what}: the deleted item {item!r}")
        for item in ids:
            self._known(what, item)

    def _known(self, what: str, item: str) -> None:
        try:
            if not self.recommender.item(item).get("title"):
                self.faults.append(f"{what}: item {item!r} has no title")
        except KeyError:
            self.faults.append(f"{what}: the unknown item {item!r}")


def check(store: Store, bundle: Path, plan: dict) -> dict:
    """Everything that the plan asks, with histories from `store`. Raises BundleRejected, FeatureMismatch."""
    started = time.perf_counter()
    if release.digest(bundle) != plan["digest"]:
        raise AisleError(f"{bundle} is not the bundle that the plan was made for")
    recommender = Recommender.load(bundle)
    loaded = time.perf_counter() - started
    service = recommender.recipe.feature_service
    store.check(service)
    states = store.read(service, plan["users"]) if plan["users"] else []
    smoke = Smoke(recommender, plan["k"], plan["deleted"])
    smoke.faults += recommender.faults()
    _known_users(smoke, states)
    for country in (None, *plan["countries"]):
        smoke.ask(UserState(NOBODY, country))
    for each in recommender.popular(None, plan["k"]):
        smoke.similar(each.item_id)
    return {
        "verdict": "failed" if smoke.faults else "passed",
        "faults": smoke.faults,
        "asked": {"users": len(states), "countries": len(plan["countries"]), "rungs": smoke.rungs},
        "as_of": recommender.recipe.cut.isoformat(),
        "feature_service": service,
        "load_seconds": round(loaded, 3),
        "latency_ms": {f"p{q}": round(float(np.percentile(smoke.milliseconds, q)), 2) for q in (50, 95)},
        "memory_mb": round(psutil.Process().memory_info().rss / 1e6),
    }


def _known_users(smoke: Smoke, states: list[UserState]) -> None:
    """Known users must have their histories online, and most of them an answer of their own."""
    without = [state.user_id for state in states if not len(state.item_ids)]
    if len(without) * 2 > len(states):
        smoke.faults.append(
            f"{len(without)} of {len(states)} known users have no history in the online store, such as "
            f"{without[0]!r}: run the features DAG first"
        )
    for state in states:
        smoke.ask(state)
    if states and not smoke.faults and not smoke.rungs.get("personalised"):
        smoke.faults.append(f"none of {len(states)} known users got an answer of their own")


def main() -> None:
    plan = json.load(sys.stdin)
    try:
        found = check(OnlineStore(settings_module.load()), Path(sys.argv[1]), plan)
    except AisleError as error:
        found = {"verdict": "failed", "faults": [f"{type(error).__name__}: {error}"]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
