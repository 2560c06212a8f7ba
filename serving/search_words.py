"""Text as words: what of a title or a query is one word, written the one way in which two spellings of it compare.

Accents, case, apostrophes and width are folded ("Crème" is "creme"), stems join the forms of a word ("boxes" is "box"). Scripts that are
written without spaces give a word per character, and so does a symbol, such as an emoji.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from threading import Lock

import Stemmer

LONGEST = 64  # characters of a word that are looked at
WHOLE = str.maketrans(  # letters that are no base letter with an accent, as they are typed without them
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t"}
)
APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʼ`´"))  # "children's" is one word
SPACELESS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"  # kana, Han
)
INDIC = "\u0900-\u0dff"  # whose vowel signs \w leaves out
LETTER = rf"(?:[^\W_{SPACELESS}]|[{INDIC}])"
WORD = re.compile(rf"[{SPACELESS}]|[0-9]+[.,][0-9]+{LETTER}*|{LETTER}+")
HYPHENS = "-‐‑/&+."
HYPHEN = re.compile(f"[{HYPHENS}]")
HYPHENED = re.compile(rf"(?<![^\W_])[^\W_]++(?:[{HYPHENS}][^\W_]++)++")
ASCII = re.compile(
    r"[0-9]+[.,][0-9]+[a-z0-9]*|[a-z0-9]+"
)  # the same, of a folded text that has no other letters
MARKS = re.compile(  # accents of Latin, Greek and Cyrillic, points of Hebrew and Arabic; vowel signs of other scripts stay
    r"[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u200d\ufe0e\ufe0f]"
)


def folded(text: str) -> str:
    """A text as it compares: without case, accents, apostrophes and widths; control characters are spaces.

    >>> folded("Crème Brûlée"), folded("ＦＵＬＬ Straße"), folded("Children's")
    ('creme brulee', 'full strasse', 'childrens')
    """
    text = text.translate(APOSTROPHES)
    if text.isascii():
        return text.lower()
    plain = MARKS.sub("", unicodedata.normalize("NFKD", text)).casefold().translate(WHOLE)
    return unicodedata.normalize("NFC", plain)


def words(text: str) -> list[str]:
    """The words of a text, in order. A hyphened word gives its parts.

    >>> words("SET/6 T-LIGHT Holders, 1.5 kg"), words("猫 mug ☕")
    (['set', '6', 't', 'light', 'holders', '1.5', 'kg'], ['猫', 'mug', '☕'])
    """
    plain = folded(text)
    if plain.isascii():
        return [found[:LONGEST] for found in ASCII.findall(plain)]
    return [found[:LONGEST] for found in _with_symbols(plain)]


def joined(text: str) -> list[str]:
    """Hyphened words in one, which is how some write them.

    >>> joined("T-LIGHT holder"), joined("3.5 rock'n'roll")
    (['tlight'], [])
    """
    if not HYPHEN.search(text):
        return []
    whole = (HYPHEN.sub("", found) for found in HYPHENED.findall(folded(text)))
    return [each[:LONGEST] for each in whole if not each.isdecimal()]


def _with_symbols(plain: str) -> Iterator[str]:
    start = 0
    for place, char in enumerate(plain):
        if unicodedata.category(char) == "So":
            yield from WORD.findall(plain[start:place])
            yield char
            start = place + 1
    yield from WORD.findall(plain[start:])


class Stems:
    """The stem of a word in a language of Snowball ("english"); the word itself for the language "" and where it has a digit.

    May be used from many threads. Raises ValueError for a language that Snowball does not know.
    """

    def __init__(self, language: str):
        self.language = language
        self._lock, self._stemmer = Lock(), None
        if language:
            try:
                self._stemmer = Stemmer.Stemmer(language, 0)
            except KeyError:
                known = ", ".join(Stemmer.algorithms())
                raise ValueError(f"search.language {language!r} is none of {known}") from None
        self.of = lru_cache(100_000)(self._of)

    def _of(self, word: str) -> str:
        if self._stemmer is None or not word.isalpha():
            return word
        with self._lock:  # a stemmer of Snowball is not to be used by two threads at once
            return self._stemmer.stemWord(word)
