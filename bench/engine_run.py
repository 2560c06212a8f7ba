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
from typing import Any

import numpy as np

from aisle import settings as settings_module
from aisle.lake import project_root
from aisle.settings import Settings
from bench.judging import Question
from bench.peers.run import peak_mib
from bench.protocols import Protocol
from bench.stopwatch import Stopwatch, engine_parts
from engine.windows import Window

OURS, BLEND, ALONE = "aisle", "aisle without ranker", " alone"
SLOTS = (1, 2, 3, 4)  # discovery slots, what they cost and bring; the settings have none
NO_TOWER = "which would have to be trained for each window, as `aisle run train` does; `make bench-two_tower` measures it alone"


@dataclass(frozen=True)
class EngineRun:
    """lists: by model, then column, as bench.judging reads them. seconds: of everything up to the first answer.

    parts: those seconds by what they went into: each source over all its fits, the Transformer, blend and ranker, the rest.
    fits: of each source's fit for the test. us_per_list: by model. sizes: by source, bytes and what engine.sizing says at most.
    """

    lists: dict[str, dict[str, np.ndarray]]
    seconds: float
    parts: dict[str, float]
    fits: dict[str, float]
    peak_mib: float
    us_per_list: dict[str, float]
    sizes: dict[str, dict[str, float]]
    notes: list[str]


def everything() -> Settings:
    """The project's settings, with every source that there is for validation to choose from. The same for all sets."""
    return _with_sources([*without_sequence().training.sources, "sequence"])


def without_sequence() -> Settings:
    """Those without the sequence model, whose training takes minutes a window."""
    return _with_sources([name for name in settings_module.load().training.sources if name != "sequence"])


def _with_sources(names: list[str]) -> Settings:
    settings = settings_module.load()
    return settings.model_copy(update={"training": settings.training.model_copy(update={"sources": names})})


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
    ours, watch = fitted(protocol, settings)
    seconds = time.perf_counter() - started
    models = {OURS: ours, BLEND: ours.with_ranker(None)}
    models |= {f"{name}{ALONE}": baseline(ours, name) for name in ours.sources}
    if not protocol.leaves_out_history:  # a shop's own case: the lists of the others show twice what ALS's do
        models |= with_slots(ours, protocol.test)
    question = Question.of(protocol.test)
    lists, times = {}, {}
    for name, model in models.items():
        begun = time.perf_counter()
        lists[name] = {column: lists_of(model, question, column) for column in protocol.columns}
        times[name] = (time.perf_counter() - begun) / len(question.asked) / len(protocol.columns) * 1e6
        print(f"{protocol.name}: {name}, {times[name]:.0f} µs a list", file=sys.stderr, flush=True)
    parts = {**watch.seconds, "the rest": max(seconds - sum(watch.seconds.values()), 0.0)}
    # The sequence model's seconds are those of all windows together: no fit of its own to tell.
    fits = {name: watch.last[name] for name in ours.sources if name in watch.last and name != "sequence"}
    notes = _left_out(protocol, settings, ours)
    return EngineRun(lists, seconds, parts, fits, peak_mib(), times, _sizes(ours, protocol), notes)


def with_slots(ours, test: Window) -> dict[str, Any]:
    """By name, the engine with discovery slots."""
    final = ours.recipe.final
    priced = ours.with_discovery(test.histories)
    return {
        f"{OURS}, {slots} discovery slot{'s' * (slots > 1)}": priced.with_final(
            final.model_copy(update={"discovery_slots": slots})
        )
        for slots in SLOTS
    }


def fitted(protocol: Protocol, settings: Settings):
    """The recommender at the test's start, and a Stopwatch of what its parts took."""
    from aisle.goal import towards
    from engine.recipe import Recipe
    from engine.recommender import Recommender
    from training.learned import with_sequence
    from training.selection import select
    from training.sequence_model import SequenceSettings

    settings = towards(settings, protocol.test.goal)
    most, recipe, watch = settings.training.blend_users, Recipe.of(settings), Stopwatch()
    earlier, validation, test = protocol.earlier, protocol.validation, protocol.test
    with engine_parts(watch):
        if "sequence" in recipe.sources:
            with watch.of("sequence"):
                windows = with_sequence(
                    [*earlier, validation, test], len(earlier), recipe, SequenceSettings(), _say
                )
            earlier, (validation, test) = windows[:-2], windows[-2:]
        chosen, choice, _ = select(
            earlier, validation, recipe, most, settings.training.ranker_users, say=_say
        )
        ours = Recommender.fit(test.items, test.histories, test.at, chosen, test.exports, choice.ranker)
    return ours, watch


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _left_out(protocol: Protocol, settings: Settings, ours) -> list[str]:
    """A line for each source that the settings ask for and the engine does without."""
    why = {"two_tower": NO_TOWER}
    if all(len(set(times)) < 2 for times in protocol.validation.histories["event_times"]):
        why["sequence"] = "all events of a user are of one moment, so that nothing tells their order"
    missing = [name for name in settings.training.sources if name not in ours.sources]
    return [f"{OURS}: no {name}, {why.get(name, 'which brought validation too little')}" for name in missing]


def _sizes(ours, protocol: Protocol) -> dict[str, dict[str, float]]:
    """Bytes of each source's arrays, and what the published rule says that they take at most."""
    from engine.sizing import measured, rates
    from training.sequence_model import SequenceSettings

    histories = protocol.test.histories
    events, users = int(histories["item_ids"].str.len().fillna(0).sum()), len(histories)
    longest = max(map(len, ours.catalogue.item_ids))
    learned = {"sequence": SequenceSettings().dimension} if "sequence" in ours.sources else {}
    rule = rates(ours.recipe, len(ours.countries), longest, learned)
    return {
        name: {"bytes": size, "rule": rule[name].bytes(len(ours.catalogue), events, users)}
        for name, size in measured(ours).items()
    }


def lists_of(model, question: Question, column: str) -> np.ndarray:
    """(asked, DEPTH) columns of the question's items, from what the model would show."""
    from bench.judging import DEPTH
    from engine.state import from_frame

    place = {item: row for row, item in enumerate(question.item_ids)}
    to_question = np.array([place.get(item, -1) for item in model.catalogue.item_ids] + [-1])
    states = from_frame(question.window.histories.iloc[question.asked])
    chunks = model.chunks(states, question.window.at, new_only=column == "new")
    found = [model.top(scores, DEPTH) for scores in chunks]
    return to_question[np.vstack(found)]


def main() -> None:
    asked, answer = (Path(each) for each in sys.argv[1:3])
    protocol, settings = pickle.loads(asked.read_bytes())  # written by `run` a moment ago
    answer.write_bytes(pickle.dumps(_here(protocol, settings), protocol=5))


if __name__ == "__main__":
    # Under its own name, not __main__, so that what is pickled can be read by who asked.
    from bench.engine_run import main as named_main

    named_main()
