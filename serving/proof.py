"""For whom a request may ask: with a server key for anybody, with a public key for the user whose token it brings.

The door notes what a request may do; whatever names a user then asks `require`, wherever it came from: a path, a body, a
GraphQL field. Outside of a request, as in the command and in threads of ours, nothing is held back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from aisle.errors import NoProof

HEADER: Final = "x-user-token"


@dataclass(frozen=True)
class Claim:
    """What a request of a public key brings. token: of HEADER; None without it. user_of: aisle.user_tokens.user_of."""

    token: str | None
    user_of: Callable[[str], str]


_claim: ContextVar[Claim | None] = ContextVar("claim", default=None)


def note(claim: Claim | None) -> None:
    """For the rest of this request. None: it may ask for anybody."""
    _claim.set(claim)


def require(user_id: str | None) -> None:
    """Raises NoProof where the request may not ask for this user; for nobody in particular everybody may."""
    claim = _claim.get()
    if claim is None or user_id is None:
        return
    if claim.token is None:
        raise NoProof(
            "a public key asks for a user with X-User-Token, which the shop's server makes (`aisle keys user-token`, "
            "aisle_client.user_token); without one it asks for a session, or for nobody"
        )
    if claim.user_of(claim.token) != user_id:
        raise NoProof("the user token is for another user than the one that is asked for")
