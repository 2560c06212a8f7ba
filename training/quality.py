"""The quality table (`aisle evaluate`): the engine beside its baselines, on days that none of them saw.

The sources are fitted to what was known at T, blend and ranker are chosen on the window before it, and everything is
judged on the window after it: the windows of `train.dataset`. Works on whatever has been imported, without Spark.
`aisle evaluate --peers` asks the same of other libraries' models, by bench.quality of the checkout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime

import pandas as pd

from aisle import clock, features, goal, lake, purchases
from aisle.errors import MissingPrerequisite, NotThere, TooLittleData
from aisle.settings import Settings
from engine import intervals
from engine.evaluation import COLUMNS, LIST_WIDE, PER_USER, HeldOut, baseline, evaluate
from engine.recipe import Recipe
from engine.recommender import Recommender
from engine.windows import Window
from training.dataset import Cuts, as_frame, require_span, shortened
from training.models import with_sequence_where_listed
from training.selection import MORE, select

OURS = "aisle"
BLEND = "aisle without ranker"
BASELINES = {
    "popularity": "popularity",
    "personal_frequency": "personal",
    "item_item": "item_item",
    "ease": "linear",
    "two_tower": "two_tower",
}


def compare(
    before: Window | None,
    validation: Window,
    test: Window,
    recipe: Recipe,
    max_users: int,
    ranker_users: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Per-user values: version, column, slice, user_id, metric, value.

    The blend is chosen on `validation`, the ranker on `before` and `validation`; fitted and judged at `test`. With
    the windows' learned models; `table` has a sequence model learnt for each where it is listed, and no two-tower, which only
    `train` learns.
    """
    chosen, choice, _ = select([before] if before else [], validation, recipe, max_users, ranker_users, say)
    ranker = choice.ranker
    say(f"fitting to what was known before {test.at:%Y-%m-%d} …")
    ours = Recommender.fit(test.items, test.histories, test.at, chosen, test.exports, ranker)
    held = HeldOut.of(ours, test.histories, test.truth, test.at)
    models = {name: baseline(ours, source) for name, source in BASELINES.items() if source in ours.sources}
    if ranker:
        models = {BLEND: ours.with_ranker(None), **models}
    parts = []
    for name, model in {OURS: ours, **models}.items():
        say(f"ranking the whole catalogue for {len(held.states):,} users: {name} …")
        parts.append(evaluate(held, held.lists(model)).assign(version=name))
    return pd.concat(parts, ignore_index=True)


def summarise(values: pd.DataFrame, samples: int, confidence: float, seed: int) -> pd.DataFrame:
    """version, column, slice, metric, mean, low, high, n: means over users with bootstrap intervals."""
    keys = ["version", "column", "slice", "metric"]
    rows = [
        {**dict(zip(keys, key, strict=True)), **intervals.of_mean(group, samples, confidence, seed).as_dict()}
        for key, group in values.groupby(keys, sort=False)["value"]
    ]
    return pd.DataFrame(rows)


def gains(values: pd.DataFrame, samples: int, confidence: float, seed: int) -> pd.DataFrame:
    """against, column, metric, mean, low, high, n: ours minus each baseline, paired by user, slice `all`."""
    judged = values[(values["slice"] == "all") & values["metric"].isin(PER_USER)]
    rows = []
    for (column, metric), group in judged.groupby(["column", "metric"], sort=False):
        wide = group.pivot(index="user_id", columns="version", values="value")
        for other in wide.columns.drop(OURS):
            found = intervals.of_difference(wide[OURS], wide[other], samples, confidence, seed)
            rows.append({"against": other, "column": column, "metric": metric, **found.as_dict()})
    return pd.DataFrame(rows)


def table(settings: Settings, as_of: datetime | None = None, as_json: bool = False) -> str:
    """What `aisle evaluate` prints. Raises NotThere without data, TooLittleData where there is not enough."""
    settings = of_shop(settings)
    cuts = cuts_of(settings, as_of)
    training, recipe = settings.training, Recipe.of(settings)
    *earlier, validation, test = with_sequence_where_listed(windows(cuts, settings), recipe, training)
    _progress("choosing sources, blend and ranker …")
    before = earlier[0] if earlier else None
    try:
        values = compare(
            before, validation, test, recipe, training.blend_users, training.ranker_users, _progress
        )
    except ValueError as error:
        raise TooLittleData(
            f"no quality table for {cuts.T:%Y-%m-%d} to {cuts.A:%Y-%m-%d}: {error}; {MORE}"
        ) from None
    gate = settings.gate
    asked = (gate.bootstrap_samples, gate.confidence, training.seed)
    means, differences = summarise(values, *asked), gains(values, *asked)
    if as_json:
        body = {"from": cuts.T, "until": cuts.A, "means": means, "gains": differences}
        return json.dumps({key: _plain(value) for key, value in body.items()}, ensure_ascii=False)
    return f"held out: {cuts.T:%Y-%m-%d} to {cuts.A:%Y-%m-%d}\n\n{as_text(means, differences)}"


def against_peers(
    settings: Settings, minutes: float, as_of: datetime | None = None, as_json: bool = False
) -> int:
    """Runs bench.quality on what was imported; what it returned. In a process of its own: training imports no bench.

    Raises NotThere and TooLittleData as `cuts_of`, MissingPrerequisite where there is no checkout.
    """
    root = lake.project_root()
    if not (root / "bench" / "quality.py").exists():
        raise MissingPrerequisite(
            f"{root} has no bench/: --peers runs from a checkout of Aisle, after `make setup`"
        )
    cuts = cuts_of(settings, as_of)
    print(
        f"eight peers, each tuned for {minutes:g} minutes at most, then the engine with all its sources. "
        "What is done is kept: ended, the same command goes on",
        file=sys.stderr,
        flush=True,
    )
    command = [sys.executable, "-m", "bench.quality", "--set", "shop", "--minutes", str(minutes)]
    command += ["--as-of", cuts.A.isoformat(), *(["--json"] if as_json else [])]
    return subprocess.run(command, cwd=root).returncode


def cuts_of(settings: Settings, as_of: datetime | None = None) -> Cuts:
    """The cuts that `train.dataset` would take: back to the last purchases where the newest days have none.

    Raises NotThere without data, TooLittleData where the purchases do not reach back far enough or a window has none.
    """
    asked = clock.midnight_after(clock.settled(as_of))
    version = lake.version("silver.interactions")
    settings = goal.settled(settings, version)
    end = purchases.windows_end(asked, settings, version)
    if end < asked:
        print(
            f"too little was bought in the days before {asked:%Y-%m-%d}: the windows end on {end:%Y-%m-%d}, with the purchases",
            file=sys.stderr,
        )
    cuts = shortened(settings, version, end)
    bought = as_frame(purchases.bought(version, settings, until=cuts.A)) if version >= 0 else pd.DataFrame()
    require_span(bought, cuts, purchases.window_days(settings, version, cuts.A).learn)
    return cuts


def of_shop(settings: Settings) -> Settings:
    """With the goal of what was imported."""
    return goal.settled(settings, lake.version("silver.interactions"))


def windows(cuts: Cuts, settings: Settings | None = None) -> list[Window]:
    """Oldest first: the ranker's, where the shop is old enough for one, validation's and the test's. Raises NotThere."""
    print(f"reading histories before {cuts.V:%Y-%m-%d} and {cuts.T:%Y-%m-%d} …", file=sys.stderr, flush=True)
    before = read_ranker_window(cuts.R, cuts.V, settings) if cuts.R else None
    later = [read_window(*each, settings) for each in ((cuts.V, cuts.T), (cuts.T, cuts.A))]
    return [*([before] if before else []), *later]


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _plain(value: object) -> object:
    """A frame as records with null for what is not there; a moment as ISO text."""
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records"))
    return str(value)


def read_window(at: datetime, until: datetime, settings: Settings | None = None) -> Window:
    """From gold at `at` and silver after it. settings: with the goal of the shop, see `of_shop`; purchases without. Raises NotThere where no features stand at that day."""
    histories, then = features.histories(at), [("as_of", "=", at)]
    texts = lake.read_frame("gold.item_text", filters=then)
    stats = lake.read_frame("gold.item_stats", filters=then).drop(columns=["as_of", "price"])
    bought = as_frame(purchases.bought(lake.version("silver.interactions"), settings, at, until))
    return Window(
        at,
        texts.merge(stats, on="item_id", how="inner"),
        histories,
        bought[["user_id", "item_id"]].drop_duplicates(),
        goal=tuple(settings.training.goal if settings else goal.PURCHASES),
    )


def read_ranker_window(at: datetime, until: datetime, settings: Settings | None = None) -> Window | None:
    """The window that a ranker learns from; None where the shop is too young for one."""
    try:
        return read_window(at, until, settings)
    except (NotThere, TooLittleData) as why:
        print(f"without a ranker, which learns from the days before {until:%Y-%m-%d}: {why}", file=sys.stderr)
        return None


def as_text(means: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Both columns with intervals, the slices' NDCG@10, and what is gained over each baseline."""
    means = means.assign(cell=[_cell(row) for row in means.itertuples()])
    blocks = []
    for column in COLUMNS:
        rows = means[(means["slice"] == "all") & (means["column"] == column)]
        title = "all items" if column == "all" else "only items new to the user"
        blocks.append(f"{title}\n{_wide(rows, 'metric', [*PER_USER, *LIST_WIDE])}")
    rows = means[(means["metric"] == "ndcg@10") & (means["column"] == "all")]
    blocks.append(f"NDCG@10 by slice, all items\n{_wide(rows, 'slice', list(rows['slice'].unique()))}")
    shown = differences[differences["metric"].isin(["ndcg@10", "ndcg@20"])]
    shown = shown.assign(
        gain=[f"{row.mean:+.4f} [{row.low:+.4f}, {row.high:+.4f}]" for row in shown.itertuples(index=False)],
        label=shown["column"] + " " + shown["metric"],
    )
    wide = shown.pivot(index="against", columns="label", values="gain")
    blocks.append(f"{OURS} minus each baseline, paired by user\n{wide.to_string()}")
    return "\n\n".join(blocks)


def _cell(row) -> str:
    if row.metric in LIST_WIDE:
        return f"{row.mean:.3f}"
    return f"{row.mean:.4f} [{row.low:.4f}, {row.high:.4f}] n={row.n}"


def _wide(rows: pd.DataFrame, across: str, order: list[str]) -> str:
    wide = rows.pivot(index="version", columns=across, values="cell").reindex(rows["version"].unique())
    return wide[order].fillna("-").rename_axis(index=None, columns=None).to_string()
