"""A RecTools model (MTS): PureSVD, item-kNN or its EASE, whichever validates best, in an environment of its own.

Its SASRec and BERT4Rec need torch, see bench/rectools/pyproject.toml. The environment is made on first use from the lock
with hashes, under .aisle-bench/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from aisle.lake import project_root
from bench.judging import DEPTH, Question
from bench.peers.base import Config, Peer
from bench.peers.ease import MOST_ITEMS
from bench.peers.simple import popular

PROJECT = Path(__file__).resolve().parent.parent / "rectools"


def python() -> Path:
    """The interpreter of RecTools' environment, made where it is missing. Raises RuntimeError without uv or a network."""
    where = project_root() / ".aisle-bench" / "rectools-env"
    uv = str(shutil.which("uv") or project_root() / ".uv" / "bin" / "uv")
    lock = str(PROJECT / "requirements.lock")
    inside = {**os.environ, "VIRTUAL_ENV": str(where)}
    try:
        if not (where / "bin" / "python").exists():
            made = [uv, "venv", "--quiet", "--python", sys.executable, str(where)]
            subprocess.run(made, check=True, capture_output=True)
        filled = [uv, "pip", "sync", "--quiet", "--require-hashes", lock]
        subprocess.run(filled, env=inside, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        raise RuntimeError(f"RecTools' environment could not be made: {said.decode()[-300:]}") from None
    return where / "bin" / "python"


class RecTools(Peer):
    def grid(self, question: Question) -> Iterator[Config]:
        """Singular vectors are fewer than users and items: a small shop has fewer sizes to try."""
        fewest = min(len(np.unique(question.user)), len(np.unique(question.item)))
        return (each for each in self._all(question) if each.get("factors", 0) < fewest)

    def _all(self, question: Question) -> Iterator[Config]:
        yield {"model": "puresvd", "factors": 128}
        yield {"model": "knn", "kind": "tfidf", "neighbours": 200}
        yield {"model": "knn", "kind": "bm25", "neighbours": 200}
        small = len(question.item_ids) <= MOST_ITEMS
        if small:
            yield {"model": "ease", "regularization": 200.0}
        for factors in (64, 256, 32, 512):
            yield {"model": "puresvd", "factors": factors}
        for neighbours in (50, 1000):
            for kind in ("cosine", "tfidf", "bm25"):
                yield {"model": "knn", "kind": kind, "neighbours": neighbours}
        if small:
            for regularization in (500.0, 100.0, 1000.0):
                yield {"model": "ease", "regularization": regularization}

    def fit(self, question: Question, config: Config) -> None:
        """The fit happens beside the lists, in one call of the other environment: here both columns are asked for."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            matrix = question.matrix().tocoo()
            rows = pd.DataFrame({"user_id": matrix.row, "item_id": matrix.col, "weight": matrix.data})
            rows.to_parquet(folder / "interactions.parquet", index=False)
            some = question.asked[np.isin(question.asked, matrix.row)]
            pd.DataFrame({"user_id": some}).to_parquet(folder / "asked.parquet", index=False)
            (folder / "config.json").write_text(json.dumps({**config, "k": DEPTH, "columns": ["all", "new"]}))
            script = PROJECT / "recommend.py"
            done = subprocess.run([python(), script, folder], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"RecTools: {done.stderr[-500:]}")
            self.found = {each: pd.read_parquet(folder / f"lists_{each}.parquet") for each in ("all", "new")}
            self.measured = json.loads((folder / "done.json").read_text())

    def lists(self, question: Question, column: str) -> np.ndarray:
        found = self.found[column]
        place = pd.Index(question.asked).get_indexer(found["user_id"])
        lists = np.full((len(question.asked), DEPTH), -1, np.int64)
        lists[place, found["rank"].to_numpy() - 1] = found["item_id"].to_numpy()
        unknown = np.setdiff1d(np.arange(len(question.asked)), place)  # only returned things
        lists[unknown] = np.argsort(-popular(question, None), kind="stable")[:DEPTH]
        return lists
