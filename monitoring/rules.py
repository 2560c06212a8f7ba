"""The gate's rules: each reads a comparison and says passed, failed, blocked or shown, in one sentence with
its figures.

failed: the model is refused. blocked: the rule could not be judged, and what cannot be judged is not
released.
shown: no vote. `docs/gate.md` gives the reason of each rule. Thresholds are settings (`[gate]`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from aisle.settings import Gate
from monitoring.comparison import (
    BASELINES,
    CHAMPION,
    COLUMNS,
    SLICES,
    WHOLE,
    Cell,
    Comparison,
    guards,
    metric_names,
)
from monitoring.intervals import least_differing

PASSED, FAILED, BLOCKED, SHOWN = "passed", "failed", "blocked", "shown"


@dataclass(frozen=True)
class Verdict:
    """What one rule says. figures: the numbers that it said it on."""

    rule: str
    verdict: str
    sentence: str
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Rule = Callable[[Comparison, Gate], Iterator[Verdict]]


def percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def interval(cell: Cell) -> str:
    """'+2.1 % [-0.3 %, +4.6 %]': the relative difference with its interval."""
    return f"{percent(cell.difference)} [{percent(cell.low)}, {percent(cell.high)}]"


def _name(version: str) -> str:
    return (
        f"champion {version.removeprefix(CHAMPION)}"
        if version.startswith(CHAMPION)
        else version.replace("_", " ")
    )


def _said(cell: Cell) -> str:
    means = f"{cell.mean:.4f} against {cell.other_mean:.4f} of {_name(cell.other)}"
    where = "" if cell.slice == WHOLE else f", {cell.slice.replace('_', ' ')}"
    return f"{cell.metric} ({cell.column} items{where}) {means}: {interval(cell)}"


def _figures(cell: Cell, **more: float) -> dict[str, Any]:
    return asdict(cell) | more


def _judge(
    rule: str, cell: Cell | None, holds: Callable[[Cell], bool], good: str, bad: str, **more: float
) -> Verdict:
    """One cell against one condition; blocked where the cell is not there."""
    if cell is None:
        return Verdict(rule, BLOCKED, "its metric was not measured for both versions on the same users")
    kept = holds(cell)
    return Verdict(
        rule, PASSED if kept else FAILED, f"{_said(cell)}; {good if kept else bad}", _figures(cell, **more)
    )


def metrics_present(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """No metric, no promotion."""
    if found.missing:
        yield Verdict(
            "metrics_present",
            BLOCKED,
            "not measured: " + "; ".join(found.missing),
            {"missing": found.missing},
        )
    else:
        yield Verdict(
            "metrics_present", PASSED, f"every metric was measured, against {_name(found.opponent)}"
        )


def metrics_finite(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """A number that is none comes of broken weights or a broken evaluation; its mean over the other users
    would hide it.
    """
    bad = found.not_finite
    sentence = "not a finite number: " + "; ".join(bad) if bad else "every metric is a finite number"
    yield Verdict("metrics_finite", FAILED if bad else PASSED, sentence, {"not_finite": bad})


def enough_users(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    enough = found.users >= gate.min_users
    sentence = f"{found.users} held-out users, {gate.min_users} are needed"
    if not enough:
        sentence += ": a longer training.test_days holds out more, or lower gate.min_users"
    yield Verdict(
        "enough_users",
        PASSED if enough else BLOCKED,
        sentence,
        {"users": found.users, "least": gate.min_users},
    )


def answers(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """A model whose scores are not finite lists nothing; one that fell back to a list for everybody shows
    little.
    """
    share = found.coverage.get(found.challenger, {}).get(WHOLE)
    if share is None:
        yield Verdict("coverage", BLOCKED, "coverage was not measured")
        return
    kept = share >= gate.min_coverage
    sentence = f"its lists show {share:.1%} of the catalogue, at least {gate.min_coverage:.1%} are needed"
    if share == 0:
        sentence += "; they are all empty, as those of a model whose weights are not numbers"
    yield Verdict(
        "coverage", PASSED if kept else FAILED, sentence, {"coverage": share, "least": gate.min_coverage}
    )


def primary(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """The primary metric must prove the gain or that nothing beyond the margin is lost: the whole interval
    above -margin.
    """
    cell = found.cell(found.opponent, WHOLE, WHOLE, metric_names(gate)[0])
    good = (
        "a proven gain"
        if cell and cell.low > 0
        else f"not inferior, the whole interval lies above -{gate.margin:.1%}"
    )
    bad = f"the interval reaches below -{gate.margin:.1%}, so a loss beyond the margin is not ruled out"
    yield _judge("primary_metric", cell, lambda each: each.low > -gate.margin, good, bad, margin=gate.margin)


def new_items_column(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """A model that only repeats looks good on all items: on items new to the user no harm may be proven."""
    cell = found.cell(found.opponent, "new", WHOLE, metric_names(gate)[0])
    yield _harm("new_to_user", cell, gate.margin)


def supporting(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """The other metrics, in both columns, may not be proven worse beyond the margin."""
    for column in COLUMNS:
        for name in metric_names(gate)[1:]:
            cell = found.cell(found.opponent, column, WHOLE, name)
            yield _harm(f"no_harm:{name}:{column}", cell, gate.margin)


def _harm(rule: str, cell: Cell | None, margin: float) -> Verdict:
    """Fails where the whole interval lies below -margin; a smaller loss is told, but does not refuse."""
    good, bad = _harmless(cell, margin), f"proven harm: the whole interval lies below -{margin:.1%}"
    return _judge(rule, cell, lambda each: each.high >= -margin, good, bad, margin=margin)


def _harmless(cell: Cell | None, margin: float) -> str:
    """What an interval that does not refuse says, the strongest first."""
    if cell and cell.low > 0:
        return "a proven gain"
    if cell and cell.low > -margin:
        return f"within the margin: the whole interval lies above -{margin:.1%}"
    return "no harm beyond the margin is proven"


def slices(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """A slice vetoes only on proven harm: of many slices, some look bad by chance."""
    name = metric_names(gate)[0]
    for column in COLUMNS:
        for slice_ in SLICES:
            cells = [found.cell(other, column, slice_, name) for other in guards(found.opponent)]
            yield _slice(f"slice:{slice_}:{column}", [cell for cell in cells if cell], gate)


def _slice(rule: str, cells: list[Cell], gate: Gate) -> Verdict:
    """One slice against the champion. Without one, against the baseline that it comes off best with:
    each of them is a specialist of some slice, so only who is worse than all of them is worse than no
    model.
    """
    if not cells:
        return Verdict(rule, SHOWN, "nobody in the window belongs to it")
    cell = max(cells, key=lambda each: each.high)
    if cell.users < gate.slice_min_users or cell.differing < least_differing(gate.confidence):
        why = f"{cell.users} users, {cell.differing} of them with a difference, are too few to vote"
        return Verdict(rule, SHOWN, f"{_said(cell)}; {why}", _figures(cell))
    return _harm(rule, cell, gate.slice_margin)


def beats_popularity(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """Whoever personalises must do better than one list for everybody: proven on all items, on average on new
    ones.
    """
    name = metric_names(gate)[0]
    whole, new = (found.cell("popularity", column, WHOLE, name) for column in COLUMNS)
    yield _judge(
        "beats_popularity:all", whole, lambda each: each.low > 0, "a proven gain", "the gain is not proven"
    )
    yield _judge("beats_popularity:new", new, lambda each: each.difference > 0, "above it", "not above it")


def not_below_baselines(found: Comparison, gate: Gate) -> Iterator[Verdict]:
    """Who is not inferior to one that was not inferior to one before may still sink: the baselines do not
    move.
    """
    for baseline in BASELINES[1:]:
        cell = found.cell(baseline, WHOLE, WHOLE, metric_names(gate)[0])
        if cell is not None and baseline != found.opponent:
            yield _harm(f"not_below:{baseline}", cell, gate.margin)


RULES: Final[tuple[Rule, ...]] = (
    metrics_present,
    metrics_finite,
    enough_users,
    answers,
    primary,
    new_items_column,
    supporting,
    slices,
    beats_popularity,
    not_below_baselines,
)


def judge(found: Comparison, gate: Gate) -> list[Verdict]:
    """Every rule's verdicts, in order; a rule that cannot be judged does not keep the others from speaking."""
    return [verdict for rule in RULES for verdict in rule(found, gate)]


def overall(verdicts: list[Verdict]) -> str:
    """'refused' if any rule failed, else 'blocked' if any could not be judged, else 'passed'."""
    said = {each.verdict for each in verdicts}
    return "refused" if FAILED in said else "blocked" if BLOCKED in said else "passed"
