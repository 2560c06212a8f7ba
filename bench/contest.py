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
from bench.peers.base import Peer
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
    """The peers on one protocol. minutes: of tuning, the same for each. kept: seconds that the cache saved this run."""

    def __init__(self, protocol: Protocol, minutes: float):
        self.protocol, self.seconds, self.kept = protocol, minutes * 60, 0.0
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
        tuned = self._tuned(name, columns, self._version(peer, "validation"))
        configs = {
            each: max(tuned["trials"], key=lambda trial, each=each: trial[each])["config"] for each in columns
        }
        version = self._version(peer, "test")
        path = self.folder / f"final-{cache.key(self.digests['test'], name, version, configs)}"
        there = path.with_suffix(".json").exists()
        if not there:
            self._child("final", name, "test", path, {"configs": configs})
        measured = cache.read(path.with_suffix(".json"))
        if there:
            told = measured["columns"].values()
            self.kept += sum(
                each["seconds"] + each["us_per_list"] * len(self.test.asked) / 1e6 for each in told
            )
        trials = [{key: trial[key] for key in trial} for trial in tuned["trials"]]
        return Entry(name, cache.read_lists(path.with_suffix(".npz")), {**measured, "trials": trials})

    def _version(self, peer: Peer, part: str) -> int | list[Any]:
        """What of the peer the cache's key holds: its code's version, and the columns that it reads beside histories and ids."""
        window = getattr(self.protocol, part)
        return [peer.VERSION, protocols.digest(window, peer.READS)] if peer.READS else peer.VERSION

    def _tuned(self, name: str, columns: list[str], version: int | list[Any]) -> dict[str, Any]:
        said = {"columns": columns, "metric": self.protocol.metrics[0], "seconds": self.seconds}
        path = self.folder / f"tuned-{cache.key(self.digests['validation'], name, version, said)}.json"
        known = cache.read(path) or {}
        self.kept += sum(trial["seconds"] for trial in known.get("trials", []))
        if not known.get("done"):
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

    def forget_questions(self) -> None:
        """What peers were asked holds people's histories: a shop's own is not left lying about."""
        for path in self.folder.glob("question-*.pickle"):
            path.unlink()

    def all(self) -> list[Entry]:
        """A peer that fails is told as a row without figures: one broken library must not take the others along."""
        found = []
        for name in WHERE:
            try:
                found.append(self.run(name))
            except subprocess.CalledProcessError as error:
                found.append(Entry(name, {}, {}, f"failed: {error}", stands_in(self.protocol.name, name)))
        return found
