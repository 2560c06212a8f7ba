"""Feast's stored numbers and short texts read by hand where they have the plain form in which Feast writes them; all else by
protocol buffers.

A value is one field: a tag, for texts and lists a length, the content. The library makes a message of it and copies that, which
costs more than reading a number does. Lists of texts and of whole numbers are no faster by hand. tests/serving/test_feast_values.py
holds both ways to each other, on bytes that nobody would write too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Any

from serving.feast_format import decoder

# Tags: the number of the field in feast.types.Value * 8 + how it is written (0 varint, 1 eight bytes, 2 a length and bytes).
TEXT, WHOLE, NUMBER, NUMBERS = 0x12, 0x20, 0x29, 0x7A
ENTRY = 0x0A  # field 1 of a list: all its numbers
SHORT = 128  # a length below it is one byte, one below its square two
_number = Struct("<d").unpack_from

Slow = Callable[[bytes], Any]


def _content(blob: bytes, start: int) -> int:
    """Where the content of the field that begins at `start` begins, if it reaches to the blob's end; else 0."""
    left = len(blob) - start - 2
    if left < SHORT:
        return start + 2 if left >= 0 and blob[start + 1] == left else 0
    low, high = blob[start + 1] - SHORT, blob[start + 2]
    return start + 3 if low >= 0 and high < SHORT and low + SHORT * high == left - 1 else 0


def _text(blob: bytes, slow: Slow) -> str:
    return blob[2:].decode() if blob.isascii() and _content(blob, 0) == 2 else slow(blob)


def _whole(blob: bytes, slow: Slow) -> int:
    return blob[1] if len(blob) == 2 and blob[1] < SHORT else slow(blob)


def _float(blob: bytes, slow: Slow) -> float:
    return _number(blob, 1)[0] if len(blob) == 9 else slow(blob)


def _numbers(blob: bytes, slow: Slow) -> list[float]:
    start = _content(blob, 0) if len(blob) > 4 else 0
    if start and blob[start] == ENTRY and (start := _content(blob, start)):
        count, rest = divmod(len(blob) - start, 8)
        if not rest:
            return list(unpack_from(f"<{count}d", blob, start))
    return slow(blob)


FAST: dict[int, Callable[[bytes, Slow], Any]] = {
    TEXT: _text,
    WHOLE: _whole,
    NUMBER: _float,
    NUMBERS: _numbers,
}


def columns() -> Callable[[Sequence[bytes | None]], list[Any]]:
    """What tells the values of a column as `feast_format.decoder` tells each. Raises KeyError as that does."""
    slow = decoder()

    def values(column: Sequence[bytes | None]) -> list[Any]:
        tag = next(filter(None, column), b"\0")[0]
        fast = FAST.get(tag)
        if fast is None:
            return [slow(each) if each else None for each in column]
        return [(fast(each, slow) if each[0] == tag else slow(each)) if each else None for each in column]

    return values
