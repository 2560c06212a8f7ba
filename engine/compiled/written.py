"""Numbers as JSON text: what an answer tells of each item are a dozen, and each would be an object of its own first."""

from __future__ import annotations

import numpy as np

from engine.compiled.how import compiled

LARGEST = 1e14  # a number that is not smaller is written as one that is not finite
NULL = np.frombuffer(b"null", np.uint8)
START, END, COMMA, POINT, MINUS, ZERO = (ord(each) for each in "{},.-0")


@compiled()
def whole(number, least, out, at):
    """Writes an integer of 0 or more with `least` digits or more to out[at:]; where it ends."""
    digits, rest = 1, number // 10
    while rest:
        digits, rest = digits + 1, rest // 10
    end = at + max(digits, least)
    for place in range(end - 1, at - 1, -1):
        out[place] = ZERO + number % 10
        number //= 10
    return end


@compiled()
def objects(values, digits, names, name_ends, out):
    """Writes each row of `values` (n, p) to `out` uint8 as an object, one after the other; (n,) int64 where each ends.

    What a row has of what is not 0 with so many `digits` after the point; null where it is not finite. names: uint8, each as JSON with
    its colon, up to its place of `name_ends` (p,). out: len(names) + 32 p + 2 bytes a row will do.
    """
    scale, at, ends = 10**digits, 0, np.empty(len(values), np.int64)
    for k in range(len(values)):
        out[at] = START
        first = at = at + 1
        for column in range(values.shape[1]):
            value = values[k, column]
            known = abs(value) < LARGEST
            number = np.int64(np.rint(abs(value) * scale)) if known else 1
            if number == 0:
                continue
            if at > first:
                out[at] = COMMA
                at += 1
            for place in range(name_ends[column - 1] if column else 0, name_ends[column]):
                out[at] = names[place]
                at += 1
            if not known:
                out[at : at + len(NULL)] = NULL
                at += len(NULL)
                continue
            if value < 0:
                out[at] = MINUS
                at += 1
            at = whole(number // scale, 1, out, at)
            out[at] = POINT
            number, left = number % scale, digits
            while left > 1 and number % 10 == 0:
                number, left = number // 10, left - 1
            at = whole(number, left, out, at + 1)
        out[at] = END
        at += 1
        ends[k] = at
    return ends
