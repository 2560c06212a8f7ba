"""What `ops.evaluations` says of a challenger and everything it is compared with, as means with intervals.

A cell is one metric in one column ("all" | "new") and slice, of the challenger against one other version,
over the users that both were measured on. Slices are compared with the champion only; without one, with the
baselines.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from aisle import lake
from aisle.settings import Gate
from engine.intervals import bounds, resampled_means
from monitoring.intervals import relative

WINDOW: Final = "test"
COLUMNS: Final = ("all", "new")
WHOLE: Final = "all"
SLICES: Final = ("new_users", "light_users", "heavy_users", "new_items", "tail_items")
BASELINES: Final = ("popularity", "personal_frequency", "item_item")
CHAMPION: Final = "champion:"


@dataclass(frozen=True)
class Cell:
    """Means and 95 % (gate.confidence) intervals; `difference` is relative: (mean - other) / other.

    differing: users on whom the two versions' values are not the same.
    """

    other: str
    column: str
    slice: str
    metric: str
    users: int
    differing: int
    mean: float
    mean_low: float
    mean_high: float
    other_mean: float
    other_low: float
    other_high: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """All cells of one evaluation, by (other, column, slice, metric).

    opponent: the champion, else the best baseline; '' where neither was evaluated.
    coverage: version -> column -> share of the catalogue.
    missing, not_finite: what the rules need and is not there or is no number, in words.
    """

    challenger: str
    opponent: str
    users: int
    cells: dict[tuple[str, str, str, str], Cell]
    coverage: dict[str, dict[str, float]]
    missing: list[str]
    not_finite: list[str]

    def cell(self, other: str, column: str, slice_: str, metric: str) -> Cell | None:
        return self.cells.get((other, column, slice_, metric))

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(cell) for cell in self.cells.values()]


def guards(opponent: str) -> tuple[str, ...]:
    """Versions that slices are compared with: the champion, or every baseline where there is none."""
    return (opponent,) if opponent.startswith(CHAMPION) else BASELINES


def metric_names(gate: Gate) -> tuple[str, ...]:
    """Primary first, as `ops.evaluations` spells them."""
    names = (f"{gate.primary_metric}@{gate.k}", f"ndcg@{gate.k}", f"recall@{gate.recall_k}", f"mrr@{gate.k}")
    return tuple(dict.fromkeys(names))


def load(evaluation_id: str) -> pd.DataFrame:
    """Rows of one evaluation in the test window; empty where there are none."""
    if not lake.exists("ops.evaluations"):
        return pd.DataFrame(columns=list(lake.arrow_schema("ops.evaluations").names))
    return lake.read_frame(
        "ops.evaluations", filters=[("evaluation_id", "==", evaluation_id), ("window", "==", WINDOW)]
    )


def compare(frame: pd.DataFrame, challenger: str, gate: Gate, seed: int) -> Comparison:
    """Every cell of the evaluation `frame` (columns of ops.evaluations); its order does not matter."""
    keys = ["version", "column", "slice", "metric", "user_id"]
    frame = frame.drop_duplicates([*keys, "value"])  # an evaluation that was repeated says the same twice
    ambiguous = frame[frame.duplicated(keys)]
    frame = frame.drop_duplicates(keys)
    names = metric_names(gate)
    opponent = _opponent(frame, names[0])
    coverage = _coverage(frame, f"coverage@{gate.k}")
    missing, not_finite = _faults(frame, challenger, opponent, names, coverage)
    missing += [f"one value of {version}: there are several" for version in sorted(set(ambiguous["version"]))]
    cells = {}
    for cell in _cells(frame, challenger, opponent, names, gate, seed):
        cells[cell.other, cell.column, cell.slice, cell.metric] = cell
    whole = cells.get((opponent, WHOLE, WHOLE, names[0]))
    return Comparison(challenger, opponent, whole.users if whole else 0, cells, coverage, missing, not_finite)


def _opponent(frame: pd.DataFrame, primary: str) -> str:
    """The champion that was evaluated, else the baseline with the best primary metric over all items."""
    versions = frame["version"].unique()
    champions = [each for each in versions if each.startswith(CHAMPION)]
    if champions:
        return champions[0]
    chosen = frame["version"].isin(BASELINES) & frame["column"].eq(WHOLE) & frame["slice"].eq(WHOLE)
    means = frame[chosen & frame["metric"].eq(primary)].groupby("version")["value"].mean()
    return str(means.idxmax()) if means.notna().any() else ""


def _coverage(frame: pd.DataFrame, metric: str) -> dict[str, dict[str, float]]:
    chosen = frame[frame["metric"].eq(metric) & frame["slice"].eq(WHOLE)]
    found: dict[str, dict[str, float]] = {}
    for version, column, value in chosen[["version", "column", "value"]].itertuples(index=False):
        found.setdefault(version, {})[column] = float(value)
    return found


def _faults(frame, challenger, opponent, names, coverage) -> tuple[list[str], list[str]]:
    """What the rules need and is not there, and what is there and no finite number; both in words."""
    missing, not_finite = [], []
    whole = frame[frame["slice"].eq(WHOLE)]
    groups = dict(list(whole.groupby(["version", "column", "metric"])))
    for version in dict.fromkeys((challenger, opponent or "champion or baseline", "popularity")):
        for column in COLUMNS:
            users = None
            for name in names:
                rows = groups.get((version, column, name))
                if rows is None:
                    missing.append(f"{name} of {version} on column {column!r}")
                    continue
                bad = int((~np.isfinite(rows["value"].to_numpy(float))).sum())
                if bad:
                    not_finite.append(
                        f"{name} of {version} on column {column!r} ({bad} of {len(rows)} users)"
                    )
                if users is not None and users != set(rows["user_id"]):
                    missing.append(f"{name} of {version} on column {column!r} for some of the users")
                users = users or set(rows["user_id"])
    missing += _unpaired(groups, challenger, opponent, names[0])
    cover = coverage.get(challenger, {}).get(WHOLE)
    if cover is None:
        missing.append(f"coverage of {challenger} on column 'all'")
    elif not np.isfinite(cover):
        not_finite.append(f"coverage of {challenger} on column 'all'")
    return missing, not_finite


def _unpaired(groups: dict, challenger: str, opponent: str, primary: str) -> list[str]:
    """A comparison holds only over the same users."""
    found = []
    for column in COLUMNS:
        mine, theirs = groups.get((challenger, column, primary)), groups.get((opponent, column, primary))
        if mine is None or theirs is None:
            continue
        apart = len(set(mine["user_id"]) ^ set(theirs["user_id"]))
        if apart:
            found.append(
                f"{apart} users for both of {challenger} and {opponent}, column {column!r}: only one was"
            )
    return found


def _cells(
    frame: pd.DataFrame, challenger: str, opponent: str, names: tuple[str, ...], gate: Gate, seed: int
) -> Iterator[Cell]:
    """Cells of every other version over everybody, and of the slices' guards in every slice."""
    chosen = frame[frame["metric"].isin(names) & np.isfinite(frame["value"].astype(float))]
    for (column, slice_), part in chosen.groupby(["column", "slice"], sort=True):
        wide = part.pivot(index="user_id", columns=["version", "metric"], values="value").sort_index()
        others = set(wide.columns.get_level_values(0)) - {challenger}
        for other in sorted(others if slice_ == WHOLE else others & set(guards(opponent))):
            both = [name for name in names if (challenger, name) in wide and (other, name) in wide]
            pairs = wide[[(who, name) for who in (challenger, other) for name in both]].dropna()
            if both and len(pairs):
                draw = zlib.crc32(f"{column}/{slice_}".encode()) ^ seed
                yield from _paired(pairs.to_numpy(float), both, (other, str(column), str(slice_)), gate, draw)


def _paired(
    pairs: np.ndarray, metrics: list[str], key: tuple[str, str, str], gate: Gate, seed: int
) -> Iterator[Cell]:
    """`pairs` (users, 2 * metrics): the challenger's values, then the other's."""
    m = len(metrics)
    drawn = resampled_means(pairs, gate.bootstrap_samples, seed)
    low, high = bounds(drawn, gate.confidence)
    means = pairs.mean(axis=0)
    least, most = bounds(relative(drawn[:, :m], drawn[:, m:]), gate.confidence)
    point = relative(means[:m], means[m:])
    differing = (pairs[:, :m] != pairs[:, m:]).sum(axis=0)
    for i, name in enumerate(metrics):
        mine, theirs = (means[i], low[i], high[i]), (means[m + i], low[m + i], high[m + i])
        figures = map(float, (*mine, *theirs, point[i], least[i], most[i]))
        yield Cell(*key, name, len(pairs), int(differing[i]), *figures)
