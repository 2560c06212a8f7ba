"""Every `aisle …` that README, CONTRIBUTING and docs/ show is a command that is there, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from aisle.lake import project_root
from tests.aisle.test_cli import typed

ROOT = project_root()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
IN_TEXT = re.compile(r"`(?:\.venv/bin/)?aisle ([a-z][^`…]*)`")
ON_A_LINE = re.compile(r"^(?: {4}|\$ )?(?:\.venv/bin/)?aisle ([a-z][^#\n…]*)", re.MULTILINE)
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)


def shown(page: str) -> Iterator[str]:
    """What follows `aisle`, in text, in fences and in indented blocks."""
    yield from IN_TEXT.findall(re.sub(r"\s+", " ", FENCE.sub("", page)))
    for block in (*FENCE.findall(page), *INDENTED.findall(FENCE.sub("", page))):
        yield from ON_A_LINE.findall(block)


def words_of(text: str) -> list[str]:
    """Without the brackets of what may be left out, and with the first of several choices."""
    plain = re.sub(r"[\[\]]", "", text).split(" | ")[0]
    return [word.split("|")[0] for word in shlex.split(plain)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_can_be_typed(page) -> None:
    faults = []
    for text in set(shown(page.read_text())):
        try:
            typed(words_of(text))
        except Exception as error:
            if type(error).__name__ != "MissingParameter":  # a command's name alone, in a sentence, is none
                faults.append(f"aisle {text}: {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)


def test_commands_are_found_and_wrong_ones_seen() -> None:
    page = "Say `aisle rollback --now`\n\n    .venv/bin/aisle keys lst   # all\n\n```\naisle import events F --since T\n```\n"
    found = list(shown(page))
    assert [words_of(each) for each in found] == [
        ["rollback", "--now"],
        ["import", "events", "F", "--since", "T"],
        ["keys", "lst"],
    ]
    with pytest.raises(Exception, match="No such option"):
        typed(words_of(found[0]))
    with pytest.raises(KeyError):
        typed(words_of(found[2]))
    assert sum(len(list(shown(each.read_text()))) for each in PAGES) > 40
