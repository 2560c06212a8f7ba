"""The tables of docs/engine.md have every source, and the numbers that its fit goes by."""

from __future__ import annotations

import re

import pytest

from aisle.lake import project_root
from engine.sources import FROM_EXPORTS, FROM_HISTORIES, hyperparameters

PAGE = (project_root() / "docs" / "engine.md").read_text()
SOURCES = [*FROM_HISTORIES, *FROM_EXPORTS]


def table(header: str) -> dict[str, str]:
    """Rows of the table that begins like this, by each name in their first column."""
    rows = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return {name: row for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


@pytest.mark.parametrize("header", ["| source | what it knows", "| part | bytes per item"])
def test_every_source_is_in_the_table(header: str) -> None:
    assert set(table(header)) == set(SOURCES)


def test_sizes_are_told_with_the_defaults_of_the_fit() -> None:
    for name, row in table("| part | bytes per item").items():
        for parameter, number in re.findall(r"`(\w+)` \(([\d,]+)", row) if name in FROM_HISTORIES else ():
            assert hyperparameters(name)[parameter] == int(number.replace(",", "")), (name, parameter)
