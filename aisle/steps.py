"""Runs one step or a whole stage in this process, the same way for the command and for a DAG task."""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

from aisle.errors import AisleError, NotThere
from aisle.settings import Settings
from aisle.stages import STAGES, StepContext


def resolve(name: str) -> list[tuple[str, str]]:
    """``stage`` or ``stage.step`` as [(``stage.step``, module)].

    >>> resolve("ingest.bronze")
    [('ingest.bronze', 'jobs.bronze')]
    """
    stage, _, step = name.partition(".")
    if stage not in STAGES or (step and step not in STAGES[stage]):
        known = ", ".join(f"{known}.{each}" for known, steps in STAGES.items() for each in steps)
        raise NotThere(f"no stage or step {name!r}; there are {known}")
    return [(f"{stage}.{each}", module) for each, module in STAGES[stage].items() if step in ("", each)]


def run(name: str, settings: Settings, context: StepContext) -> dict[str, Any]:
    """Runs the steps in order; each sees what the ones before returned in ``context.params['upstream']``.

    A result with ``{"skip": reason}`` ends the stage early, without an error.
    """
    results: dict[str, Any] = {}
    upstream = dict(context.params.get("upstream") or {})
    for step, module in resolve(name):
        started = time.monotonic()
        print(f"[{step}] …", file=sys.stderr, flush=True)
        told = StepContext(context.as_of, context.run_id, {**context.params, "upstream": upstream})
        result = importlib.import_module(module).run(settings, told) or {}
        result.setdefault("seconds", round(time.monotonic() - started, 2))
        json.dumps(result)  # what does not serialise must fail here, not in Airflow
        print(f"[{step}] done in {result['seconds']} s{_summary(result)}", file=sys.stderr, flush=True)
        results[step] = upstream[step] = result
        if result.get("skip"):
            print(f"[{step}] nothing more to do: {result['skip']}", file=sys.stderr, flush=True)
            break
    return results


def _summary(result: dict[str, Any]) -> str:
    """What a step did, from the numbers and short texts of its result.

    >>> _summary({"as_of": "2011-12-10", "rows_in": 3, "emit": True, "seconds": 1.2, "markdown": "| a |\\n", "x": None})
    ': as_of 2011-12-10, rows_in 3, emit true'
    """
    told = {key: value for key, value in result.items() if key not in ("seconds", "skip")}
    shown = [
        f"{key} {json.dumps(value) if isinstance(value, bool) else value}"
        for key, value in told.items()
        if isinstance(value, int | float)
        or (isinstance(value, str) and 0 < len(value) <= 100 and "\n" not in value)
    ]
    return f": {', '.join(shown)}" if shown else ""


def friendly(error: BaseException) -> AisleError | None:
    """The user's mistake or the machine's state behind an error, in one line; None where it is our defect."""
    from aisle.errors import DiskFull

    if isinstance(error, AisleError):
        return error
    text = str(error)
    if (isinstance(error, OSError) and error.errno == 28) or any(
        words in text for words in ("No space left on device", "database or disk is full")
    ):
        from aisle.lake import home

        return DiskFull(
            f"no room left under {home()}: free some, then run the same command again; nothing was half-published"
        )
    return None
