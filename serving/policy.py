"""What each path wants of its caller: one table, so that it can be read at a glance, and that nothing is open by mistake.

A path that is not here wants `admin`, and a test fails until somebody has put it here.
"""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Mount, Route

OPEN: Final = "open"  # anybody
LOCAL: Final = "local"  # this machine, or a key with the scope admin

WANTED: dict[str, str] = {
    "GET /healthz": OPEN,
    "GET /readyz": OPEN,
    "GET /openapi.json": OPEN,
    "GET /favicon.ico": OPEN,
    "GET /docs": OPEN,
    "MOUNT /docs/files": OPEN,
    "GET /docs/oauth2-redirect": OPEN,
    "GET /metrics": LOCAL,
    "GET /": LOCAL,
    "MOUNT /reports": LOCAL,
    "GET /v1/recommendations": "read",
    "POST /v1/recommendations": "read",
    "POST /v1/recommendations/batch": "read",
    "POST /v1/explain": "people",
    "POST /v1/similar": "read",
    "POST /v1/together": "read",
    "GET /v1/popular": "read",
    "POST /v1/popular": "read",
    "GET /v1/trending": "read",
    "POST /v1/trending": "read",
    "GET /v1/search": "read",
    "POST /v1/search": "read",
    "GET /v1/rules": "write",
    "PUT /v1/rules": "write",
    "GET /v1/rules/history": "write",
    "POST /v1/rules/preview": "write",
    "GET /v1/items/{item_id}/together": "read",
    "GET /v1/items/{item_id}": "read",
    "GET /v1/items/{item_id}/similar": "read",
    "GET /v1/users/{user_id}/history": "people",
    "POST /v1/events": "track",
    "POST /v1/events/beacon": "track",
    "POST /v1/items/{item_id}/reviews": "track",
    "PUT /v1/items/{item_id}/reviews/{user_id}": "track",
    "PATCH /v1/items/{item_id}/reviews/{user_id}": "track",
    "DELETE /v1/items/{item_id}/reviews/{user_id}": "track",
    "POST /v1/users/{user_id}/preferences": "track",
    "POST /v1/items": "write",
    "PUT /v1/items/{item_id}": "write",
    "PATCH /v1/items/{item_id}": "write",
    "DELETE /v1/items/{item_id}": "write",
    "PUT /v1/items/{item_id}/stock": "write",
    "POST /v1/stock": "write",
    "POST /v1/users": "write",
    "PATCH /v1/users/{user_id}": "write",
    "GET /v1/users/{user_id}/preferences": "people",
    "GET /v1/users/{user_id}/export": "people",
    "DELETE /v1/users/{user_id}": "people",
    "POST /v1/graphql": "read",
    "GET /v1/graphql": OPEN,
}


def names(route: BaseRoute) -> list[str]:
    """How a route stands in the table: its method and path, or MOUNT and path."""
    if isinstance(route, Mount):
        return [f"MOUNT {route.path}"]
    if isinstance(route, Route):
        return [f"{method} {route.path}" for method in sorted((route.methods or {"GET"}) - {"HEAD"})]
    return [f"OTHER {getattr(route, 'path', route)}"]


def wanted(route: BaseRoute) -> str:
    """The scope that a route wants, OPEN or LOCAL; where it has several methods, they are to want the same."""
    found = {WANTED.get(name, "admin") for name in names(route)}
    return found.pop() if len(found) == 1 else "admin"
