"""What a release left in memory is set aside, and what an older one left in circles goes."""

from __future__ import annotations

import gc
import weakref

from serving import heap
from serving.server import made


class Circle:
    def __init__(self) -> None:
        self.me = self


def test_circles_go_and_what_is_in_use_is_set_aside() -> None:
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
        heap.settle()
        assert left() is None, "what was set aside is looked at the next time"
    finally:
        gc.enable()
        gc.unfreeze()


def test_the_process_of_the_api_settles_after_a_release(aisle_home, settings) -> None:
    assert made(settings).state.service.settle is heap.settle
