"""`python -m bench.serving_floor PORT`: the least that a personalised list costs, as an HTTP server.

The same bundle, the same feature read, the same index search and ranker as the API, under the same uvicorn: no rules, no log, no
explanation, no key, no limit, no validation. What the API gives on top is measured against it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
from pydantic_core import to_json

from aisle import settings as settings_module
from aisle.features import folder
from engine.recommender import Recommender
from serving import release
from serving.features import OnlineStore

K = 20


class Floor:
    """ASGI: GET /?user_id=U. Everything happens on the event loop, one list after the other."""

    def __init__(self) -> None:
        released = release.current()
        assert released is not None, f"nothing is released in {folder().parent}"
        self.recommender = Recommender.load(Path(released.path))
        self.store = OnlineStore(settings_module.load())
        self.service = self.recommender.recipe.feature_service
        cut = self.recommender.recipe.cut
        assert cut is not None
        self.now = cut

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        user = parse_qs(scope["query_string"].decode()).get("user_id", ["nobody"])[0]
        body = self.answer(user)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, user: str) -> bytes:
        """K items with their scores."""
        (state,) = self.store.read(self.service, [user])
        ranked = self.recommender.rank(state, self.now)
        listed = self.recommender.top(ranked.scores[None], K)[0]
        ids = self.recommender.catalogue.item_ids
        return to_json(
            {"items": [{"item_id": ids[row], "score": float(ranked.scores[row])} for row in listed.tolist()]}
        )


def main() -> None:
    port = int(sys.argv[1])
    uvicorn.run(Floor(), host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
