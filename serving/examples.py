"""What answers look like: the examples of /openapi.json and /docs, of the Online Retail shop that the demo sets up.

A test holds that each is an answer of its operation: it has the form, and every operation has one. The document leaves out what is
null (FastAPI's does), so what every answer must have is not null here.
"""

from typing import Any

ITEM: dict[str, Any] = {
    "item_id": "22423",
    "title": "REGENCY CAKESTAND 3 TIER",
    "price": 12.75,
    "categories": ["CAKESTAND"],
}
HISTORY: dict[str, Any] = {
    "user_id": "12347",
    "country": "Iceland",
    "events": [
        {
            "item_id": "21731",
            "title": "RED TOADSTOOL LED NIGHT LIGHT",
            "event_type": "purchase",
            "event_time": "2011-12-07T15:52:00+00:00",
            "quantity": 24.0,
        },
        {
            "item_id": "22423",
            "title": "REGENCY CAKESTAND 3 TIER",
            "event_type": "purchase",
            "event_time": "2011-10-31T12:25:00+00:00",
            "quantity": 3.0,
        },
    ],
}
READY: dict[str, Any] = {
    "status": "ready",
    "version": "4",
    "digest": "c31dc1b1058a805702605d6109412f6bb05097a40c60648db2e8a14999a1fd32",
    "released_at": "2026-11-25T08:30:00.625+00:00",
    "features": "open",
    "fault": None,
}
PROBLEM: dict[str, Any] = {
    "type": "urn:aisle:problem:invalid-request",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "query.k: Input should be less than or equal to 100; query.limit: Extra inputs are not permitted",
    "instance": "/v1/recommendations",
    "request_id": "53faa51b9c3a49379ff1dac66ec44df8",
    "errors": [
        {"where": "query.k", "detail": "Input should be less than or equal to 100", "value": "1000"},
        {"where": "query.limit", "detail": "Extra inputs are not permitted", "value": "3"},
    ],
}
EXPLANATION: dict[str, Any] = {
    "request_id": "d83131d17a4a4cb3a91cf248ab1e160c",
    "model_version": "4",
    "rules_version": 3,
    "rung": "personalised",
    "degraded": [],
    "history_events": 182,
    "trace": [
        {"stage": "catalogue", "items": 3660},
        {"stage": "not deleted", "items": 3660},
        {"stage": "rule request: in_stock", "items": 3652},
        {"stage": "not hidden by the user", "items": 3652},
        {"stage": "candidates of the ranker", "items": 301},
        {"stage": "of them allowed", "items": 300},
        {"stage": "rung personalised", "items": 500},
        {"stage": "with lower rungs", "items": 500},
        {"stage": "on the page", "items": 3},
    ],
    "items": ["23084", "21731", "22727"],
    "item": {
        "item_id": "21731",
        "title": "RED TOADSTOOL LED NIGHT LIGHT",
        "verdict": "shown at place 2, rung personalised",
        "shown_at": 2,
        "removed_by": [],
        "sources": [
            {"source": "personal", "place": 1, "score": 14.5319, "candidate": True},
            {"source": "linear", "place": 21, "score": 6.262, "candidate": True},
            {"source": "content", "place": 146, "score": 2.0678, "candidate": False},
        ],
        "candidate": True,
        "ranked": 2,
        "place": 2,
        "score": 1.7123,
        "reason": {
            "source": "personal",
            "evidence": {"event_type": "purchase", "times": 5, "days_ago": 2.3},
            "parts": {"personal": 0.91, "linear": 0.24, "rhythm": 1.77, "base": -1.2077},
            "text": "You bought it 5 times, last 2 days ago",
        },
    },
}
RULES: dict[str, Any] = {
    "version": 1,
    "at": "2026-11-25T08:30:00.300+00:00",
    "by": "server",
    "note": "postage is no present",
    "digest": "4e37d8d24f8e4f55b7562015de95b5192290c3991cc2f495cb1ca80d47f55380",
    "previous_digest": "",
    "rules": {"all": {"in_stock": True, "caps": {"brand": 3}, "exclude": ["POST"]}},
    "warnings": ["no item 'POST' in the released model"],
    "fault": None,
}
PREVIEW: dict[str, Any] = {
    "version": 1,
    "warnings": [],
    "allowed": {"before": 3660, "after": 3652},
    "changes": [
        {
            "user_id": "12347",
            "rung": "personalised",
            "before": ["23084", "21731", "22727", "22375"],
            "after": ["22727", "22726", "22196", "22371"],
            "added": ["22726", "22196", "22371"],
            "removed": {"23084": ["already"], "21731": ["in_stock", "already"], "22375": ["caps.category"]},
        }
    ],
}
GRAPHQL: dict[str, Any] = {
    "data": {
        "forYou": {
            "requestId": "c578c7edae1745c38b7857cc60526cc6.1",
            "rung": "personalised",
            "items": [
                {
                    "itemId": "21731",
                    "title": "RED TOADSTOOL LED NIGHT LIGHT",
                    "price": 1.65,
                    "reason": {"text": "You bought it 5 times, last 2 days ago"},
                }
            ],
        },
        "popular": {
            "items": [{"itemId": "23084", "title": "RABBIT NIGHT LIGHT", "item": {"categories": ["LIGHT"]}}]
        },
    }
}
SDL = (
    "type Query {\n  recommendations(k: Int = null, userId: ID = null): List\n  item(itemId: ID!): Item\n}\n"
)
TAKEN: dict[str, Any] = {"accepted": 2, "duplicates": 0, "refused": []}
TAKEN_IN_PART: dict[str, Any] = {
    "accepted": 1,
    "duplicates": 0,
    "refused": [
        {
            "index": 1,
            "errors": [{"where": "user_id", "detail": "neither user_id nor session_id", "value": None}],
        }
    ],
}
PREFERENCES: dict[str, Any] = {"user_id": "12347", "like": ["21731"], "dislike": [], "hide": ["22423"]}
ERASURE: dict[str, Any] = {
    "user_id": "12347",
    "erased_at": "2026-11-25T08:30:00.335039+00:00",
    "sessions": ["s-81f3"],
    "rows_gone": "with the next `maintain`; the files that still hold them, after maintain.retention_hours",
}
EXPORT: dict[str, Any] = {
    "user_id": "12347",
    "complete": True,
    "erased_at": None,
    "profile": {"country": "Iceland"},
    "preferences": {"like": ["21731"], "dislike": [], "hide": []},
    "history": [{"item_id": "21731", "event_type": "purchase", "event_time": 1323273120}],
    "events": [
        {
            "event_id": "e-20261125-1",
            "event_type": "like",
            "event_time": "2026-11-25T08:30:00.321468+00:00",
            "user_id": "12347",
            "item_id": "21731",
            "source": "api",
        }
    ],
    "sessions": [],
    "other": {
        "ops.recommendations": [
            {
                "request_id": "5f0c9a7e4a3d4b0e9d2f6a1b8c7d6e5f",
                "served_at": "2026-11-25T08:29:57.553004+00:00",
                "user_id": "12347",
                "model_version": "4",
                "rung": "personalised",
                "kind": "recommendations",
                "item_ids": ["23084", "21731"],
                "positions": [1, 2],
                "sources": ["popularity", "personal"],
                "scores": [1.723279, 1.71234],
                "propensities": [1.0, 1.0],
            }
        ]
    },
}
