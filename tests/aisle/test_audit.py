"""`make audit`: says what is vulnerable, and stands in nobody's way where the database cannot be reached."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aisle.lake import project_root

FAULT = {
    "id": "GHSA-test-0000-0001",
    "aliases": ["CVE-2026-0001"],
    "summary": "It breaks.",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
            "versions": ["3.1.2"],
        }
    ],
}


class Osv(http.server.BaseHTTPRequestHandler):
    """Answers as api.osv.dev does: a fault of jinja2, none of others."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = asked.get("package", {}).get("name")
        body = json.dumps({"vulns": [FAULT]} if name == "jinja2" else {}).encode()
        self.send_response(200 if name else 400)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def osv() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()


def audit(url: str, lock: Path, accepted: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    file = lock.with_name("audit.toml")
    file.write_text(accepted)
    command = [sys.executable, project_root() / "bin" / "audit", lock, file]
    return subprocess.run(
        command,
        env={**os.environ, "AISLE_AUDIT_URL": url, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def locked(folder: Path, *pins: str) -> Path:
    lock = folder / "requirements.lock"
    lock.write_text("".join(f"{pin} \\\n    --hash=sha256:{'0' * 64}\n" for pin in pins))
    return lock


def test_what_is_vulnerable_is_named_with_the_way_out(osv: str, tmp_path: Path) -> None:
    done = audit(osv, locked(tmp_path, "jinja2==3.1.2", "typer==0.1.0"))
    assert done.returncode == 1, done.stderr
    assert "jinja2 3.1.2: CVE-2026-0001 (GHSA-test-0000-0001); mended in 99.1" in done.stdout
    assert "2 packages asked, 1 vulnerable" in done.stdout
    done = audit(osv, locked(tmp_path, "typer==0.1.0"))
    assert (done.returncode, "0 vulnerable" in done.stdout) == (0, True)


def test_what_is_accepted_needs_a_reason_and_a_day(osv: str, tmp_path: Path) -> None:
    lock = locked(tmp_path, "jinja2==3.1.2")
    row = '[[accepted]]\nid = "GHSA-test-0000-0001"\nreason = "{}"\nuntil = {}\n'
    assert audit(osv, lock, row.format("not called", "2999-01-01")).returncode == 0
    late = audit(osv, lock, row.format("not called", "2020-01-01"))
    assert (late.returncode, "to be looked at again" in late.stdout) == (1, True)
    assert "no reason" in audit(osv, lock, row.format("", "2999-01-01")).stderr


def test_without_the_database_a_build_goes_on(tmp_path: Path) -> None:
    lock = locked(tmp_path, "jinja2==3.1.2")
    done = audit("http://127.0.0.1:9/", lock)
    assert done.returncode == 0
    assert done.stdout.startswith("audit: skipped: ")
    assert audit("http://127.0.0.1:9/", lock, AISLE_AUDIT="required").returncode == 1


def test_the_lock_can_be_read_whole(tmp_path: Path) -> None:
    """pip-audit must understand every line of the lock that `make audit` gives it."""
    import pip_requirements_parser

    found = pip_requirements_parser.RequirementsFile.from_file(str(project_root() / "requirements.lock"))
    assert len(found.requirements) > 300
    assert not found.invalid_lines
