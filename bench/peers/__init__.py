"""The peers of the quality bench, by name, in the order of the table."""

from __future__ import annotations

import importlib

from bench.peers.base import Peer

WHERE = {
    "popularity": "bench.peers.simple:Popularity",
    "personal frequency": "bench.peers.simple:Personal",
    "item-item cosine": "bench.peers.simple:Cosine",
    "implicit ALS": "bench.peers.factors:Als",
    "implicit BPR": "bench.peers.factors:Bpr",
    "EASE": "bench.peers.ease:Ease",
    "RecTools": "bench.peers.rectools:RecTools",
    "TFRS tutorial": "bench.peers.tutorial:Tutorial",
}


def named(name: str) -> Peer:
    """Imported only when asked for: TensorFlow alone takes seconds and memory."""
    module, kind = WHERE[name].split(":")
    return getattr(importlib.import_module(module), kind)()
