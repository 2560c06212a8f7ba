"""Other values of known items over a recommender: a new `Catalogue` around the same arrays, and what it says against what was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from engine.recommender import Recommender
from serving.shelf import Shelf, Shelved
from serving.told import Told

CELLS = ("title", "brand", "categories", "price")


def laid_over(base: Recommender, items: Mapping[str, Told], shelf: Shelf, whole: bool = True) -> Recommender:
    """The same model with other values of these items; no array of it is copied but the columns that change.

    whole: these are all items of which something was told, so that the shelf alone speaks for the others.
    """
    catalogue, index = base.catalogue, base.catalogue.index
    known = {index[item]: told for item, told in items.items() if item in index}
    gone = set(catalogue.gone)
    gone |= {index[item] for item in shelf.deleted if whole and item in index and item not in items}
    for row, told in known.items():
        deleted = is_deleted(told, shelf.of(catalogue.item_ids[row]))
        gone = gone if deleted is None else gone | {row} if deleted else gone - {row}
    changed: set[str] = set()
    frame = catalogue.frame
    for column in CELLS:
        values = {row: told.get(column) for row, told in known.items() if told.get(column) is not None}
        if column in frame and _differ(frame[column], values):
            frame = frame.copy(deep=False) if not changed else frame
            frame[column] = _with(frame[column], values)
            changed.add(column)
    if not changed and gone == set(catalogue.gone):
        return base
    over = replace(catalogue, frame=frame, gone=tuple(sorted(gone)))
    over.__dict__["index"] = index  # the same ids at the same rows: made once
    return base.over(over, changed)


def is_deleted(told: Told | None, shelved: Shelved | None) -> bool | None:
    """By who spoke last; None where neither knows."""
    deleted, at = told.fields.get("deleted", (None, 0)) if told else (None, 0)
    return shelved.deleted if shelved and shelved.updated_at > at else deleted


def _differ(column: pd.Series, values: Mapping[int, Any]) -> bool:
    return any(not _same(column.iat[row], value) for row, value in values.items())


def _same(held: Any, value: Any) -> bool:
    return list(held) == value if isinstance(held, (list, np.ndarray)) else held == value


def _with(column: pd.Series, values: Mapping[int, Any]) -> pd.Series:
    if pd.api.types.is_float_dtype(column.dtype):
        numbers = column.to_numpy(copy=True)
        numbers[list(values)] = list(values.values())
        return pd.Series(numbers, column.index)
    cells = column.tolist()
    for row, value in values.items():
        cells[row] = value
    return pd.Series(cells, column.index)


def shows(released: Recommender, item_id: str, told: Told) -> bool:
    """Whether a release says of an item what was told. A deletion is the shelf's to say."""
    row = released.catalogue.index.get(item_id)
    if row is None:
        return bool(told.get("deleted"))
    frame = released.catalogue.frame
    values = {name: told.get(name) for name in CELLS if name in frame and told.get(name) is not None}
    return all(_same(frame[name].iat[row], value) for name, value in values.items())
