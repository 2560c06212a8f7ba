"""The README's figures of quality are those that `make bench-quality` has written: whoever runs it anew writes them down anew."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from aisle.lake import project_root

README = (project_root() / "README.md").read_text()
SETS = json.loads((project_root() / "bench" / "results" / "quality.json").read_text())["details"]["sets"]
MODELS = {  # as the README calls them
    "**Aisle**": "aisle",
    "the same without its ranker": "aisle without ranker",
    "personal frequency": "personal frequency",
    "RecTools, the best of PureSVD, kNN and EASE": "RecTools",
    "EASE": "EASE",
    "implicit ALS": "implicit ALS",
    "item-item cosine": "item-item cosine",
    "popularity": "popularity",
    "the TFRS tutorial's two-tower": "TFRS tutorial",
}


def means(name: str, metric: str) -> dict[tuple[str, str], float]:
    """By model and column."""
    rows: list[dict[str, Any]] = SETS[name]["rows"]
    return {(row["model"], row["column"]): row["mean"] for row in rows if row["metric"] == metric}


@pytest.mark.parametrize("named", MODELS)
def test_a_row_of_the_table_is_the_benchs(named: str) -> None:
    found = re.search(rf"^\| {re.escape(named)} \| \**(\S+?)\** \| \**(\S+?)\** \|$", README, re.MULTILINE)
    assert found, f"the README has no row {named!r}"
    measured = means("online_retail", "ndcg@10")
    for column, told in zip(("all", "new"), found.groups(), strict=True):
        value = measured.get((MODELS[named], column))
        if told == "-":
            assert value is None
        else:
            assert float(told) == pytest.approx(value, abs=0.0006), (named, column)


@pytest.mark.parametrize(
    ("name", "metric", "says"),
    [
        ("gowalla", "recall@20", r"recall@20 is (\S+) for Gowalla \(best peer here (\.\d+)"),
        ("amazon_cds", "recall@20", r"and (\S+) for Amazon-CDs \((\.\d+)"),
        ("beauty", "ndcg@10", r"NDCG@10 is (\S+) \((\.\d+)"),
        ("toys", "ndcg@10", r"those of Toys (\S+) \((\.\d+)"),
    ],
)
def test_the_other_sets_are_the_benchs(name: str, metric: str, says: str) -> None:
    found = re.search(says, " ".join(README.split()))
    assert found, says
    measured = means(name, metric)
    ours, best = (float(each) for each in found.groups())
    assert ours == pytest.approx(measured["aisle", "new"], abs=0.0006)
    ours_or_published = re.compile(r"aisle|alone$|\*")
    peers = [value for (model, _), value in measured.items() if not ours_or_published.search(model)]
    assert best == pytest.approx(max(peers), abs=0.0006)
