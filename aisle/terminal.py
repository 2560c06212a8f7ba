"""How everything that people read in a terminal is laid out."""

from __future__ import annotations

from rich.console import Console, RenderableType

WIDTH = 150  # columns where there is no terminal to ask: enough for every table


def screen(stderr: bool = False) -> Console:
    """As wide as the terminal; where there is none, wide enough for the tables."""
    console = Console(stderr=stderr, emoji=False)
    return console if console.is_terminal else Console(stderr=stderr, emoji=False, width=WIDTH)


def rendered(*parts: RenderableType) -> str:
    """The parts below each other, as `screen` shows them; plain text where there is no terminal."""
    console = screen()
    with console.capture() as shown:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in shown.get().rstrip().splitlines())
