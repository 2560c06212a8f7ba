"""`python -m bench.serving_shop NAME`: a shop to serve, prepared once and kept in `.aisle-bench/serving/NAME`.

- `online_retail`: the shipped invoices. Recipe and ranker are chosen on windows before the last 28 days, as the `train` DAG
  chooses them but for the two-tower, then every source is fitted to all invoices.
- `expanded`: a simulated expansion of it (bench.expansion) to 100,000 items and 200,000 users. Its sources are fitted to the
  expansion's own events, by the recipe and with the ranker of `online_retail`: the features that it reads are the same.

Each is an AISLE_HOME: a bundle that the engine wrote, and a Feast registry and SQLite online store that Feast wrote.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from filelock import FileLock

from aisle.lake import project_root
from bench import cache, expansion, online_retail

NAMES = ("online_retail", "expanded")
LENGTH = 500  # events of a history, as in conf/aisle.toml
AT_ONCE = 2000  # users written to the online store together
DATA = project_root() / "data" / "online_retail.parquet"
COMPACT = "compact.json"  # notes that users have compact rows online: a shop of before has none yet


def folder(name: str) -> Path:
    return cache.folder().parent / "serving" / name


def prepare(name: str) -> Path:
    """The prepared home; what is there already is used again. Raises CalledProcessError where it fails."""
    home = folder(name)
    if not ((home / "prepared.json").exists() and (home / COMPACT).exists()):
        env = {**os.environ, "AISLE_HOME": str(home)}
        subprocess.run(
            [sys.executable, "-m", "bench.serving_shop", name], env=env, check=True, cwd=project_root()
        )
    return home


def refit(name: str) -> None:
    """Forgets what was fitted, and keeps what was chosen and what is online: after a change of the engine's sources."""
    shutil.rmtree(folder(name) / "bundle", ignore_errors=True)
    (folder(name) / "prepared.json").unlink(missing_ok=True)


def _prepare(name: str) -> None:
    """One process at a time: who comes second finds what the first one made."""
    home = folder(name)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".lock"):
        if not (home / "prepared.json").exists():
            _prepare_alone(name, home)
        if not (home / COMPACT).exists():
            cache.write(home / COMPACT, _compact())


def _prepare_alone(name: str, home: Path) -> None:
    started = time.monotonic()
    lines = online_retail.load_lines(DATA)
    items, histories = frames(name, lines)
    _say(f"{name}: {len(items):,} items, {len(histories):,} users, {time.monotonic() - started:.0f} s")
    if not (home / "users.parquet").exists():
        (home / COMPACT).unlink(missing_ok=True)
        _bring_online(histories)
        histories[["user_id", "country"]].to_parquet(home / "users.parquet")
    _say(f"{name}: online, {time.monotonic() - started:.0f} s")
    recipe, ranker = _chosen(lines)
    _fit(home / "bundle", items, histories, recipe, ranker)
    events = int(histories["item_ids"].map(len).sum())
    cache.write(
        home / "prepared.json",
        {
            "items": len(items),
            "users": len(histories),
            "events": events,
            "label": expansion.LABEL if name == "expanded" else "as learnt",
            "sources": sorted(recipe.sources),
            "ranker": "of online_retail" if name == "expanded" else "its own",
            "seconds": round(time.monotonic() - started, 1),
        },
    )


def frames(name: str, lines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items and histories at the end of the invoices."""
    at = online_retail.END
    if name == "online_retail":
        return online_retail.items_of(lines, at), online_retail.histories_of(lines, LENGTH)
    expanded = expansion.expand(lines)
    items = expansion.items_of(expanded, lines, at)
    expanded = expanded.drop(columns=["title", "price", "order_id"])
    gc.collect()
    return items, online_retail.histories_of(expanded, LENGTH)


def _chosen(lines: pd.DataFrame):
    """Recipe and ranker of the real shop, from windows before its last 28 days; kept."""
    from aisle import settings as settings_module
    from bench import protocols
    from engine.ranker import Ranker
    from engine.recipe import Recipe
    from training.selection import select

    kept = folder("online_retail").parent / "chosen"
    if not (kept / "recipe.json").exists():
        settings = settings_module.load()
        training, protocol = settings.training, protocols.load("online_retail")
        recipe, choice, _ = select(
            protocol.earlier,
            protocol.validation,
            Recipe.of(settings),
            training.blend_users,
            training.ranker_users,
            say=_say,
        )
        kept.mkdir(parents=True, exist_ok=True)
        if choice.ranker:
            (kept / "ranker.txt").write_text(choice.ranker.text)
        (kept / "recipe.json").write_text(recipe.model_dump_json(indent=1))
    recipe = Recipe.model_validate_json((kept / "recipe.json").read_text())
    text = kept / "ranker.txt"
    return recipe, Ranker(text.read_text()) if text.exists() else None


def _fit(bundle: Path, items: pd.DataFrame, histories: pd.DataFrame, recipe, ranker) -> None:
    from bench.engine_run import _timed_sources
    from engine.recommender import Recommender

    if (bundle / "manifest.json").exists():
        return
    with _timed_sources() as seconds:
        fitted = Recommender.fit(items, histories, online_retail.END, recipe, None, ranker)
    _say("seconds to fit: " + ", ".join(f"{name} {took:.0f}" for name, took in seconds.items()))
    beside = bundle.with_name("bundle.part")
    shutil.rmtree(beside, ignore_errors=True)
    fitted.save(beside)
    beside.rename(bundle)


def _bring_online(histories: pd.DataFrame) -> None:
    """Feast's own registry and online store, filled by Feast: user_history and user_stats, as the `features` DAG leaves them."""
    from aisle import features
    from aisle import settings as settings_module
    from feature_repo import publish

    settings = settings_module.load()
    shutil.rmtree(features.folder(), ignore_errors=True)
    store = features.store(settings)
    publish.apply(store)
    at = pd.Timestamp(online_retail.END)
    for start in range(0, len(histories), AT_ONCE):
        some = histories.iloc[start : start + AT_ONCE]
        sizes = some["item_ids"].map(len).to_numpy()
        own = some[["user_id", "item_ids", "event_types", "event_times", "quantities"]].assign(as_of=at)
        stats = pd.DataFrame(
            {
                "user_id": some["user_id"].to_numpy(),
                "country": some["country"].to_numpy(),
                "n_events": sizes,
                "n_orders": some["event_times"].map(lambda each: len(set(each))).to_numpy(),
                "n_items": some["item_ids"].map(lambda each: len(set(each))).to_numpy(),
                "spend": 0.0,
                "days_since_first": (at.timestamp() - some["event_times"].map(min).to_numpy()) / 86_400,
                "days_since_last": (at.timestamp() - some["event_times"].map(max).to_numpy()) / 86_400,
                "mean_price": 0.0,
                "as_of": at,
            }
        )
        store.write_to_online_store("user_history", own)
        store.write_to_online_store("user_stats", stats)
        if start // AT_ONCE % 10 == 9:
            _say(f"{start + AT_ONCE:,} of {len(histories):,} users online")
    features.note_published(features.Published(at.isoformat(), {}, publish.digest()))


def _compact() -> dict[str, int]:
    """Compact rows beside Feast's, as the `features` DAG writes them."""
    from aisle import features
    from aisle import settings as settings_module
    from feature_repo import publish

    settings = settings_module.load()
    return publish.write_compact(settings, features.store(settings))


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python -m bench.serving_shop expanded"
    )
    parser.add_argument("name", choices=NAMES)
    _prepare(parser.parse_args().name)


if __name__ == "__main__":
    main()
