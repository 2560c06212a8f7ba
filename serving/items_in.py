"""What a shop tells of its items: the catalogue and what there is of it. The next answer goes by it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from aisle.errors import NotThere
from aisle.settings import Settings
from serving.received import Judged
from serving.rows import models
from serving.schemas import questions
from serving.taking import ANSWERS, MISSING, ONE, Taken, Taking, takes_many, takes_one, unknown


def routes(settings: Settings, service: Any) -> APIRouter:
    """The routes that change items, bounded by the settings' limits."""
    router = APIRouter(prefix="/v1", tags=["catalogue"])
    accepted = models(settings)
    taking = Taking(settings, service)
    Id, _, _ = questions(settings)
    ItemId = Annotated[Id, Path(examples=["22423"])]
    most = settings.writes.max_batch

    async def change_items(judged: Judged, rows: list[tuple[int, dict[str, str]]], single: bool) -> Response:
        """Rows that need not say an item's title get the one that is known; who has none is refused."""
        loaded, kept = service.live.current, []
        for index, row in rows:
            title = row.get("title") or service.overlay.title(row["item_id"], loaded)
            if title is None:
                judged.refuse(index, "item_id", unknown(row["item_id"]), row["item_id"])
            else:
                kept.append({**row, "title": title})
        if not kept:
            judged.rows.clear()
            if single:
                raise NotThere(unknown(rows[0][1]["item_id"]))
            taking.sound(judged, single)
        return taking.told(judged, await taking.keep("items", kept), version=True)

    @router.post(
        "/items",
        summary="Items in: one or a list",
        **takes_many(accepted.item, most),
    )
    async def items(request: Request) -> Response:
        """New items, or new values of known ones; a field that is left out keeps its value."""
        judged, single = await taking.rows(request, accepted.item)
        rows = [(index, {"deleted": "false", **row.columns()}) for index, row in judged.rows]
        return await change_items(judged, rows, single)

    @router.put(
        "/items/{item_id}",
        summary="An item in",
        **takes_one(accepted.whole),
    )
    async def put_item(request: Request, item_id: ItemId) -> Response:
        """A new item, or new values of a known one. A deleted item is back."""
        row = {"item_id": item_id, "deleted": "false", **await taking.one(request, accepted.whole)}
        return await taking.keep_one("items", row, version=True)

    @router.patch(
        "/items/{item_id}",
        summary="What changes of an item",
        **takes_one(accepted.patch, {**ONE, **MISSING}),
    )
    async def patch_item(request: Request, item_id: ItemId) -> Response:
        """Price, title or whatever else changes; the rest stays, and null clears what can be empty (RFC 7396).

        404 for an item that nobody knows.
        """
        row = await taking.changes(request, accepted.patch)
        return await change_items(Judged(), [(0, {"item_id": item_id, **row})], True)

    @router.delete(
        "/items/{item_id}",
        status_code=202,
        summary="An item that is not sold any more",
        response_model=Taken,
        responses={**ONE, **MISSING},
    )
    async def delete_item(item_id: ItemId) -> Response:
        """From the next answer on it is not shown. 404 for an item that nobody knows, or that is deleted."""
        return await change_items(Judged(), [(0, {"item_id": item_id, "deleted": "true"})], True)

    @router.put(
        "/items/{item_id}/stock",
        summary="Pieces there are of an item",
        **takes_one(accepted.pieces, {**ONE, **MISSING}),
    )
    async def put_stock(request: Request, item_id: ItemId) -> Response:
        """Counts at once: where a rule asks for what is in stock, an item without pieces is not shown."""
        row = await taking.one(request, accepted.pieces)
        return await change_items(Judged(), [(0, {"item_id": item_id, **row})], True)

    @router.post(
        "/stock",
        summary="Pieces there are of many items",
        **takes_many(accepted.stock, most, {**ANSWERS, **MISSING}),
    )
    async def stock(request: Request) -> Response:
        judged, single = await taking.rows(request, accepted.stock)
        rows = [(index, row.columns()) for index, row in judged.rows]
        return await change_items(judged, rows, single)

    return router
