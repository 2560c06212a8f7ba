"""What was told of items, as one number that is the same in every process that was told the same.

The overlay's own version counts changes since its process started, so it names nothing to another process. This is a sum of
hashes over the last words of all items: it does not depend on the order in which they came, nor on how often.
"""

from __future__ import annotations

import hashlib
from typing import Any

from serving.told import Row

BITS = (1 << 128) - 1


class ToldItems:
    """A follower of the journal, to be told after the overlay; `of` is asked by requests without a lock."""

    def __init__(self, overlay: Any):
        self.overlay = overlay
        self._total = 0
        self._parts: dict[str, int] = {}  # by item: what it adds to the total

    def take(self, kind: str, rows: list[Row]) -> None:
        if kind != "items":
            return
        total = self._total
        for item in dict.fromkeys(row["item_id"] for row in rows):
            told = self.overlay.items.get(item)
            if told is None:  # forgotten since: silver knows it
                continue
            text = repr((item, sorted(told.fields.items())))
            part = int.from_bytes(
                hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            )
            total = (total + part - self._parts.get(item, 0)) & BITS
            self._parts[item] = part
        if len(self._parts) > len(
            self.overlay.items
        ):  # what it forgot, a process that starts now never hears of
            for item in self._parts.keys() - self.overlay.items.keys():
                total = (total - self._parts.pop(item)) & BITS
        self._total = total

    def of(self, view: Any) -> str | None:
        """Names all that lies over the release in `view`; None where more was told since the view was made.

        The overlay is changed before this is told, and its version rises before silver's is told: what this names may be
        younger than its name, never older.
        """
        total, silver = self._total, self.overlay.shelf.delta_version
        placed = self.overlay.placed_of(view.version)
        if self.overlay.version != view.overlay:
            return None
        return f"{total:032x}.{silver}.{len(view)}{placed and '.'}{placed}"
