"""One fit of a RecTools model, in the environment of RecTools: parquet in, parquet out.

Usage: recommend.py FOLDER. Reads interactions.parquet (user_id, item_id, weight), asked.parquet (user_id) and config.json
("model": puresvd | knn | ease and its settings, "k", "columns"); writes lists_COLUMN.parquet (user_id, item_id, rank) and
done.json (seconds of the fit, microseconds a list, peak memory in MiB).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import pandas as pd
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from rectools.dataset import Dataset
from rectools.models import EASEModel, ImplicitItemKNNWrapperModel, PureSVDModel

KNN = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}


def model_of(config: dict):
    if config["model"] == "puresvd":
        return PureSVDModel(factors=config["factors"], random_state=7)
    if config["model"] == "ease":
        return EASEModel(regularization=config["regularization"], num_threads=1)
    return ImplicitItemKNNWrapperModel(KNN[config["kind"]](K=config["neighbours"], num_threads=1))


def peak_mib() -> float:
    """As bench/peers/run.py has it, which this environment cannot import."""
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    rows = pd.read_parquet(folder / "interactions.parquet").assign(datetime=pd.Timestamp("2020-01-01"))
    users = pd.read_parquet(folder / "asked.parquet")["user_id"].to_numpy()
    dataset = Dataset.construct(rows)
    model = model_of(config)
    started = time.perf_counter()
    model.fit(dataset)
    done = {"fit_seconds": time.perf_counter() - started}
    for column in config["columns"]:
        started = time.perf_counter()
        found = model.recommend(users, dataset, k=config["k"], filter_viewed=column == "new")
        done[f"{column}_us"] = (time.perf_counter() - started) / len(users) * 1e6
        found[["user_id", "item_id", "rank"]].to_parquet(folder / f"lists_{column}.parquet", index=False)
    done["peak_mib"] = peak_mib()
    (folder / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
