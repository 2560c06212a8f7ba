"""`python -m bench.serving_reads OUT`: reads of the online store, ours beside the Feast SDK's `get_online_features`, in one process.

Both read the same users of the same service from the same SQLite file, one after the other, and must find the same values.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from aisle import features
from aisle import settings as settings_module
from serving.online import Reader

SERVICE, SEED = "retrieval_v1", 7
ROUNDS = 5
READS = {1: 200, 64: 12}  # reads of a round, by users of one read


def measure(users: list[str]) -> dict[str, float]:
    """µs of a read, by who reads and how many users; medians of the rounds' medians."""
    settings = settings_module.load()
    reader = Reader(features.folder(), features.PROJECT)

    def ours(some: list[str]) -> dict:
        return reader.read(SERVICE, some)

    def theirs(some: list[str]) -> dict:
        return features.online(settings, SERVICE, [{"user_id": user} for user in some])

    random = np.random.default_rng(SEED)
    found: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        for size, reads in READS.items():
            asked = [[*random.choice(users, size - 1), "nobody"][:size] for _ in range(reads)]
            asked = [[str(each) for each in some] for some in asked]
            if size == 1:
                asked = [[str(user)] for user in random.choice(users, reads)]
            answers = {}
            for name, read in (("ours", ours), ("sdk", theirs)):
                if number == 0:
                    read(asked[0])  # opens the store
                took, answers[name] = timed(read, asked)
                found.setdefault(f"{name} {size}", []).append(took)
            if answers["ours"] != answers["sdk"]:
                raise SystemExit(f"bench: the two reads of {size} users differ")
    return {name: float(np.median(each)) for name, each in found.items()}


def timed(read: Callable[[list[str]], dict], asked: list[list[str]]) -> tuple[float, list[dict]]:
    """Median µs, and the answers."""
    times, answers = [], []
    for some in asked:
        started = time.perf_counter()
        answers.append(read(some))
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e6, answers


def main() -> None:
    warnings.simplefilter("ignore")
    users = pd.read_parquet(sys.argv[1])["user_id"].tolist()
    Path(sys.argv[2]).write_text(json.dumps(measure(users)))


if __name__ == "__main__":
    main()
