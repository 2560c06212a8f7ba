"""gold.item_text: title, categories, brand and price of items as known at points in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from jobs.grid import BUILT, Grid, carried_forward, so_far
from jobs.item_stats import by_day, priced

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

TEXT = ("title", "categories", "brand", "price", "deleted")


def transform(events: DataFrame, history: DataFrame, grid: Grid) -> DataFrame:
    """Rows of gold.item_text at every built point after an item's first update or event.

    events, history: silver events and silver.item_history with the grid's columns. The price is the catalogue's as last
    updated before the point; where the catalogue has none, the mean paid per unit on the newest day on which the item
    sold before the point.
    """
    updates = history.groupBy("item_id", BUILT).agg(*[_last_told(name).alias(name) for name in TEXT])
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
    )


def _last_told(name: str) -> Column:
    """The newest value that is not null: a field that an update leaves out keeps its value."""
    return F.max_by(name, F.when(F.col(name).isNotNull(), F.col("updated_at")))
