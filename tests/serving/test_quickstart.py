"""The commands of docs/quickstart-api.md, run as they stand there, in one shell; and their answers have what the page shows."""

from __future__ import annotations

import httpx

from aisle.lake import project_root
from tests.serving import page_commands

PAGE = project_root() / "docs" / "quickstart-api.md"


def test_the_pages_commands_work_and_say_what_it_shows(api: httpx.Client) -> None:
    ran = page_commands.run(PAGE, str(api.base_url))
    assert len(ran) >= 12
    for step in ran:
        if step.shown is not None:
            assert not page_commands.missing(step.shown, step.told), step
    assert "server" in ran[1].printed
    assert "401" in ran[2].printed
    assert ran[6].told["accepted"] == 2
    assert ran[7].told["rung"] == "session", ran[7]
    assert "aisle_server_" not in "\n".join(step.printed for step in ran)
    assert len(ran[-1].printed.splitlines()) == 3
