"""/openapi.json says what the doors do: which key a path wants, and every refusal that may come before its own answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from serving import policy
from serving.policy import LOCAL, OPEN

REFUSALS = {
    400: "A body that is no JSON, or nests too deep.",
    401: "No key, or one that is unknown, expired or revoked; a user token that is forged or expired.",
    403: "A key that is good, but not for this, not from this page, or not for this user.",
    408: "A body that did not come in time.",
    413: "A body that is too large.",
    429: "More requests than the rate of this key or address allows.",
    431: "Too many or too long headers.",
    503: "Overload, or nothing to answer with yet.",
}
KEYS = ("ApiKey", "Bearer")
AGAIN = {
    "Retry-After": {
        "description": "Whole seconds until it is worth asking again.",
        "schema": {"type": "integer"},
    }
}
SCHEMES = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key of `aisle keys`.",
    },
    "Bearer": {"type": "http", "scheme": "bearer", "description": "The same key."},
    "UserToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Token",
        "description": "Beside a public key: whom the page asks for, signed by the shop's server.",
    },
}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def install(app: FastAPI) -> None:
    """For an app whose routes are all there."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None or "securitySchemes" not in app.openapi_schema.get("components", {}):
            describe(made(), app)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def describe(document: dict[str, Any], app: FastAPI) -> None:
    """Adds to FastAPI's document, in place."""
    document["components"]["securitySchemes"] = SCHEMES
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        wanted = policy.wanted(route)
        for method in route.methods:
            operation = document["paths"][route.path_format][method.lower()]
            if wanted not in (OPEN, LOCAL):
                operation["security"] = [{name: []} for name in KEYS]
                if wanted == "read":
                    operation["security"] += [{name: [], "UserToken": []} for name in KEYS]
                operation["x-scope"] = wanted
            _refusals(operation, wanted)
            _as_problems(operation)


def _refusals(operation: dict[str, Any], wanted: str) -> None:
    body = "requestBody" in operation or wanted not in (OPEN, LOCAL)
    for status, why in REFUSALS.items():
        if wanted == OPEN and status in (400, 401, 403, 408, 413, 503):
            continue
        if status in (400, 408, 413) and not body:
            continue
        told = operation["responses"].setdefault(str(status), {"description": why, "content": PROBLEM})
        if status in (429, 503):
            told.setdefault("headers", AGAIN)


def _as_problems(operation: dict[str, Any]) -> None:
    """What is a Problem goes out as application/problem+json, while FastAPI says application/json of all models."""
    for status, told in operation["responses"].items():
        refs = [each.get("schema", {}).get("$ref", "") for each in told.get("content", {}).values()]
        if status >= "4" and any(ref.endswith(("/Problem", "/HTTPValidationError")) for ref in refs):
            told["content"] = PROBLEM
