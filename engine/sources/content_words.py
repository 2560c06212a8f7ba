"""What `content` reads of an item beyond its title, brand and categories: tags and attributes as labels, and its description.

What is read is bounded, whatever a shop sends: the first LONGEST characters of a description, the first MOST tags, and the first MOST
attributes by name; a tag or a value of more than LONGEST_LABEL characters is no label but a text, and says nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.interactions import Catalogue

FIELDS = ("description", "tags", "attributes")  # columns of an items frame
LONGEST = 1_000  # characters of a description: what comes later is delivery and care
MOST = 50  # tags, and attributes
LONGEST_LABEL = 64  # characters
WORD = re.compile(r"\w+")

_MARKUP = re.compile(r"<[^<>]*>")
_NUMBER = re.compile(r"[+-]?\d+([.]\d+)?")
_CODE = re.compile(r"\d{7,}")  # an EAN, a part number: of one item alone, or of none
_SMALL = re.compile(r"\d{1,4}")  # a size, a year, 500 ml: as good a label as a word
BINS = 5  # of a decade


class Beyond(NamedTuple):
    """labels: a token each, `tag:summer` or `colour=red`. description: its words."""

    labels: list[str]
    description: list[str]


def beyond(catalogue: Catalogue) -> list[Beyond] | None:
    """Of each item; None where no item tells anything."""
    if not {*FIELDS} & {*catalogue.frame}:
        return None
    found = [
        Beyond(
            labels(catalogue.value("tags", row), catalogue.value("attributes", row)),
            WORD.findall(_MARKUP.sub(" ", str(catalogue.value("description", row) or "")[:LONGEST].lower())),
        )
        for row in range(len(catalogue))
    ]
    return found if any(each.labels or each.description for each in found) else None


def labels(tags: Sequence[str] | None, attributes: Sequence[str] | None) -> list[str]:
    """attributes: each as name=value, see `pairs`.

    >>> labels(["Summer ", ""], ["colour=Red", "ean=4006381333931", "size=42", "weight=350.5", "note="])
    ['tag:summer', 'colour=red', 'size=42', 'weight=251..398']
    """
    found = [f"tag:{tag}" for tag in map(_plain, (tags or [])[:MOST]) if tag]
    for each in (attributes or [])[:MOST]:
        name, _, value = each.partition("=")
        name, value = _plain(name), _value(value)
        if name and value:
            found.append(f"{name}={value}")
    return list(dict.fromkeys(found))


def pairs(attributes: Mapping[str, object] | None) -> list[str]:
    """A map as an items frame has it: name=value, the first MOST by name.

    >>> pairs({"size": "M", "colour": "red"})
    ['colour=red', 'size=M']
    """
    return [
        f"{name}={value}" for name, value in sorted((attributes or {}).items())[:MOST] if value is not None
    ]


def _plain(text: str) -> str:
    """Empty where it is too long for a label."""
    found = " ".join(text.lower().split())
    return found if len(found) <= LONGEST_LABEL else ""


def _value(text: str) -> str:
    """A number by its bin, of which there are BINS a decade, unless it is a whole one of up to four digits; a code is nothing."""
    text = _plain(text)
    if _SMALL.fullmatch(text) or not _NUMBER.fullmatch(text):
        return text
    size = abs(float(text))
    if _CODE.fullmatch(text) or not math.isfinite(size):
        return ""
    if size == 0:
        return "0"
    bin_ = math.floor(math.log10(size) * BINS + 1e-9)
    low, high = (10 ** (each / BINS) for each in (bin_, bin_ + 1))
    return f"{'-' if text[0] == '-' else ''}{low:.3g}..{high:.3g}"
