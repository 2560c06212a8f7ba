"""How an English word sounds, as far as its spelling tells: words of one sound are written for each other ("nite", "night").

A dozen rules of silent letters and of letters that are spoken alike, in the way of Philips' Metaphone ("Hanging on the Metaphone",
Computer Language 7, 1990), but with the vowels kept: without them "nite" would be "note" and "nut" too.
"""

from __future__ import annotations

import re

SHORTEST = 3  # letters of a word that is taken for another one of its sound
RULES = tuple(
    (re.compile(pattern), spoken)
    for pattern, spoken in (
        (r"^(?:kn|gn|pn)", "n"),
        (r"^wr", "r"),
        (r"^wh", "w"),
        (r"^ps", "s"),
        (r"ough(?!t)", "o"),  # dough, though
        (r"(?<=[aeiou])gh(?=t|s?$)", ""),  # night, high
        (r"gh", "g"),
        (r"ph", "f"),
        (r"tch", "ch"),
        (r"sch", "sk"),
        (r"c(?=[eiy])", "s"),
        (r"ck|c(?!h)", "k"),
        (r"qu", "kw"),
        (r"x", "ks"),
        (r"z", "s"),
        (r"mb(?=s?$)", "m"),
        (r"(?<=[aeiouy][^aeiouy])e(?=s?$)", ""),  # nite, brites
        (r"y", "i"),
        (r"ea", "e"),
        (r"a[iu]|ei", "a"),
        (r"ie", "i"),
        (r"oa", "o"),
        (r"oo|ou", "u"),
        (r"(.)\1+", r"\1"),
    )
)


def sound(word: str) -> str:
    """The same for words that sound alike; "" for what is no English word of SHORTEST letters or more.

    >>> sound("nite") == sound("night") == sound("knight"), sound("donuts") == sound("doughnuts"), sound("nile")
    (True, True, 'nil')
    """
    if len(word) < SHORTEST or not (word.isascii() and word.isalpha()):
        return ""
    for pattern, spoken in RULES:
        word = pattern.sub(spoken, word)
    return word
