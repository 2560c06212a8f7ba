"""`make bench-quality [SET=…]`: the engine beside tuned peers and published figures, full ranking, on fixed protocols.

One table, one plot and one part of bench/results/quality.json a set; parts of earlier runs are kept. What took time is kept in
.aisle-bench/quality, so that a killed run goes on. `make bench-quality-quick`: Online Retail, seconds of tuning.
`--set shop` (`aisle evaluate --peers`) asks what was imported into AISLE_HOME; its figures stay there, in AISLE_HOME/quality.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from aisle import clock, lake
from aisle.errors import AisleError
from bench import cache, engine_run, plots, protocols
from bench.contest import Contest
from bench.judging import summary
from bench.protocols import MAIN, SHOP, Protocol
from bench.published import MARK, of_set
from bench.quality_table import columns_and_metrics, show
from bench.report import RESULTS, earlier, publish, rewritten, with_earlier
from bench.report import show as show_figures
from bench.targets import QUICK_SECONDS, Figure, figures_of, of_main

QUICK_MINUTES = 0.15


def run(
    name: str, minutes: float, with_engine: bool = True, quick: bool = False, as_of: datetime | None = None
) -> dict[str, Any]:
    """Rows (model, column, metric, mean, low, high, seconds, …), notes, the tuned configurations and what the engine told of itself.

    quick: without the sequence model, whose training takes minutes. as_of: of SHOP, whose data from then on is not seen. Raises
    NotHere, and an AisleError of a shop that cannot be judged.
    """
    started = time.perf_counter()
    protocol = protocols.imported(as_of) if name == SHOP else protocols.load(name)
    contest = Contest(protocol, minutes)
    rows, notes, tuned = [], [], {}
    for entry in contest.all():
        if entry.why:
            notes.append(f"{entry.name}: {entry.why}")
        if entry.published:
            rows += _published(protocol, f"{entry.name} {MARK}", entry.published.figures)
        for column, listed in entry.lists.items():
            own = entry.measured["columns"][column]
            told = {
                "seconds": own["seconds"],
                "us_per_list": own["us_per_list"],
                "peak_mib": entry.measured["peak_mib"],
            }
            rows += [
                {"model": entry.name, **row, **told}
                for row in summary(contest.test, {column: listed}, protocol.metrics)
            ]
        if entry.lists:
            tuned[entry.name] = {column: own["config"] for column, own in entry.measured["columns"].items()}
    engine: dict[str, Any] = {}
    if with_engine:
        try:
            found = engine_run.run(
                protocol, engine_run.without_sequence() if quick else engine_run.everything()
            )
            engine = {"seconds_by_part": found.parts, "sizes": found.sizes}
            notes += found.notes
            for model, lists in found.lists.items():
                told = _of_model(model, found)
                rows += [
                    {"model": model, **row, **told} for row in summary(contest.test, lists, protocol.metrics)
                ]
        except subprocess.CalledProcessError as error:
            notes.append(f"the engine failed: {error}")
    for each in of_set(name):
        rows += _published(protocol, f"{each.model} {MARK} ({each.source})", each.figures)
    if name == SHOP:
        contest.forget_questions()
    if engine:
        engine["seconds_from_nothing"] = time.perf_counter() - started + contest.kept
    return {"rows": rows, "notes": notes, "tuned": tuned, "minutes": minutes, **engine}


def _of_model(model: str, found: engine_run.EngineRun) -> dict[str, float | None]:
    """A source alone takes its own fit; memory is that of all sources together, and only the whole engine can tell it."""
    whole, source = model == engine_run.OURS, model.removesuffix(engine_run.ALONE)
    return {
        "seconds": found.seconds if whole else found.fits.get(source),
        "us_per_list": found.us_per_list[model],
        "peak_mib": found.peak_mib if whole else None,
    }


def _published(protocol: Protocol, model: str, figures: dict[str, float]) -> list[dict[str, Any]]:
    column = protocol.columns[-1]
    return [
        {
            "model": model,
            "column": column,
            "metric": metric,
            "mean": value,
            "seconds": None,
            "published": True,
        }
        for metric, value in figures.items()
    ]


def sets_of(said: str) -> tuple[str, ...]:
    """Raises ArgumentTypeError.

    >>> sets_of("beauty, toys")
    ('beauty', 'toys')
    """
    names = tuple(said.replace(",", " ").split())
    chosen = {(): MAIN, ("main",): MAIN, ("all",): protocols.SETS}.get(names, names)
    if unknown := sorted(set(chosen) - {*protocols.SETS, SHOP}):
        raise argparse.ArgumentTypeError(
            f"no set {', '.join(unknown)}; there are {', '.join(protocols.SETS)}, and {SHOP}: what was imported into AISLE_HOME"
        )
    return chosen


def positive(said: str) -> float:
    """Raises ArgumentTypeError."""
    try:
        found = float(said)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{said!r} is no number of minutes above 0")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.quality --set 'beauty toys' --minutes 2",
    )
    parser.add_argument(
        "--set",
        default=MAIN,
        type=sets_of,
        help=f"one or more of {', '.join(protocols.SETS)}, {SHOP}, all, or main (default)",
    )
    parser.add_argument("--minutes", type=positive, default=5.0, help="of tuning, the same for each peer")
    parser.add_argument(
        "--quick", action="store_true", help="Online Retail alone, seconds of tuning; writes nothing"
    )
    parser.add_argument("--peers-only", action="store_true", help="fills the cache; writes nothing")
    parser.add_argument("--as-of", help=f"of {SHOP}: UTC date or time; data from then on is not seen")
    parser.add_argument("--json", action="store_true", help="prints JSON only")
    parser.add_argument(
        "--reprint",
        action="store_true",
        help="runs nothing: tables, plots and targets of bench/results/quality.json",
    )
    asked = parser.parse_args()
    if asked.reprint:
        return reprint()
    if not asked.json:
        return of_sets(asked)[0]
    with contextlib.redirect_stdout(sys.stderr):
        code, found = of_sets(asked)
    print(json.dumps(found))
    return code


def of_sets(asked: argparse.Namespace) -> tuple[int, dict[str, dict[str, Any]]]:
    """What the command returns, and what was found, by set."""
    if asked.quick:
        asked.set, asked.minutes = ("online_retail",), QUICK_MINUTES
    found: dict[str, dict[str, Any]] = {}
    for name in asked.set:
        started = time.monotonic()
        try:
            found[name] = judged(name, asked)
        except (protocols.NotHere, AisleError) as why:
            print(why, file=sys.stderr)
            if isinstance(why, AisleError):
                return why.exit_code, found
            continue
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    public = {name: each for name, each in found.items() if name != SHOP}
    if asked.quick and found:
        figures = figures_of("online_retail", found["online_retail"]["rows"], found["online_retail"])
        took = found["online_retail"].get("seconds_from_nothing")
        show_figures(
            "quality, quick", {**figures, "quick run from nothing": Figure(took, "s", "<=", QUICK_SECONDS)}
        )
    elif public and not asked.peers_only:
        whole = with_earlier("quality", public)
        publish("quality", all_figures(whole), {"sets": whole})
    return 0, found


def judged(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One set run and shown; a shop's figures and plot are written where its data is."""
    if name == SHOP:
        os.environ.setdefault(cache.HERE, str(lake.home() / "quality" / "kept"))
    as_of = clock.parse(asked.as_of) if asked.as_of else None
    found = run(name, asked.minutes, not asked.peers_only, asked.quick, as_of)
    show(name, found)
    if asked.quick or asked.peers_only:
        return found
    if name == SHOP:
        into = lake.home() / "quality"
        into.mkdir(parents=True, exist_ok=True)
        (into / "quality.json").write_text(json.dumps(found, indent=2) + "\n")
        plot(found, into / "quality.png")
        print(f"figures and plot: {into}", file=sys.stderr)
    else:
        plot(found, RESULTS / f"quality_{name}.png")
    return found


def plot(found: dict[str, Any], path: Path) -> None:
    columns, metrics = columns_and_metrics(found["rows"])
    plots.quality_against_time(found["rows"], columns, metrics[0], path)


def all_figures(sets: dict[str, dict[str, Any]]) -> dict[str, Figure]:
    each = {k: v for name, part in sets.items() for k, v in figures_of(name, part["rows"], part).items()}
    return each | of_main(sets, MAIN)


def reprint() -> int:
    """Raises nothing: without results it says so."""
    sets = earlier("quality").get("details", {}).get("sets", {})
    if not sets:
        print("there is no bench/results/quality.json with sets: run `make bench-quality`", file=sys.stderr)
        return 1
    for name, part in sets.items():
        show(name, part)
        plot(part, RESULTS / f"quality_{name}.png")
    figures = all_figures(sets)
    show_figures("quality", figures)
    rewritten("quality", figures, {"sets": sets})
    return 0


if __name__ == "__main__":
    sys.exit(main())
