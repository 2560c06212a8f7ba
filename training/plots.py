"""Pictures of a train run, as PNG files beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

SOUGHT = ("ndcg@10", "recall@20")


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def learning_curve(
    epochs: Sequence[Mapping[str, float]], kept: int, path: Path, of: str = "two-tower"
) -> None:
    """Training loss beside what validation said after each epoch; the kept epoch is marked."""
    rows = pd.DataFrame(list(epochs)).set_index("epoch")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
    rows["loss"].plot(ax=left, marker="o", title=f"{of}: training loss")
    judged = [name for name in rows if name.removeprefix("new_") in SOUGHT]
    rows[judged].plot(ax=right, marker="o", title=f"{of}: validation, whole catalogue")
    right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the points, not over them
    for axis in (left, right):
        axis.axvline(kept, color="grey", linestyle=":")
        axis.set_xlabel(f"epoch (kept: {kept})")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, path)


def blend(weights: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Weight of each source, for items the user had and for new ones."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    pd.DataFrame({name: dict(each) for name, each in weights.items()}).fillna(0).plot.barh(
        ax=axis, title="blend: weight of each source"
    )
    handles, names = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], names[::-1])  # bars grow upwards, a legend downwards
    _save(figure, path)


def importance(gains: Mapping[str, float], path: Path, shown: int = 20) -> None:
    """What the ranker looks at: share of the gain of each feature, the largest first."""
    found = pd.Series(dict(gains)).sort_values(ascending=False).head(shown)[::-1]
    figure, axis = plt.subplots(figsize=(7, 5))
    found.plot.barh(ax=axis, title="ranker: share of the gain by feature")
    _save(figure, path)


def comparison(means: pd.DataFrame, path: Path) -> None:
    """`means`: version, column, metric, value. NDCG@10 of every version on both columns, over the held-out days."""
    wide = means[means["metric"].eq("ndcg@10")].pivot(index="version", columns="column", values="value")
    figure, axis = plt.subplots(figsize=(7, 3.6))
    wide.sort_values("all").plot.barh(ax=axis, title="NDCG@10 on the held-out days")
    axis.set_xlabel("mean over users")
    _save(figure, path)


def ablation(table: pd.DataFrame, path: Path) -> None:
    """`table`: part, column, change, low, high. How NDCG@10 changes when each part is left out, with its interval."""
    columns = list(table["column"].unique())
    titles = {"all": "all items", "new": "only items new to the user"}
    figure, axes = plt.subplots(1, len(columns), figsize=(5 * len(columns), 3.8), sharey=True, squeeze=False)
    order = table.groupby("part")["change"].mean().sort_values(ascending=False).index
    for axis, column in zip(axes[0], columns, strict=True):
        rows = table[table["column"].eq(column)].set_index("part").loc[order]
        errors = [rows["change"] - rows["low"], rows["high"] - rows["change"]]
        axis.barh(rows.index, rows["change"], xerr=errors, capsize=3)
        axis.axvline(0.0, color="grey", linewidth=0.8)
        axis.set_title(titles.get(column, column))
        axis.set_xlabel("change of NDCG@10 without it")
    figure.suptitle("validation: what each part is worth")
    _save(figure, path)
