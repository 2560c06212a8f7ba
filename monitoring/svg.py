"""An interval plot as inline SVG: one line per metric, its point and its interval, zero marked."""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH, ROW, LEFT, RIGHT, TOP = 900, 22, 300, 180, 30  # RIGHT holds '+164.0 [+148.2, +181.4]'
REACH = 0.5  # an interval beyond ±50 % is drawn to the edge; its figures stand beside it
COLOURS = {"better": "#176b36", "worse": "#a3161a", "open": "#5b6675"}


def interval_plot(cells: list[dict[str, Any]]) -> str:
    """`cells`: dicts with metric, column, slice, users, difference, low, high (relative to the opponent)."""
    reach = min(REACH, max([0.05, *(abs(cell[side]) for cell in cells for side in ("low", "high"))]))
    height = TOP + ROW * len(cells) + 10

    def x(value: float) -> float:
        inside = max(-reach, min(reach, value))
        return round(LEFT + (inside + reach) / (2 * reach) * (WIDTH - LEFT - RIGHT), 1)

    lines = [_axis(x, reach, height), *(_row(cell, x, TOP + ROW * i) for i, cell in enumerate(cells))]
    label = "Relative difference of each metric to the opponent, with its interval"
    frame = f"viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{label}' font-size='12'"
    return f"<svg {frame}>{''.join(lines)}</svg>"


def _axis(x, reach: float, height: int) -> str:
    marks = "".join(
        f"<text x='{x(at)}' y='16' text-anchor='middle' fill='#5b6675'>{100 * at:+.0f} %</text>"
        for at in (-reach, 0.0, reach)
    )
    ends = f"x1='{x(0)}' x2='{x(0)}' y1='20' y2='{height}'"
    return f"{marks}<line {ends} stroke='#b6bec8' stroke-dasharray='3 3'/>"


def _row(cell: dict[str, Any], x, y: int) -> str:
    told = "better" if cell["low"] > 0 else "worse" if cell["high"] < 0 else "open"
    colour, middle = COLOURS[told], y + ROW // 2
    name = f"{cell['metric']}, {cell['column']} items, {cell['slice'].replace('_', ' ')} ({cell['users']})"
    figures = f"{100 * cell['difference']:+.1f} [{100 * cell['low']:+.1f}, {100 * cell['high']:+.1f}]"
    return (
        f"<text x='{LEFT - 10}' y='{middle + 4}' text-anchor='end'>{escape(name)}</text>"
        f"<line x1='{x(cell['low'])}' x2='{x(cell['high'])}' y1='{middle}' y2='{middle}' "
        f"stroke='{colour}' stroke-width='2'/>"
        f"<circle cx='{x(cell['difference'])}' cy='{middle}' r='4' fill='{colour}'/>"
        f"<text x='{WIDTH - RIGHT + 8}' y='{middle + 4}' fill='{colour}'>{figures}</text>"
    )
