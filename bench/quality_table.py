"""The quality bench's table of a set: models, then what was asked of the engine and whether it is met, then the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from aisle.terminal import screen
from bench.engine_run import OURS
from bench.published import MARK
from bench.report import VERDICT, Figure
from bench.stopwatch import told
from bench.targets import COVERAGE, OVER_PEER, figures_of

OF_TRAINING = {"seconds": "seconds to train", "peak_mib": "peak memory", "us_per_list": None}


def columns_and_metrics(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """In the order of the table; the first metric is the headline."""
    columns = [each for each in ("all", "new") if any(row["column"] == each for row in rows)]
    return columns, [each for each in dict.fromkeys(row["metric"] for row in rows) if each != COVERAGE]


def show(name: str, found: Mapping[str, Any]) -> None:
    columns, metrics = columns_and_metrics(found["rows"])
    figures = figures_of(name, found["rows"], found)
    for column in columns:
        screen().print(_table(name, column, found["rows"], [*metrics, COVERAGE], figures))
    for note in [f"{MARK} published, not run here", *found["notes"], *_told(found)]:
        screen().print(note, highlight=False)


def _table(
    name: str, column: str, rows: list[dict[str, Any]], metrics: list[str], figures: Mapping[str, Figure]
) -> Table:
    table = Table(
        title=f"{name}, {'all items' if column == 'all' else 'items new to the user'}", title_justify="left"
    )
    for head in ("model", *metrics, "train s", "peak MiB", "µs/list"):
        table.add_column(head, justify="left" if head == "model" else "right")
    rows = [row for row in rows if row["column"] == column]
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = {row["metric"]: row for row in rows if row["model"] == model}
        first = next(iter(mine.values()))
        cells = [_cell(mine.get(metric)) for metric in metrics]
        table.add_row(model, *cells, *[_number(first.get(key)) for key in OF_TRAINING])
        if model == OURS:
            asked = [figures.get(f"{name}, {column} {metric}") for metric in metrics]
            asked += [figures.get(f"{name}, {label}") for label in OF_TRAINING.values()]
            table.add_row("  asked for", *map(_asked, asked), style="italic")
            over = [figures.get(f"{name}, {column} {metric} {OVER_PEER}") for metric in metrics]
            table.add_row(f"  {OVER_PEER}", *map(_over, over), "", "", "", style="italic")
    return table


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    if "low" not in row:
        return f"{row['mean']:.4f}"
    return f"{row['mean']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _asked(figure: Figure | None) -> str:
    if figure is None or figure.target is None:
        return ""
    target = f"{figure.target:,.4f}" if figure.target < 100 else f"{figure.target:,.0f}"
    return f"{figure.op} {target} {VERDICT[figure.met]}"


def _over(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.3f} x {_asked(figure)}".rstrip()


def _told(found: Mapping[str, Any]) -> list[str]:
    """Where the engine's seconds went, and its bytes beside the published rule."""
    lines = []
    if parts := found.get("seconds_by_part"):
        lines.append(f"{OURS}, where its {sum(parts.values()):,.0f} s went: {told(parts)}")
    elif shares := found.get("shares_of_fit"):  # all that earlier runs told
        each = (f"{source} {share:.0%}" for source, share in sorted(shares.items(), key=lambda one: -one[1]))
        lines.append(f"{OURS}, sources' shares of their last fits: {', '.join(each)}")
    if sizes := found.get("sizes"):
        each = (
            f"{source} {size['bytes'] / 2**20:,.2f} of {size['rule'] / 2**20:,.2f}"
            for source, size in sizes.items()
        )
        lines.append(f"{OURS}, MiB of the sizing rule's at most: {', '.join(each)}")
    return lines
