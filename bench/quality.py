"""Quality on the shop's own purchases: the last 28 days of Online Retail, held out (`make bench-quality`).

Prints the quality table with intervals and writes bench/results/quality.json. Under a minute; it needs no
lake.
"""

from __future__ import annotations

import time
from datetime import timedelta

from aisle import settings as settings_module
from aisle.lake import project_root
from bench.online_retail import END, load_lines, window
from bench.report import Figure, publish
from engine.recipe import Recipe
from training.quality import OURS, as_text, compare, gains, summarise

# All items: what a 60-line LambdaMART reaches on this split. New items: a first mark; that one reaches .1361.
TARGETS = {(OURS, "all", "ndcg@20"): 0.365, (OURS, "new", "ndcg@20"): 0.12}
HEADLINE = ("ndcg@10", "ndcg@20", "recall@20", "coverage@10")
MUST_BEAT = {"all": ("popularity", "item_item", "personal_frequency"), "new": ("popularity", "item_item")}


def main() -> None:
    started = time.monotonic()
    settings = settings_module.load()
    lines = load_lines(project_root() / "data" / "online_retail.parquet")
    days, length = settings.training.test_days, settings.features.history_length
    test_at = END - timedelta(days=days)
    valid_at = test_at - timedelta(days=settings.training.validation_days)
    span = settings.training.validation_days
    before, validation = (window(lines, valid_at - timedelta(days=n), span, length) for n in (span, 0))
    test = window(lines, test_at, days, length)
    read = time.monotonic()
    values = compare(before, validation, test, Recipe.of(settings), settings.training.blend_users)
    asked = (settings.gate.bootstrap_samples, settings.gate.confidence, settings.training.seed)
    means, differences = summarise(values, *asked), gains(values, *asked)
    print(as_text(means, differences))
    headline = means[(means["slice"] == "all") & means["metric"].isin(HEADLINE)]
    figures = {
        f"{row.version}, {row.column} {row.metric}": Figure(
            round(row.mean, 4), "", target=TARGETS.get((row.version, row.column, row.metric))
        )
        for row in headline.itertuples()
    }
    for row in differences[differences["metric"] == "ndcg@10"].itertuples():
        target = 0.0 if row.against in MUST_BEAT[row.column] else None
        label = f"low end of the gain over {row.against}, {row.column} ndcg@10"
        figures[label] = Figure(round(row.low, 4), "", target=target)
    figures["seconds to fit, choose, rank and judge"] = Figure(
        round(time.monotonic() - read, 1), "s", "<=", 120
    )
    figures["seconds to read"] = Figure(round(read - started, 1), "s", "<=")
    details = {"means": means.to_dict("records"), "gains": differences.to_dict("records")}
    publish("quality", figures, details)


if __name__ == "__main__":
    main()
