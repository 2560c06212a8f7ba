"""Pages under $AISLE_HOME/reports: an index, and one page per decision with its rules and an interval plot.

Plain HTML that needs nothing else: no script, styles inline, plots as inline SVG, every word escaped. The
API shows the folder read-only at /reports.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

from filelock import FileLock

from aisle import decisions, lake
from aisle.settings import Settings
from monitoring.markdown import version_title
from monitoring.svg import interval_plot

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1c2430}
table{border-collapse:collapse;width:100%;margin:1rem 0}
td,th{border-bottom:1px solid #dde2e8;padding:.35rem .6rem;text-align:left;vertical-align:top}
.decisions td:not(:last-child){white-space:nowrap}
.passed{color:#176b36}.failed,.refused{color:#a3161a;font-weight:600}.blocked{color:#8a5300;font-weight:600}
.shown{color:#5b6675}code{font-size:.9em}svg{max-width:100%;height:auto}
"""


def folder() -> Path:
    return lake.home() / "reports"


def refresh(settings: Settings) -> Path:
    """Writes the page of every decision that has none yet, and the index; returns the index.

    One writer at a time, each reads the records anew: the last index to be written knows them all.
    """
    (folder() / "decisions").mkdir(parents=True, exist_ok=True)
    lock = lake.home() / "run" / "reports.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=120):
        records = decisions.everything()
        for record in records:
            page = folder() / "decisions" / f"{record['decision_id']}.html"
            if not page.exists():
                _write(page, decision_page(record))
        index = folder() / "index.html"
        _write(index, _index(records))
    return index


def _write(page: Path, text: str) -> None:
    """Whole or not at all: a reader may open it meanwhile."""
    draft = page.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, page)


def _page(title: str, body: str) -> str:
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>"
        f"<meta name='viewport' content='width=device-width,initial-scale=1'><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(each)}</th>" for each in header)
    body = "".join("<tr>" + "".join(f"<td>{each}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _verdict(verdict: str) -> str:
    return f"<span class='{escape(verdict, quote=True)}'>{escape(verdict)}</span>"


def decision_page(record: dict[str, Any]) -> str:
    """One decision: what was compared, every rule with its verdict, every metric with its interval, data
    versions.
    """
    body = record["body"]
    facts = {
        name: record[name] for name in ("kind", "challenger", "champion", "as_of", "decided_by", "decided_at")
    }
    facts |= {
        name: body[name] for name in ("opponent", "users", "mlflow_run", "commit", "cut") if body.get(name)
    }
    facts |= {"digest": record["digest"], "digest of the record before": record["previous_digest"]}
    rows = [[escape(name), escape(str(value if value is not None else ""))] for name, value in facts.items()]
    parts = [f"<p>Verdict: {_verdict(record['verdict'])}</p>", _reasons(body), _table(["", ""], rows)]
    cells = [cell for cell in body.get("metrics", []) if cell["other"] == body.get("opponent")]
    if cells:
        parts += [
            f"<h2>Relative difference to {escape(version_title(body['opponent']))}</h2>",
            interval_plot(cells),
        ]
    if body.get("rules"):
        told = [
            [escape(each["rule"]), _verdict(each["verdict"]), escape(each["sentence"])]
            for each in body["rules"]
        ]
        parts += ["<h2>Rules</h2>", _table(["rule", "verdict", "why"], told)]
    if body.get("data_versions"):
        versions = [
            [escape(table), escape(str(number))] for table, number in sorted(body["data_versions"].items())
        ]
        parts += ["<h2>Data</h2>", _table(["table", "Delta version"], versions)]
    parts.append("<p><a href='../index.html'>All reports</a></p>")
    return _page(f"Decision {record['decision_id']}", "".join(parts))


def _reasons(body: dict[str, Any]) -> str:
    reasons = body.get("reasons") or []
    return "<ul>" + "".join(f"<li>{escape(str(each))}</li>" for each in reasons) + "</ul>" if reasons else ""


def _index(records: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"<a href='decisions/{each['decision_id']}.html'><code>{each['decision_id']}</code></a>",
            escape(each["kind"]),
            _verdict(each["verdict"]),
            escape(each["challenger"]),
            escape(each["champion"]),
            escape((each["as_of"] or "")[:10]),
            escape(each["decided_by"]),
        ]
        for each in records
    ]
    header = ["decision", "kind", "verdict", "challenger", "champion", "as of", "decided by"]
    drift = sorted((folder() / "drift").glob("*.html"), reverse=True)
    parts = [
        "<h2>Decisions</h2>",
        f"<div class='decisions'>{_table(header, rows)}</div>" if rows else "<p>None yet.</p>",
        "<h2>Drift</h2>",
        _links(drift),
    ]
    parts += [
        "<h2>Data docs</h2>",
        "<p>What Great Expectations found in the newest batch of each kind. Their overview is made by scripts from the "
        "internet and stays empty without it; the pages below it are whole, if plain.</p>",
        _links(_data_docs()),
    ]
    return _page("Aisle: reports", "".join(parts))


def _data_docs() -> list[Path]:
    """The overview, the newest validation of each kind, and what is expected of the kinds."""
    site = folder() / "data_docs"
    newest = {page.name: page for page in sorted(site.glob("validations/*/*/*/*.html"))}
    return [*site.glob("index.html"), *newest.values(), *sorted(site.glob("expectations/*.html"))]


def _links(pages: list[Path]) -> str:
    if not pages:
        return "<p>None yet.</p>"
    names = [page.relative_to(folder()).as_posix() for page in pages]
    return (
        "<ul>"
        + "".join(f"<li><a href='{escape(name, quote=True)}'>{escape(name)}</a></li>" for name in names)
        + "</ul>"
    )
