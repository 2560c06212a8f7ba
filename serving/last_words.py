"""What a connection is told before it is closed where there is no request that an answer could be of: a problem document, with the
headers that every answer carries.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus

import orjson

from serving.headers import OF_DATA
from serving.problems import MEDIA_TYPE


def last_word(status: int, name: str, detail: str, retry_after: int | None = None) -> bytes:
    """The whole answer. name: of the kind of problem, see serving.problems; retry_after: seconds."""
    title, found = HTTPStatus(status).phrase, uuid.uuid4().hex
    body = orjson.dumps(
        {
            "type": f"urn:aisle:problem:{name}",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": "",
            "request_id": found,
        }
    )
    headers = [
        *OF_DATA,
        (b"connection", b"close"),
        (b"content-length", b"%d" % len(body)),
        (b"content-type", MEDIA_TYPE.encode()),
        (b"x-request-id", found.encode()),
    ]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    lines = [b"HTTP/1.1 %d %b" % (status, title.encode()), *(b"%b: %b" % each for each in headers)]
    return b"\r\n".join([*lines, b"", body])
