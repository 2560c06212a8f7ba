"""The learned models of a train run, two-tower and sequence: those that are listed, at the cut that is asked for, from the weights that may be used.

Each is an export for the engine, which reads no TensorFlow, and weights (`FILES`, plain arrays) kept with the run: the refit goes on
from those at T, and a later run may start from those at the first cut (`training.warm_start`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from aisle.errors import TooLittleData
from aisle.settings import Settings, Training
from engine.recipe import Recipe
from engine.sources import FROM_EXPORTS, Export
from engine.sources.sequence import Sequence as SequenceSource
from engine.sources.two_tower import TwoTower
from engine.windows import Window
from training.dataset import Dataset

if TYPE_CHECKING:  # TensorFlow, where something is learnt
    from training.sequence import Learned as LearnedSequence
    from training.sequence_model import SequenceSettings
    from training.towers import Tower

FILES = {TwoTower.name: "tower.npz", SequenceSource.name: "sequence.npz"}  # of weights at T
FIRST = "first_"  # before the name of those at the run's first cut
TRUTHS = {"R": "truth_ranker", "V": "truth_validation", "T": "truth_test"}
Weights = dict[str, np.ndarray]
Say = Callable[[str], None]


class Learned(Protocol):
    """How one learnt: a row an epoch, the epoch that was kept (0: none), and whether from weights that were there."""

    @property
    def epochs(self) -> list[dict[str, float]]: ...

    @property
    def kept(self) -> int: ...

    @property
    def warm(self) -> bool: ...

    @property
    def examples_per_second(self) -> float: ...


@dataclass(frozen=True)
class Learnt:
    """What was learnt at each cut, by its name; empty for a source that was not asked for."""

    towers: Mapping[str, Tower] = field(default_factory=dict)
    sequences: Mapping[str, LearnedSequence] = field(default_factory=dict)

    def exports(self, cut: str) -> dict[str, Export]:
        return {name: each[cut].export for name, each in self._by_source() if cut in each}

    def weights(self, cut: str) -> dict[str, Weights]:
        return {name: each[cut].weights for name, each in self._by_source() if cut in each}

    def judged(self) -> dict[str, Learned]:
        """How each learnt where a window chose its epochs: the two-tower at the first cut, the sequence model at V."""
        found: dict[str, Learned] = {}
        if self.towers:
            found[TwoTower.name] = next(iter(self.towers.values())).learned
        if self.sequences:
            found[SequenceSource.name] = self.sequences["V"]
        return found

    def _by_source(self) -> list[tuple[str, Mapping]]:
        return [(TwoTower.name, self.towers), (SequenceSource.name, self.sequences)]


def learn(
    dataset: Dataset, settings: Settings, recipe: Recipe, weights: Mapping[str, Weights], say: Say
) -> Learnt:
    """The recipe's learned models at every cut that choosing needs. weights: by source, to start from, see `training.warm_start`.

    Raises TooLittleData, naming the source, where one cannot be learnt.
    """
    found = Learnt()
    if TwoTower.name in recipe.sources:
        from training import towers

        found = replace(found, towers=towers.fit(dataset, settings.training, say, weights.get(TwoTower.name)))
    if SequenceSource.name in recipe.sources:
        from training.learned import sequences

        cuts = [name for name, _ in dataset.cuts.items() if name in ("R", "V")]
        windows = [window(dataset, name) for name in cuts]
        with _named(SequenceSource.name):
            learnt = sequences(
                windows,
                len(windows) - 1,
                recipe,
                sequence_settings(settings.training),
                say,
                weights.get(SequenceSource.name),
            )
        found = replace(found, sequences=dict(zip(cuts, learnt, strict=True)))
    return found


def at_T(
    learnt: Learnt,
    dataset: Dataset,
    settings: Settings,
    recipe: Recipe,
    weights: Mapping[str, Weights],
    say: Say,
) -> Learnt:
    """With the sequence model at T, as long as validation chose, where the chosen `recipe` kept it: it is learnt for minutes."""
    if SequenceSource.name not in recipe.sources:
        return learnt
    from training.learned import one

    chosen = replace(sequence_settings(settings.training), epochs=max(learnt.sequences["V"].kept, 1))
    with _named(SequenceSource.name):
        last = one(window(dataset, "T"), recipe, chosen, say, weights.get(SequenceSource.name))
    return replace(learnt, sequences={**learnt.sequences, "T": last})


def continued(
    weights: Mapping[str, Weights],
    dataset: Dataset,
    since: datetime,
    cut: str,
    settings: Settings,
    recipe: Recipe,
    say: Say,
) -> dict[str, Export]:
    """The learned sources of `recipe` at the cut named `cut` ("T" | "A"): from weights that saw all before `since`, or anew."""
    found: dict[str, Export] = {}
    if TwoTower.name in recipe.sources:
        from training import towers

        known = weights.get(TwoTower.name)
        found[TwoTower.name] = (
            towers.anew(dataset, cut, settings.training)
            if known is None
            else towers.continued(known, dataset, since, cut, settings.training)
        ).export
    if SequenceSource.name in recipe.sources:
        from training.learned import continued as sequence_continued

        asked, known = sequence_settings(settings.training), weights.get(SequenceSource.name)
        with _named(SequenceSource.name):
            found[SequenceSource.name] = sequence_continued(
                known, window(dataset, cut), recipe, asked, say
            ).export
    return found


def with_sequence_where_listed(windows: Sequence[Window], recipe: Recipe, training: Training) -> list[Window]:
    """The windows (the last but one validates) with a sequence model each, where the recipe lists it. Raises TooLittleData."""
    if SequenceSource.name not in recipe.sources:
        return list(windows)
    from training.learned import sequences

    with _named(SequenceSource.name):
        learnt = sequences(windows, len(windows) - 2, recipe, sequence_settings(training), say)
    return [
        replace(each, exports={**each.exports, SequenceSource.name: one.export})
        for each, one in zip(windows, learnt, strict=True)
    ]


def window(dataset: Dataset, cut: str, exports: Mapping[str, Export] | None = None) -> Window:
    """What was known at a cut, and what was bought after it; nothing of that at A."""
    at = dict(dataset.cuts.items())[cut]
    bought = dataset.frame(TRUTHS[cut]) if cut in TRUTHS else dataset.frame("truth_test").iloc[:0]
    return Window(
        at,
        dataset.frame(f"items_{cut}"),
        dataset.frame(f"histories_{cut}"),
        bought,
        exports or {},
        dataset.goal,
    )


def sequence_settings(training: Training) -> SequenceSettings:
    from training.sequence_model import SequenceSettings

    return SequenceSettings(seed=training.seed, epochs=training.sequence_epochs)


def learned_of(recipe: Recipe) -> list[str]:
    """The sources of a recipe that are learned models."""
    return [name for name in FROM_EXPORTS if name in recipe.sources]


def write(learnt: Learnt, dataset: Dataset, folder: Path) -> list[Path]:
    """The weights at T and at the first cut, as files of `folder`."""
    first = dataset.cuts.items()[0][0]
    wanted = {FILES[name]: each for name, each in learnt.weights("T").items()}
    wanted |= {
        FIRST + FILES[name]: each for name, each in learnt.weights(first).items() if FILES[name] in wanted
    }
    for name, each in wanted.items():
        np.savez_compressed(folder / name, **each)  # type: ignore[arg-type]
    return [folder / name for name in wanted]


def read(path: Path) -> Weights:
    """What `write` wrote; no pickle is read."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def say(line: str) -> None:
    """Progress, into the task's log: stdout is for what the step returns."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Turns what cannot be learnt into an error that names the source."""
    try:
        yield
    except ValueError as error:
        raise TooLittleData(
            f"training.sources lists {source!r}, which cannot be learnt: {error}; take it out of the list, or import events "
            "that tell an order"
        ) from None
