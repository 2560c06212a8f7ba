"""Long work beside a server's requests: in pieces, with rests between them.

A release is loaded by a thread of the process that answers. What it computes in Python keeps the interpreter from the requests, and
what it computes outside of it takes a core from them. Such work calls `breathe` every millisecond or so; that does nothing unless
its thread is told to rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PIECE = 0.001  # seconds of work after which a rest is worth its wake-up
LONGEST = 0.2  # seconds of a rest: work that cannot be cut does not hold up the rest of it for ever


class _Here(threading.local):
    share: float | None = None
    since: float = 0.0


_here = _Here()


@contextmanager
def resting(share: float | None, after: float = 0.0) -> Iterator[None]:
    """Within, this thread works `share` of the time, 0 to 1, as far as it breathes; None: all of it. after: seconds of work before
    the first rest, for work that most often is done by then."""
    before = _here.share, _here.since
    _here.share, _here.since = share, time.thread_time() + after
    try:
        yield
    finally:
        _here.share, _here.since = before


def breathe() -> None:
    """Rests, where this thread is to, as long as its work since the last time asks for."""
    share = _here.share
    if share is None:
        return
    worked = time.thread_time() - _here.since
    if worked >= PIECE:
        time.sleep(min(worked * (1 - share) / share, LONGEST))
        _here.since = time.thread_time()
