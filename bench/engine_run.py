"""The engine on one protocol, in a process of its own: `run(protocol, settings)`.

As training.quality.compare: on each earlier window a blend is chosen and gives the ranker its examples, on validation the blend
and the ranker are chosen, on everything before the test the sources are fitted once more. Then every user is asked.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aisle import settings as settings_module
from aisle.lake import project_root
from aisle.settings import Settings
from bench.judging import Question
from bench.peers.run import peak_mib
from bench.protocols import Protocol

OURS, BLEND = "aisle", "aisle without ranker"


@dataclass(frozen=True)
class EngineRun:
    """lists: by model, then column, as bench.judging reads them. seconds: of everything up to the first answer.

    shares: of those seconds that each source's last fit took. us_per_list: by model.
    """

    lists: dict[str, dict[str, np.ndarray]]
    seconds: float
    shares: dict[str, float]
    peak_mib: float
    us_per_list: dict[str, float]


def everything() -> Settings:
    """The project's settings, with every source that there is for validation to choose from. The same for all sets."""
    settings = settings_module.load()
    training = settings.training.model_copy(update={"sources": [*settings.training.sources, "sequence"]})
    return settings.model_copy(update={"training": training})


def run(protocol: Protocol, settings: Settings) -> EngineRun:
    """Raises CalledProcessError where the engine fails. `settings` are read anew in the other process."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, answer = Path(scratch) / "asked.pickle", Path(scratch) / "answer.pickle"
        asked.write_bytes(pickle.dumps((protocol, settings), protocol=5))
        command = [sys.executable, "-m", "bench.engine_run", str(asked), str(answer)]
        subprocess.run(command, cwd=project_root(), check=True)
        return pickle.loads(answer.read_bytes())


def _here(protocol: Protocol, settings: Settings) -> EngineRun:
    from engine.evaluation import baseline

    started = time.perf_counter()
    ours, shares = fitted(protocol, settings)
    seconds = time.perf_counter() - started
    models = {OURS: ours, BLEND: ours.with_ranker(None)}
    models |= {f"{name} alone": baseline(ours, name) for name in ours.sources}
    question = Question.of(protocol.test)
    lists, times = {}, {}
    for name, model in models.items():
        begun = time.perf_counter()
        lists[name] = {column: lists_of(model, question, column) for column in protocol.columns}
        times[name] = (time.perf_counter() - begun) / len(question.asked) / len(protocol.columns) * 1e6
        print(f"{protocol.name}: {name}, {times[name]:.0f} µs a list", file=sys.stderr, flush=True)
    total = sum(shares.values()) or 1.0
    return EngineRun(lists, seconds, {name: each / total for name, each in shares.items()}, peak_mib(), times)


def fitted(protocol: Protocol, settings: Settings):
    """The recommender at the test's start, and the seconds of each source's last fit."""
    from engine.recipe import Recipe
    from engine.recommender import Recommender
    from training.learned import with_sequence
    from training.selection import select
    from training.sequence_model import SequenceSettings

    most, recipe = settings.training.blend_users, Recipe.of(settings)
    earlier, validation, test = protocol.earlier, protocol.validation, protocol.test
    if "sequence" in recipe.sources:
        windows = with_sequence([*earlier, validation, test], len(earlier), recipe, SequenceSettings(), _say)
        earlier, (validation, test) = windows[:-2], windows[-2:]
    chosen, choice, _ = select(earlier, validation, recipe, most, settings.training.ranker_users, say=_say)
    ranker = choice.ranker
    with _timed_sources() as seconds:
        ours = Recommender.fit(test.items, test.histories, test.at, chosen, test.exports, ranker)
    return ours, seconds


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _timed_sources:
    """Seconds of each source's `fit` while it is open, by name."""

    def __enter__(self) -> dict[str, float]:
        from engine.sources import FROM_HISTORIES

        self.kinds, self.before, found = FROM_HISTORIES, dict(FROM_HISTORIES), {}
        for name, kind in self.before.items():
            FROM_HISTORIES[name] = _Timed(kind, name, found)
        return found

    def __exit__(self, *_) -> None:
        self.kinds.update(self.before)


@dataclass(frozen=True)
class _Timed:
    kind: type
    name: str
    seconds: dict[str, float]

    def fit(self, *args, **kwargs):
        started = time.perf_counter()
        fitted = self.kind.fit(*args, **kwargs)
        self.seconds[self.name] = time.perf_counter() - started
        return fitted

    def __getattr__(self, name: str):
        return getattr(self.kind, name)


def lists_of(model, question: Question, column: str) -> np.ndarray:
    """(asked, DEPTH) columns of the question's items, from what the model would show."""
    from bench.judging import DEPTH
    from engine import metrics
    from engine.state import from_frame

    place = {item: row for row, item in enumerate(question.item_ids)}
    to_question = np.array([place.get(item, -1) for item in model.catalogue.item_ids] + [-1])
    states = from_frame(question.window.histories.iloc[question.asked])
    chunks = model.chunks(states, question.window.at, new_only=column == "new")
    found = [metrics.top_k(scores, DEPTH) for scores in chunks]
    return to_question[np.vstack(found)]


def main() -> None:
    asked, answer = (Path(each) for each in sys.argv[1:3])
    protocol, settings = pickle.loads(asked.read_bytes())  # written by `run` a moment ago
    answer.write_bytes(pickle.dumps(_here(protocol, settings), protocol=5))


if __name__ == "__main__":
    # Under its own name, not __main__, so that what is pickled can be read by who asked.
    from bench.engine_run import main as named_main

    named_main()
