"""The peers on one set: tuned on validation with the same minutes each, then fitted once on everything before the test.

Everything that took time is kept in bench.cache, so that a killed run goes on and a repeated one takes seconds.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aisle.lake import project_root
from bench import cache, protocols
from bench.judging import Question
from bench.peers import WHERE, named
from bench.protocols import Protocol
from bench.published import Published, stands_in

VALIDATION_USERS = 4_000  # a seeded sample decides between configurations; the test judges all


@dataclass(frozen=True)
class Entry:
    """One peer on one set. lists: by column. why: why there are none; published: what stands in then."""

    name: str
    lists: dict[str, np.ndarray]
    measured: dict[str, Any]
    why: str | None = None
    published: Published | None = None


class Contest:
    """The peers on one protocol. minutes: of tuning, the same for each."""

    def __init__(self, protocol: Protocol, minutes: float):
        self.protocol, self.seconds = protocol, minutes * 60
        self.digests = {part: protocols.digest(getattr(protocol, part)) for part in ("validation", "test")}
        self.validation = Question.of(protocol.validation, VALIDATION_USERS)
        self.test = Question.of(protocol.test)
        self.folder = cache.folder() / protocol.name

    def run(self, name: str) -> Entry:
        peer = named(name)
        columns = [each for each in self.protocol.columns if each in peer.columns]
        why = peer.fits(self.test) if columns else "says nothing of items that are new to the user"
        if why:
            return Entry(name, {}, {}, why, stands_in(self.protocol.name, name))
        tuned = self._tuned(name, columns, peer.VERSION)
        configs = {
            each: max(tuned["trials"], key=lambda trial, each=each: trial[each])["config"] for each in columns
        }
        path = self.folder / f"final-{cache.key(self.digests['test'], name, peer.VERSION, configs)}"
        if not path.with_suffix(".json").exists():
            self._child("final", name, "test", path, {"configs": configs})
        measured = cache.read(path.with_suffix(".json"))
        trials = [{key: trial[key] for key in trial} for trial in tuned["trials"]]
        return Entry(name, cache.read_lists(path.with_suffix(".npz")), {**measured, "trials": trials})

    def _tuned(self, name: str, columns: list[str], version: int) -> dict[str, Any]:
        said = {"columns": columns, "metric": self.protocol.metrics[0], "seconds": self.seconds}
        path = self.folder / f"tuned-{cache.key(self.digests['validation'], name, version, said)}.json"
        if not (cache.read(path) or {}).get("done"):
            self._child("tune", name, "validation", path, said)
        return cache.read(path)

    def _child(self, step: str, name: str, part: str, path: Path, said: dict[str, Any]) -> None:
        print(f"{self.protocol.name}: {name}, {step}", file=sys.stderr, flush=True)
        question = self.folder / f"question-{part}-{self.digests[part]}.pickle"
        if not question.exists():
            question.parent.mkdir(parents=True, exist_ok=True)
            question.write_bytes(pickle.dumps(getattr(self, part), protocol=5))
        command = [
            sys.executable,
            "-m",
            "bench.peers.run",
            step,
            name,
            str(question),
            str(path),
            json.dumps(said),
        ]
        subprocess.run(command, cwd=project_root(), check=True)

    def all(self) -> list[Entry]:
        """A peer that fails is told as a row without figures: one broken library must not take the others along."""
        found = []
        for name in WHERE:
            try:
                found.append(self.run(name))
            except subprocess.CalledProcessError as error:
                found.append(Entry(name, {}, {}, f"failed: {error}", stands_in(self.protocol.name, name)))
        return found
