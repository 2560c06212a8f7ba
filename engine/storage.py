"""A recommender as the files of a bundle, and back; and whether its numbers are sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import beforehand, bundle, mapped
from engine.cold import Cold
from engine.discovery import Discovery
from engine.interactions import Catalogue
from engine.pauses import breathe
from engine.ranker import Ranker
from engine.recipe import Recipe
from engine.sources import FROM_EXPORTS, FROM_HISTORIES
from engine.sources.base import Arrays, Source
from engine.trends import Trends

if TYPE_CHECKING:
    from engine.recommender import Recommender


@dataclass(frozen=True)
class Parts:
    """What a recommender is made of, in the order of its constructor.

    cold: what is made of them beforehand; None where it was not. beforehand: the rest of that, see `engine.beforehand`.
    discovery: None without slots.
    """

    recipe: Recipe
    catalogue: Catalogue
    sources: dict[str, Source]
    trends: Trends
    ranker: Ranker | None
    cold: Cold | None
    beforehand: dict[str, Arrays]
    discovery: Discovery | None = None


def save(model: Recommender, folder: Path) -> None:
    """Raises ValueError where items came or went since the fit."""
    if model.catalogue.fitted is not None:
        raise ValueError(
            "items came or went since the fit: save the recommender that with_items was asked of"
        )
    files = {
        "recipe.json": bundle.pack_json(model.recipe.model_dump(mode="json")),
        "items.parquet": bundle.pack_frame(model.catalogue.frame),
    }
    stored = {name: source.arrays() for name, source in model.sources.items()} | beforehand.made(model)
    files |= {f"{name}.npz": bundle.pack_arrays(arrays) for name, arrays in stored.items()}
    files["trends.npz"] = bundle.pack_arrays(model.trends.arrays())
    if model.cold:
        files["cold.npz"] = bundle.pack_arrays(model.cold.arrays())
    if model.discovery:
        files["discovery.npz"] = bundle.pack_arrays(model.discovery.arrays())
    if model.ranker:
        files["ranker.txt"] = model.ranker.text.encode()
    bundle.write(folder, files)


def load(folder: Path) -> Parts:
    """Raises BundleRejected, naming the file, where one is missing, altered or not what it should be."""
    files = bundle.read(folder)
    with bundle.rejecting(folder, "recipe.json"):
        recipe = Recipe.model_validate_json(bytes(files["recipe.json"]))
    with bundle.rejecting(folder, "items.parquet"):
        catalogue = Catalogue.of(bundle.unpack_frame(files["items.parquet"]))
    sources: dict[str, Source] = {}
    for name, kind in (FROM_HISTORIES | FROM_EXPORTS).items():
        if name in recipe.sources or f"{name}.npz" in files:
            with bundle.rejecting(folder, f"{name}.npz"):
                sources[name] = kind.from_arrays(bundle.unpack_arrays(files[f"{name}.npz"]))
            breathe()
    with bundle.rejecting(folder, "trends.npz"):
        trends = Trends(**bundle.unpack_arrays(files["trends.npz"]))
    cold = None
    if "cold.npz" in files:
        with bundle.rejecting(folder, "cold.npz"):
            cold = Cold.from_arrays(bundle.unpack_arrays(files["cold.npz"]))
    discovery = None
    if "discovery.npz" in files:
        with bundle.rejecting(folder, "discovery.npz"):
            discovery = Discovery.from_arrays(bundle.unpack_arrays(files["discovery.npz"]), len(catalogue))
    ranker = None
    if "ranker.txt" in files:
        with bundle.rejecting(folder, "ranker.txt"):
            ranker = Ranker(bytes(files["ranker.txt"]).decode())
            ranker.names  # noqa: B018 - read now, so that no request waits for it
    made = {}
    for name in files:
        if name.endswith(".npz") and beforehand.is_one(name.removesuffix(".npz")):
            with bundle.rejecting(folder, name):
                made[name.removesuffix(".npz")] = bundle.unpack_arrays(files[name])
    return Parts(recipe, catalogue, sources, trends, ranker, cold, made, discovery)


def faults(model: Recommender, unload: bool = True) -> list[str]:
    """Arrays with values that are not finite, each with how many: such a model must not be released.

    unload: takes what was looked through out of memory, for a model that answers nobody yet.
    """
    found = []
    try:
        model.last_stage  # noqa: B018 - made now, not at the first question
    except ValueError as error:
        found.append(str(error))
    for name, arrays in _stored(model).items():
        for key, array in arrays.items():
            breathe()
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                found.append(f"{name}.{key}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
            if unload:
                mapped.unload(array)
    return found


def unload(model: Recommender) -> None:
    """Takes out of memory what of a loaded bundle was read to make it: questions bring back what they read of it."""
    for arrays in _stored(model).values():
        for array in arrays.values():
            mapped.unload(array)


def _stored(model: Recommender) -> dict[str, Arrays]:
    """Arrays as a bundle holds them, by what they are of."""
    found = {name: source.arrays() for name, source in model.sources.items()} | beforehand.held(model)
    found |= {"trends": model.trends.arrays()} | ({"cold": model.cold.arrays()} if model.cold else {})
    return found | ({"discovery": model.discovery.arrays()} if model.discovery else {})
