"""The comparison table in Markdown: for the approval form in Airflow and as `comparison.md` of the MLflow
run.
"""

from __future__ import annotations

from monitoring.comparison import COLUMNS, WHOLE, Comparison
from monitoring.rules import BLOCKED, FAILED, PASSED, Verdict, interval

TITLES = {"all": "all items", "new": "items new to the user"}


def version_title(version: str) -> str:
    """'champion:3' as 'champion 3', 'item_item' as 'item item'."""
    return version.replace(":", " ").replace("_", " ")


def comparison_markdown(found: Comparison, verdicts: list[Verdict], verdict: str) -> str:
    """Verdict, one row per metric and column against the opponent, one per baseline, then what did not pass."""
    lines = [
        f"**Version {found.challenger}: {verdict}** against {version_title(found.opponent) or 'nothing'}, "
        f"{found.users} held-out users.",
        "",
        *_against(found),
        *_baselines(found),
        *_rules(verdicts),
    ]
    return "\n".join(lines) + "\n"


def _against(found: Comparison) -> list[str]:
    lines = [
        f"| metric | items | version {found.challenger} | {version_title(found.opponent)} | difference |",
        "|---|---|---|---|---|",
    ]
    metrics = dict.fromkeys(cell.metric for cell in found.cells.values() if cell.other == found.opponent)
    for column in COLUMNS:
        for metric in metrics:
            cell = found.cell(found.opponent, column, WHOLE, metric)
            if cell is not None:
                mine = f"{cell.mean:.4f} [{cell.mean_low:.4f}, {cell.mean_high:.4f}]"
                theirs = f"{cell.other_mean:.4f} [{cell.other_low:.4f}, {cell.other_high:.4f}]"
                lines.append(f"| {metric} | {TITLES[column]} | {mine} | {theirs} | {interval(cell)} |")
    for column, share in found.coverage.get(found.challenger, {}).items():
        theirs = found.coverage.get(found.opponent, {}).get(column)
        lines.append(
            f"| coverage | {TITLES[column]} | {share:.1%} | {'' if theirs is None else f'{theirs:.1%}'} | |"
        )
    return [*lines, ""]


def _baselines(found: Comparison) -> list[str]:
    """The primary metric (the first of a comparison) against every other version that was evaluated."""
    others = sorted({cell.other for cell in found.cells.values()} - {found.opponent})
    metric = next((cell.metric for cell in found.cells.values()), "")
    rows = []
    for other in others:
        cells = [found.cell(other, column, WHOLE, metric) for column in COLUMNS]
        shown = [f"{cell.other_mean:.4f}: {interval(cell)}" if cell else "not measured" for cell in cells]
        rows.append(f"| {version_title(other)} | {shown[0]} | {shown[1]} |")
    heading = [f"| {metric} of, and difference to it | {TITLES['all']} | {TITLES['new']} |", "|---|---|---|"]
    return [*heading, *rows, ""] if rows else []


def _rules(verdicts: list[Verdict]) -> list[str]:
    told = [each for each in verdicts if each.verdict in (FAILED, BLOCKED)]
    passed = sum(each.verdict == PASSED for each in verdicts)
    silent = len(verdicts) - passed - len(told)
    summary = f"{passed} of {len(verdicts)} rules passed, {silent} had no vote."
    lines = [f"- **{each.rule}** ({each.verdict}): {each.sentence}" for each in told]
    return [*lines, *([""] if lines else []), summary]
