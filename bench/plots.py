"""Quality against training time, one picture a set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt


def quality_against_time(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], metric: str, path: Path
) -> None:
    """rows: model, column, metric, mean, published (drawn as a line) or seconds (None: not measured alone, and left out)."""
    figure, axes = plt.subplots(1, len(columns), figsize=(7 * len(columns), 4.4), squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        for row in rows:
            if row["column"] != column or row["metric"] != metric:
                continue
            if row.get("published"):
                axis.axhline(row["mean"], color="grey", linewidth=0.6, linestyle=":")
                axis.annotate(
                    row["model"],
                    (1.0, row["mean"]),
                    xycoords=("axes fraction", "data"),
                    fontsize=7,
                    color="grey",
                )
                continue
            if row["seconds"] is None:
                continue
            axis.plot(
                max(row["seconds"], 0.01),
                row["mean"],
                "o",
                color="tab:red" if "aisle" in row["model"] else "tab:blue",
            )
            axis.annotate(
                row["model"],
                (max(row["seconds"], 0.01), row["mean"]),
                textcoords="offset points",
                xytext=(5, 3),
                fontsize=8,
            )
        axis.set_xscale("log")
        axis.set_xlabel("training, seconds")
        axis.set_ylabel(metric)
        axis.set_title("all items" if column == "all" else "items new to the user")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
