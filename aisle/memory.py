"""The most memory that the services, their tasks and this process held together at one time."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

from aisle import processes

LOOK_SECONDS = 3.0


class Peak:
    """Looks every few seconds in a thread while its block runs. bytes: the highest sum seen."""

    def __init__(self) -> None:
        self.bytes = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(LOOK_SECONDS):
            self.bytes = max(self.bytes, processes.memory(everybody()))


def everybody() -> list[psutil.Process]:
    """This process, its descendants, and every process of the services."""
    here = psutil.Process()
    found = {process.pid: process for process in (here, *here.children(recursive=True), *processes.marked())}
    return list(found.values())
