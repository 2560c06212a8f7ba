"""gold.item_text: title, categories, brand, price and what else a shop tells of its items, as known at points in time.

A description, tags and attributes are cut to what `content` reads of them (engine.sources.content_words): a row of each item stands
at every point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from engine.sources.content_words import LONGEST, LONGEST_LABEL, MOST
from jobs.grid import BUILT, Grid, carried_forward, so_far
from jobs.item_stats import by_day, priced

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

TEXT = ("title", "categories", "brand", "price", "deleted", "description", "tags", "attributes")


def transform(events: DataFrame, history: DataFrame, grid: Grid) -> DataFrame:
    """Rows of gold.item_text at every built point after an item's first update or event.

    events, history: silver events and silver.item_history with the grid's columns. The price is the catalogue's as last
    updated before the point; where the catalogue has none, the mean paid per unit on the newest day on which the item
    sold before the point.
    """
    told = history.withColumns(
        {
            "description": F.substring("description", 1, LONGEST),
            "tags": F.slice(F.filter("tags", _short), 1, MOST),
            "attributes": F.slice(_pairs("attributes"), 1, MOST),
        }
    )
    updates = told.groupBy("item_id", BUILT).agg(*[_last_told(name).alias(name) for name in TEXT])
    sales = by_day(events.where("item_id is not null")).groupBy("item_id", BUILT)
    cells = updates.join(sales.agg(F.max_by("price", priced()).alias("paid")), ["item_id", BUILT], "full")
    until_now = so_far("item_id")
    running = cells.select(
        "item_id",
        BUILT,
        *[F.last(name, ignorenulls=True).over(until_now).alias(name) for name in (*TEXT, "paid")],
    )
    return carried_forward(running, "item_id", grid).select(
        "item_id",
        "as_of",
        "title",
        "categories",
        "brand",
        F.coalesce(F.col("price").cast("double"), "paid").alias("price"),
        F.coalesce("deleted", F.lit(False)).alias("deleted"),
        F.when(F.col("description") != "", F.col("description")).alias("description"),
        *[F.when(F.size(name) > 0, F.col(name)).alias(name) for name in ("tags", "attributes")],
    )


def _short(label: Column) -> Column:
    return F.length(label).between(1, LONGEST_LABEL)


def _pairs(name: str) -> Column:
    """A map as name=value, by name, as `content_words.pairs` has it; without values that are too long for a label."""
    kept = F.map_filter(name, lambda _, value: _short(value))
    entries = F.array_sort(F.map_entries(kept))
    return F.transform(entries, lambda each: F.concat_ws("=", each["key"], each["value"]))


def _last_told(name: str) -> Column:
    """The newest value that is not null: a field that an update leaves out keeps its value."""
    return F.max_by(name, F.when(F.col(name).isNotNull(), F.col("updated_at")))
