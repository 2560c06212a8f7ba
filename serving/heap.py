"""What a release left in memory is not looked through by the garbage collector again and again.

A release is some hundred thousand Python objects that live until the next one. CPython's collector of the oldest generation visits
them all, for tenths of a second in which no request is answered. `gc.freeze` takes them out of its sight: docs.python.org/3/library/gc.html.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Called when a release has settled in: collects once what older ones left, and sets the rest aside until the next time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
