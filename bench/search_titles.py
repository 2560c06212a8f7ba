"""The titles that search is measured on: those of the shipped invoices, and 100,000 made-up ones of their words."""

from __future__ import annotations

import random
from functools import lru_cache

from aisle.lake import project_root
from bench import online_retail

DATA = project_root() / "data" / "online_retail.parquet"
NAMED = 0.5  # share of made-up titles with a name that is no word of the real ones, as a larger catalogue has more words
NAMES = 25_000


@lru_cache
def real() -> list[tuple[str, str, float]]:
    """(id, title, price) of every item that was sold, as the shop wrote it most often."""
    items = online_retail.items_of(online_retail.load_lines(DATA), online_retail.END)
    return list(zip(items["item_id"], items["title"], items["price"], strict=True))


def made_up(count: int, seed: int = 7) -> list[tuple[str, str, float]]:
    """Real titles with one or two words of others, half of them with a made-up name of real words' syllables."""
    draw, titles = random.Random(seed), [title.split() for _, title, _ in real()]
    words = [word for title in titles for word in title]
    letters = [word for word in words if word.isalpha() and len(word) > 4]
    syllables = [word[at : at + 3] for word in letters for at in range(0, len(word) - 2, 3)]
    names = ["".join(draw.choices(syllables, k=draw.choice((2, 2, 3)))) for _ in range(NAMES)]
    found = []
    for number in range(count):
        title = list(draw.choice(titles))
        for _ in range(draw.choice((1, 2))):
            title[draw.randrange(len(title))] = draw.choice(words)
        if draw.random() < NAMED:
            title.insert(0, draw.choice(names))
        found.append((f"{10_000_000 + number}", " ".join(title), draw.choice(real())[2]))
    return found
