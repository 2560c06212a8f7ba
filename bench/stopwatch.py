"""Where the seconds of a run went: named parts, one within another, each counted without what ran inside it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stopwatch:
    """seconds: by part, summed over all its times; last: of its last time."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    last: dict[str, float] = field(default_factory=dict)
    _inner: list[float] = field(default_factory=list)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        self._inner.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - started
            own = took - self._inner.pop()
            self.seconds[name] += own
            self.last[name] = own
            if self._inner:
                self._inner[-1] += took

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def whole(*args: Any, **kwargs: Any) -> Any:
            with self.of(name):
                return function(*args, **kwargs)

        return whole


@contextmanager
def engine_parts(watch: Stopwatch) -> Iterator[None]:
    """While it is open each source's `fit`, the choice of a blend and that of the ranker are counted, wherever they are called from."""
    from engine import tuning
    from engine.sources import FROM_HISTORIES
    from training import ranking

    sources, choose, rank = dict(FROM_HISTORIES), tuning.choose, ranking.choose
    FROM_HISTORIES.update({name: _Timed(kind, watch) for name, kind in sources.items()})
    tuning.choose, ranking.choose = watch.timed("blend", choose), watch.timed("ranker", rank)  # type: ignore[assignment]
    try:
        yield
    finally:
        FROM_HISTORIES.update(sources)
        tuning.choose, ranking.choose = choose, rank  # type: ignore[assignment]


@dataclass(frozen=True)
class _Timed:
    """A source whose `fit` is counted under its name."""

    kind: Any
    watch: Stopwatch

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        return self.watch.timed(self.kind.name, self.kind.fit)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)


def told(seconds: Mapping[str, float]) -> str:
    """`linear 40 s (31 %), blend 22 s (17 %), …`, the largest first.

    >>> told({"blend": 30.0, "linear": 90.0})
    'linear 90.0 s (75 %), blend 30.0 s (25 %)'
    """
    total = sum(seconds.values()) or 1.0
    parts = sorted(seconds.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {took:.1f} s ({took / total:.0%})".replace("%)", " %)") for name, took in parts)
