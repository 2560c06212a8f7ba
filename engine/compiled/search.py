"""Where an ascending array has a value."""

from __future__ import annotations

from engine.compiled.how import compiled


@compiled()
def place_of(value, among, low, high):
    """Where ascending among[low:high] has a value; -1 where it does not."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if among[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low if low < end and among[low] == value else -1
