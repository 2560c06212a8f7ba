"""What a release left in memory is set aside, and what an older one left in circles goes."""

from __future__ import annotations

import ctypes
import gc
import itertools
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.recommender import Recommender
from serving import heap
from serving.search_view import Indexed, Texts
from serving.server import made
from serving.view import View


class Circle:
    def __init__(self) -> None:
        self.me = self


def test_circles_go_now_and_then_and_what_is_in_use_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_settled", itertools.count(heap.WHOLE))
    gc.disable()
    try:
        gone = weakref.ref(Circle())
        kept = Circle()
        heap.settle()
        assert gone() is None
        assert gc.get_freeze_count() > 0
        assert not any(each is kept for each in gc.get_objects())
        left = weakref.ref(kept)
        del kept
        for _ in range(heap.WHOLE - 1):
            heap.settle()
            assert left() is not None
        heap.settle()
        assert left() is None, "what was set aside is looked at in the end"
    finally:
        gc.enable()
        gc.unfreeze()


def test_the_process_of_the_api_settles_after_a_release(aisle_home, settings) -> None:
    service = made(settings).state.service
    assert service.settle is heap.settle
    assert service.live.undisturbed is heap.undisturbed


def test_a_release_holds_nothing_in_circles(stage_release, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes when the last one lets go of it, without a collection."""
    monkeypatch.setattr(heap, "REST", 0.0)
    recommender = Recommender.load(Path(stage_release("1").path))
    recommender.warm()
    view = View.of(recommender)
    view.assortment.stock, view.popular_order(None)
    searched = Indexed.of(Texts.of(recommender.catalogue), settings.search)
    gone = [
        weakref.ref(each) for each in (recommender, view, searched, recommender.catalogue, searched.index)
    ]
    gone += [weakref.ref(source) for source in recommender.sources.values()]
    gc.disable()
    try:
        whole = [view, searched]
        del recommender, view, searched
        heap.let_go([whole.pop() for _ in range(2)])
        assert [each() for each in gone] == [None] * len(gone)
    finally:
        gc.enable()


@dataclass(frozen=True)
class Holder:
    numbers: np.ndarray
    names: list[str]
    rows: dict[str, int]


def test_it_goes_in_pieces_and_what_somebody_holds_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    Holder.__module__ = "serving.test"
    n, rests = 3 * heap.PIECE, []
    held = [f"name {row}" for row in range(n)]
    whole = Holder(np.zeros(10), held, {name: row for row, name in enumerate(held)})
    again = Holder(np.zeros(10), [f"other {row}" for row in range(n)], {str(row): row for row in range(n)})
    monkeypatch.setattr(heap.time, "sleep", rests.append)
    assert heap.let_go([whole]) == 4
    assert rests == []
    assert (len(held), len(whole.rows)) == (n, n)
    rests.clear()
    mine = [again]
    del again
    heap.let_go([mine.pop()])
    assert len(rests) == 2 + 2


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_what_is_free_between_objects_goes_back() -> None:
    """In a process of its own: a release's small objects are freed around a few that stay."""
    told = """
import ctypes, os
from serving import heap
heap.sparing()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
some = [libc.malloc(60_000) for _ in range(2_000)]
for each in some:
    libc.memset(each, 1, 60_000)
for place, each in enumerate(some):
    if place % 50:
        libc.free(each)
full = resident()
heap.trim()
print(full - resident())
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 80


def test_without_such_a_c_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    heap.sparing()
    heap.trim()


def test_while_a_release_is_made_nothing_is_looked_through() -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    with heap.undisturbed():
        assert not gc.isenabled()
        made_now = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made_now)
    gc.unfreeze()


def test_kept_lists_do_not_make_the_collector_look_through_everything() -> None:
    before = gc.get_threshold()
    generations = []

    def noted(phase: str, info: dict) -> None:
        generations.append(info["generation"])

    gc.callbacks.append(noted)
    try:
        heap.seldom()
        kept = [{"list": [number]} for number in range(200_000)]
        assert len(kept) == 200_000
        assert set(generations) == {0, 1}
    finally:
        gc.callbacks.remove(noted)
        gc.set_threshold(*before)
