"""Queries with an answer that is known: the real titles, as people would get them wrong. Seeded; letters of titles are all that is used."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence

Wrong = Callable[[list[str], random.Random], list[str] | None]
LONG = 4  # letters from which on a word is misspelt


def edited(word: str, draw: random.Random) -> str:
    """One letter changed, left out, put in, or swapped with the next; never the word itself."""
    while True:
        at = draw.randrange(len(word))
        kind = draw.choice(("change", "leave", "put", "swap"))
        letter = draw.choice(string.ascii_lowercase)
        found = {
            "change": word[:at] + letter + word[at + 1 :],
            "leave": word[:at] + word[at + 1 :],
            "put": word[:at] + letter + word[at:],
            "swap": word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
        }[kind]
        if found != word:
            return found


def misspelt(words: list[str], draw: random.Random, count: int, times: int = 1) -> list[str] | None:
    """`count` of the longer words with `times` edits each; None where there are not so many."""
    places = [place for place, word in enumerate(words) if len(word) >= LONG and word.isalpha()]
    if len(places) < count:
        return None
    found = list(words)
    for place in draw.sample(places, count):
        for _ in range(times):
            found[place] = edited(found[place], draw)
    return found


def number(words: list[str], draw: random.Random) -> list[str] | None:
    """One of the other number: a plural in s of a singular, or the other way."""
    places = [place for place, word in enumerate(words) if len(word) >= LONG and word.isalpha()]
    if not places:
        return None
    place = draw.choice(places)
    word = words[place]
    return [*words[:place], word[:-1] if word.endswith("s") else f"{word}s", *words[place + 1 :]]


def begun(words: list[str], draw: random.Random) -> list[str] | None:
    """As far as it is typed: the last word half."""
    if len(words[-1]) < LONG:
        return None
    return [*words[:-1], words[-1][: len(words[-1]) // 2 + 1]]


def together(words: list[str], draw: random.Random) -> list[str] | None:
    """Two neighbours in one."""
    places = [p for p in range(len(words) - 1) if min(len(words[p]), len(words[p + 1])) >= LONG]
    if not places:
        return None
    place = draw.choice(places)
    return [*words[:place], words[place] + words[place + 1], *words[place + 2 :]]


WRONG: dict[str, Wrong] = {
    "as written": lambda words, draw: words,
    "swapped words": lambda words, draw: draw.sample(words, len(words)),
    "half of the words": lambda words, draw: draw.sample(words, (len(words) + 1) // 2),
    "other number": number,
    "last word begun": begun,
    "two words in one": together,
    "one edit": lambda words, draw: misspelt(words, draw, 1),
    "two edits, one word": lambda words, draw: misspelt(words, draw, 1, 2),
    "two edits, two words": lambda words, draw: misspelt(words, draw, 2),
    "one edit in two words, half dropped, swapped": lambda words, draw: misspelt(
        draw.sample(words, max(2, (len(words) + 1) // 2)), draw, 2
    ),
}


def made(titles: Sequence[Sequence[str]], how: str, seed: int, most: int) -> list[tuple[int, str]]:
    """(number of the item, query) of up to `most` items, titles of at least two words, in a seeded order."""
    draw = random.Random(f"{seed} {how}")
    numbers = [number for number, words in enumerate(titles) if len(words) >= 2]
    draw.shuffle(numbers)
    found = []
    for each in numbers:
        words = WRONG[how](list(titles[each]), draw)
        if words:
            found.append((each, " ".join(words)))
        if len(found) == most:
            break
    return found
