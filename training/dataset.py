"""The training set (step `train.dataset`): features through Feast as they were known, labels from silver.

Writes `dataset/` into the run's folder. Four cuts: the gated model is trained up to T, its blend and ranker are chosen on
[V, T), the ranker and the number of epochs learn from [R, V), the gate reads [T, A), and what is released is refitted up to
A = `as_of`. A shop too young for R goes without a ranker, and a younger one yet gets shorter windows. Where nobody buys, "bought" is
what stands for it (aisle.goal). Where nothing was bought in the newest days (a shop whose visitors only
look, or a demo whose purchases are of another year), A is the newest midnight after a purchase with one in either window instead, and the result says so.

- examples.parquet: one row per user and purchase day: user_id, event_timestamp (that midnight, UTC), label_items
  list<string>, split 'train' | 'validation' | 'test', and the features of `retrieval_v1` as of event_timestamp
- histories_{R,V,T,A}.parquet: `retrieval_v1` of every user with an event before the cut
- items_{R,V,T,A}.parquet: `item_v1` of every item with an event before the cut
- truth_{ranker,validation,test}.parquet: distinct (user_id, item_id) bought in [R, V), [V, T) and [T, A)
- versions.json: the Delta version of each table read, and the cuts; written last, so that it says the rest is whole
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from aisle import clock, decisions, goal, lake, purchases
from aisle.errors import NotThere, TooLittleData
from aisle.purchases import LEARN_DAYS, WindowDays
from aisle.settings import Settings
from aisle.stages import StepContext

if TYPE_CHECKING:
    import pyarrow as pa

NOBODY = (
    ". No event that is learnt from names a user: map a visitor's lasting id to user_id, or the session's where there is none, "
    "and import into an empty AISLE_HOME (docs/importing.md, Shops without purchases)"
)
MOMENT = "datetime64[us, UTC]"  # of event_timestamp, so that every join of it is between equals
USER_SERVICE = "retrieval_v1"
ITEM_SERVICE = "item_v1"
READ = ("silver.interactions", "gold.user_stats", "gold.user_history", "gold.item_stats", "gold.item_text")


@dataclass(frozen=True)
class Cuts:
    """R < V < T < A, midnights UTC, each exclusive. R: None where the purchases do not reach back to it."""

    V: datetime
    T: datetime
    A: datetime
    R: datetime | None = None

    @classmethod
    def of(cls, as_of: datetime, settings: Settings, days: WindowDays | None = None) -> Cuts:
        """days: of the windows; as the settings say where None."""
        days = days or WindowDays(settings.training.test_days, settings.training.validation_days)
        end = clock.midnight_after(as_of)
        test, window = end - timedelta(days=days.test), timedelta(days=days.validation)
        return cls(test - window, test, end, test - 2 * window)

    def items(self) -> list[tuple[str, datetime]]:
        named = [("V", self.V), ("T", self.T), ("A", self.A)]
        return [("R", self.R), *named] if self.R else named

    def within(self, oldest: datetime) -> Cuts:
        """Without R where less than LEARN_DAYS of purchases lie before it."""
        return self if self.R and (self.R - oldest).days >= LEARN_DAYS else replace(self, R=None)


@dataclass(frozen=True)
class Dataset:
    """A finished dataset folder."""

    folder: Path
    cuts: Cuts
    versions: dict[str, int]
    goal: tuple[str, ...] = goal.PURCHASES

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Raises NotThere where `train.dataset` has not finished."""
        note = folder / "versions.json"
        if not note.exists():
            raise NotThere(f"no finished training set in {folder}: run train.dataset of the same run first")
        said = json.loads(note.read_text())
        cuts = Cuts(*(clock.parse(said[name]) for name in ("V", "T", "as_of", "R") if name in said))
        known = tuple(said.get("goal", goal.PURCHASES))
        return cls(folder, cuts, {name: said[name] for name in said if "." in name}, known)

    def frame(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / f"{name}.parquet")


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Idempotent: a finished folder over the same Delta versions and cuts is used as it is.

    Skips where the windows had to move back to purchases from which a champion or a refused challenger has learnt already.
    """
    version, asked = lake.version("silver.interactions"), clock.midnight_after(clock.settled(context.as_of))
    settings = goal.settled(settings, version)
    end = purchases.windows_end(asked, settings, version)
    moved = _moved(asked, end) if end < asked else {}
    if moved and (why := learnt_already(settings, end)):
        return {"skip": f"{moved['moved']}; {why}", "as_of": asked.isoformat()}
    cuts = shortened(settings, version, end)
    folder = lake.workdir("train", context.run_id) / "dataset"
    stamp = {**{name: lake.version(name) for name in READ}, **_said(cuts), "goal": settings.training.goal}
    note = folder / "versions.json"
    if not (note.exists() and json.loads(note.read_text()) == stamp):
        note.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in build(settings, cuts, version).items():
            frame.to_parquet(folder / f"{name}.parquet", index=False)
        note.write_text(json.dumps(stamp))
    found = Dataset.load(folder)
    return {"dataset": str(folder), **_said(cuts), "versions": found.versions, **_counts(found), **moved}


def _moved(asked: datetime, end: datetime) -> dict[str, str]:
    """Said in the log and with the result."""
    told = f"too little was bought in the days before {asked:%Y-%m-%d} to learn from: the windows end on {end:%Y-%m-%d}, with the purchases"
    print(told, file=sys.stderr, flush=True)
    return {"moved": told, "asked_as_of": asked.isoformat()}


def learnt_already(settings: Settings, end: datetime) -> str:
    """Who has learnt from the purchases up to `end`, so that no other is due: the champion, or a version that the gate left beside it."""
    from aisle.registry import CHAMPION, Registry

    champion = Registry(settings).by_alias(CHAMPION)
    if champion is None:
        return ""
    if (known := champion.tags.get("as_of")) and clock.parse(known) >= end:
        return f"champion {champion.version} has learnt from them"
    for record in decisions.everything("gate"):
        if (
            record["as_of"]
            and clock.parse(record["as_of"]) >= end
            and record["champion"] == str(champion.version)
        ):
            return f"version {record['challenger']} has, and was {record['verdict']}"
    return ""


def build(settings: Settings, cuts: Cuts, version: int) -> dict[str, pd.DataFrame]:
    """The frames by file name. `version`: of silver.interactions."""
    events = lake.read_frame(
        "silver.interactions",
        columns=["user_id", "item_id", "event_time"],
        filters=[("event_time", "<", cuts.A)],
        at_version=version,
    )
    events = events[events["item_id"].notna()]
    bought = as_frame(purchases.bought(version, settings, until=cuts.A))
    require_span(bought, cuts, purchases.window_days(settings, version, cuts.A).learn)
    labels = labelled(bought, cuts)
    users = _at_cuts(events.dropna(subset="user_id"), "user_id", cuts)
    features = _features(settings, pd.concat([labels, users]), "user_id", USER_SERVICE)
    items = _features(settings, _at_cuts(events, "item_id", cuts), "item_id", ITEM_SERVICE)
    keys = ["user_id", "event_timestamp"]
    frames = {"examples": labels.merge(features, on=keys, how="left", validate="one_to_one")}
    for name, cut in cuts.items():
        here = users[users["event_timestamp"].eq(cut)]
        frames[f"histories_{name}"] = here.merge(features, on=keys, how="left").drop(
            columns="event_timestamp"
        )
        frames[f"items_{name}"] = items[items["event_timestamp"].eq(cut)].drop(columns="event_timestamp")
    if cuts.R:
        frames["truth_ranker"] = truth(bought, cuts.R, cuts.V)
    return frames | {
        "truth_validation": truth(bought, cuts.V, cuts.T),
        "truth_test": truth(bought, cuts.T, cuts.A),
    }


def as_frame(rows: pa.Table) -> pd.DataFrame:
    """As lake.read_frame reads them."""
    return rows.to_pandas()


def shortened(settings: Settings, version: int, end: datetime) -> Cuts:
    """The cuts of windows up to `end`: shorter ones, which the log says, where the purchases do not reach back far enough."""
    training, days = settings.training, purchases.window_days(settings, version, end)
    if (days.test, days.validation) != (training.test_days, training.validation_days):
        print(
            f"{'/'.join(training.goal)} reach back {days.test + days.validation + days.learn} days before {end:%Y-%m-%d}: {days.test} of them "
            f"test instead of {training.test_days}, {days.validation} validate instead of {training.validation_days}",
            file=sys.stderr,
            flush=True,
        )
    cuts = Cuts.of(end, settings, days)
    return cuts.within(purchases.first(version, settings) or cuts.A)


def require_span(bought: pd.DataFrame, cuts: Cuts, least: int = LEARN_DAYS) -> None:
    """Raises TooLittleData where the purchases do not reach back far enough, or a window holds none. least: days to learn from."""
    needed = (cuts.A - cuts.V).days + least
    there = (cuts.A - bought["event_time"].min().floor("D")).days if len(bought) else 0
    if there < needed:
        raise TooLittleData(
            f"purchases reach back {there} days before {cuts.A:%Y-%m-%d}, and {needed} are needed: {(cuts.A - cuts.T).days} to test, "
            f"{(cuts.T - cuts.V).days} to validate and {least} to learn from; import more, or lower training.test_days and validation_days"
            + ("" if len(bought) else NOBODY)
        )
    for name, since, until in (("validation", cuts.V, cuts.T), ("test", cuts.T, cuts.A)):
        if not bought["event_time"].between(since, until, inclusive="left").any():
            raise TooLittleData(
                f"no purchase between {since:%Y-%m-%d} and {until:%Y-%m-%d}, the {name} days: import them, or give another as_of"
            )


def labelled(bought: pd.DataFrame, cuts: Cuts) -> pd.DataFrame:
    """One row per user and purchase day: user_id, event_timestamp (midnight), label_items (distinct, sorted), split."""
    days = bought.assign(event_timestamp=bought["event_time"].dt.floor("D").astype(MOMENT))
    distinct = (
        days[["user_id", "event_timestamp", "item_id"]]
        .drop_duplicates()
        .sort_values(["user_id", "event_timestamp", "item_id"])
    )
    rows = (
        distinct.groupby(["user_id", "event_timestamp"], sort=True)["item_id"]
        .agg(list)
        .rename("label_items")
        .reset_index()
    )
    moment = rows["event_timestamp"]
    rows["split"] = (
        moment.lt(cuts.V).map({True: "train", False: "validation"}).mask(moment.ge(cuts.T), "test")
    )
    return rows


def truth(bought: pd.DataFrame, since: datetime, until: datetime) -> pd.DataFrame:
    """Distinct (user_id, item_id) bought in [since, until)."""
    window = bought[bought["event_time"].ge(since) & bought["event_time"].lt(until)]
    return window[["user_id", "item_id"]].drop_duplicates().sort_values(["user_id", "item_id"])


def _at_cuts(events: pd.DataFrame, key: str, cuts: Cuts) -> pd.DataFrame:
    """(key, event_timestamp): whoever has an event before a cut, at that cut."""
    first = events.groupby(key)["event_time"].min()
    parts = [
        pd.DataFrame({key: first.index[first < cut], "event_timestamp": pd.Timestamp(cut)})
        for _, cut in cuts.items()
    ]
    return pd.concat(parts, ignore_index=True).astype({"event_timestamp": MOMENT})


def _features(settings: Settings, rows: pd.DataFrame, key: str, service: str) -> pd.DataFrame:
    """The service's features of distinct (key, event_timestamp), all moments in one point-in-time join."""
    from aisle.features import historical

    wanted = rows[[key, "event_timestamp"]].drop_duplicates().reset_index(drop=True)
    found = historical(settings, wanted, service)
    found["event_timestamp"] = pd.to_datetime(found["event_timestamp"], utc=True).astype(MOMENT)
    return found.sort_values([key, "event_timestamp"]).reset_index(drop=True)


def _said(cuts: Cuts) -> dict[str, str]:
    named = {"as_of": cuts.A, "T": cuts.T, "V": cuts.V} | ({"R": cuts.R} if cuts.R else {})
    return {name: moment.isoformat() for name, moment in named.items()}


def _counts(found: Dataset) -> dict[str, int]:
    import pyarrow.parquet as pq

    names = ("examples", "histories_T", "items_T", "truth_validation", "truth_test")
    return {f"n_{name}": pq.read_metadata(found.folder / f"{name}.parquet").num_rows for name in names}
