"""`aisle keys`: who may ask the API what."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from aisle import api_keys, settings, user_tokens
from aisle.api_keys import Key

app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help="Keys of the API: server keys for the shop's backend, public keys for its pages.\n\nExample: aisle keys list",
)
Which = Annotated[str, typer.Argument(metavar="KEY", help="A key's id or name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
SECRETS = ("salt", "hash")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All keys with what they may do; never the keys themselves.

    Example: aisle keys list
    """
    settings.load()
    keys = api_keys.read()
    if as_json:
        print(json.dumps([told(each) for each in keys], ensure_ascii=False))
        return
    print(table(keys) if keys else "no keys yet: the API makes them at its first start (`aisle up`)")
    if api_keys.first().exists():
        print(f"\nthe keys of the first start, in plain text: {api_keys.first()}")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will use it, such as 'storefront'.")],
    public: Annotated[
        bool, typer.Option("--public", help="For pages in browsers: track and read only.")
    ] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(api_keys.SCOPES)}; repeatable. None: all of its kind but admin."),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Of pages that may use a public key, such as https://shop.example; repeatable."),
    ] = None,
    days: Annotated[float | None, typer.Option(help="Until it expires; never by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """A new key. It is shown this once and stored nowhere in plain text. A running API knows it within a second.

    Example: aisle keys create storefront --public --origin https://shop.example --days 365
    """
    settings.load()
    show_new(
        *api_keys.create(name, "public" if public else "server", scope or (), origin or (), days), as_json
    )


@app.command()
def revoke(which: Which, as_json: AsJson = False) -> None:
    """The key opens nothing any more; a running API knows within a second.

    Example: aisle keys revoke storefront
    """
    settings.load()
    ended = api_keys.revoke(which)
    names = ", ".join(f"{each.name} ({each.key_id})" for each in ended)
    print(json.dumps([told(each) for each in ended]) if as_json else f"revoked: {names}")


@app.command()
def rotate(
    which: Which,
    grace_hours: Annotated[
        float, typer.Option(help="So long the old key goes on beside the new one.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """A new key with the same rights; the old one goes on for a while, so that the shop can change over.

    Example: aisle keys rotate server --grace-hours 2
    """
    settings.load()
    show_new(*api_keys.rotate(which, grace_hours), as_json)


@app.command("user-token")
def user_token(
    user: Annotated[
        str, typer.Argument(metavar="USER", help="The user's id, as the shop's events name them.")
    ],
    hours: Annotated[float, typer.Option(help=f"So long it holds, up to {user_tokens.MAX_HOURS}.")] = 12.0,
    as_json: AsJson = False,
) -> None:
    """A token that proves to the API whom a page asks for: sent as X-User-Token along with a public key.

    The shop's server makes them itself, with `aisle_client.user_token` and the secret of `aisle keys user-secret`.

    Example: aisle keys user-token 12347 --hours 1
    """
    settings.load()
    user_tokens.ensure()
    token = user_tokens.make(user_tokens.secret(), user, hours)
    print(
        json.dumps({"user_id": user, "token": token, "hours": hours}, ensure_ascii=False)
        if as_json
        else token
    )


@app.command("user-secret")
def user_secret(
    new: Annotated[
        bool, typer.Option("--new", help="Make another one: all tokens of before are void.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The secret that user tokens are signed with, for the shop's server. Whoever has it can be any user.

    Example: aisle keys user-secret
    """
    settings.load()
    if new:
        user_tokens.renew()
    user_tokens.ensure()
    found = user_tokens.secret().hex()
    print(json.dumps({"secret": found}) if as_json else found)


def show_new(key: Key, plain: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**told(key), "key": plain}, ensure_ascii=False))
        return
    until = f", until {key.expires_at}" if key.expires_at else ""
    print(f"{plain}\n{key.kind} key {key.name!r} may {', '.join(key.scopes)}{until}; it is not shown again")


def told(key: Key) -> dict:
    """A key without its secrets, and with its state."""
    found = {name: value for name, value in asdict(key).items() if name not in SECRETS}
    return {**found, "state": key.state(datetime.now(UTC))}


def table(keys: list[Key]) -> str:
    rows = [("id", "name", "kind", "state", "may", "origins", "expires")]
    for each in keys:
        state = each.state(datetime.now(UTC))
        may, origins = " ".join(each.scopes), " ".join(each.origins) or "-"
        rows.append((each.key_id, each.name, each.kind, state, may, origins, each.expires_at or "never"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
