"""Reads in the caller's own thread, which must not wait: allowed for as long as they are quick.

A local store tells a user's history in less time than it takes to hand a question to another thread and its answer back. But
a disk may be slow and a file locked, and the caller is the event loop: slow reads may cost it a small share of its time, and
after one that failed it leaves the next to the thread, which has a deadline and tells what is wrong.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from engine.state import UserState

log = logging.getLogger("aisle.features")

QUICK_SECONDS = 0.001  # what a read may take; what it takes beyond is owed
SHARE = 0.05  # of the time passes as payment of what is owed
OWED_SECONDS = (
    0.05  # where more is owed no read is tried: the odd one that a busy machine held up is no slow store
)
FAILED_SECONDS = 0.25  # none is tried for this long after one that failed; a lock is held for less

Read = Callable[[str, str], UserState | None]


class Promptly:
    """read: a service's state of one user, or None where it would have to wait. For one thread."""

    def __init__(self, read: Read):
        self._read = read
        self._owed, self._counted, self._not_before = 0.0, 0.0, 0.0

    def read(self, service: str, user_id: str) -> UserState | None:
        """None where the thread has to be asked: the reads are slow, or this one or one just now failed."""
        started = time.monotonic()
        self._owed = max(0.0, self._owed - SHARE * (started - self._counted))
        self._counted = started
        if started < self._not_before or self._owed > OWED_SECONDS:
            return None
        found = None
        try:
            found = self._read(service, user_id)
        except Exception as error:  # locked, away, written anew: the thread finds out which, and says so
            log.debug("a prompt read failed: %s: %s", type(error).__name__, error)
        ended = time.monotonic()
        self._owed += max(0.0, ended - started - QUICK_SECONDS)
        if found is None:
            self._not_before = ended + FAILED_SECONDS
        return found
