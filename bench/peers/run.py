"""A peer's own process: `python -m bench.peers.run tune|final PEER QUESTION OUT [...]`, so that memory and time are its own.

tune tries configurations until the budget or the grid ends, and writes each trial when it is done: a killed run goes on where
it was. final fits once on everything before the test and writes the lists.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import sys
import time
from pathlib import Path
from typing import Any

from bench import cache
from bench.judging import Question, judge
from bench.peers import named
from bench.peers.base import Config, Peer


def tune(peer: Peer, question: Question, columns: list[str], metric: str, seconds: float, path: Path) -> None:
    """Writes {"trials": [{"config", "seconds", column: value}], "done": bool}; a column is judged by `metric`."""
    state = cache.read(path) or {"trials": [], "done": False}
    known = {cache.key(trial["config"]) for trial in state["trials"]}
    spent = sum(trial["seconds"] for trial in state["trials"])
    for config in peer.grid(question):
        if cache.key(config) in known:
            continue
        if spent >= seconds:
            break
        started = time.perf_counter()
        peer.fit(question, config)
        values = {
            each: float(judge(question, each, peer.lists(question, each), (metric,))[metric].mean())
            for each in columns
        }
        took = time.perf_counter() - started
        spent += took
        state["trials"].append({"config": config, "seconds": took, **values})
        cache.write(path, state)
        told = " ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(
            f"  {json.dumps(config)}: {told} ({took:.1f} s, {spent:.0f} of {seconds:.0f} s)",
            file=sys.stderr,
            flush=True,
        )
    cache.write(path, {**state, "done": True})


def final(peer: Peer, question: Question, configs: dict[str, Config], path: Path) -> None:
    """Writes PATH.npz (lists by column) and PATH.json. A column has its own best configuration; the same is fitted once."""
    lists, measured, fitted = {}, {}, None
    for column, config in configs.items():
        if fitted != config:
            started = time.perf_counter()
            peer.fit(question, config)
            fitted, seconds = config, time.perf_counter() - started
        started = time.perf_counter()
        lists[column] = peer.lists(question, column)
        each = (time.perf_counter() - started) / len(question.asked) * 1e6
        own: dict[str, Any] = getattr(peer, "measured", {})  # RecTools' other process tells its own
        measured[column] = {
            "config": config,
            "seconds": own.get("fit_seconds", seconds),
            "us_per_list": own.get(f"{column}_us", each),
        }
    peak = max(peak_mib(), getattr(peer, "measured", {}).get("peak_mib", 0.0))
    cache.write_lists(path.with_suffix(".npz"), lists)
    cache.write(path.with_suffix(".json"), {"columns": measured, "peak_mib": peak})


def peak_mib() -> float:
    """Of this process. Linux's own count starts anew with a program; ru_maxrss would go on from the parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["tune", "final"])
    parser.add_argument("peer")
    parser.add_argument("question", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("said", help="JSON: what the step needs")
    asked = parser.parse_args()
    with asked.question.open("rb") as file:
        question: Question = pickle.load(file)  # written by bench.contest a moment ago
    said = json.loads(asked.said)
    if asked.step == "tune":
        tune(named(asked.peer), question, said["columns"], said["metric"], said["seconds"], asked.out)
    else:
        final(named(asked.peer), question, said["configs"], asked.out)


if __name__ == "__main__":
    main()
