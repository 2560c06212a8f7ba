"""`aisle models` and `aisle decisions`: tables for the terminal, or JSON. Decisions need no MLflow."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table
from rich.text import Text

from aisle import decisions as records
from aisle.settings import Settings
from aisle.terminal import rendered

COLOURS = {"passed": "green", "failed": "red", "refused": "red", "blocked": "yellow", "shown": "dim"}
WHOLE = {"id", "kind", "verdict", "version", "champion", "role", "as of", "decision", "metric", "all", "new"}

LEAST = {"aliases": len("challenger")}  # more than one share a cell, a line each


def decisions(settings: Settings, decision: str | None = None, as_json: bool = False) -> str:
    """All decisions, newest first, or one with every rule, interval and data version. Checks the chain first.

    Raises NotThere for an unknown id and TamperedRecord where the chain is broken.
    """
    records.verify()
    if decision is not None:
        record = records.read(decision)
        return json.dumps(record, indent=2, ensure_ascii=False) if as_json else _one(record)
    found = records.everything()
    if as_json:
        return json.dumps([_summary(each) for each in found], indent=2, ensure_ascii=False)
    return (
        _all(found) if found else "no decision yet: the first comes from `aisle run train`, or the train DAG"
    )


def models(settings: Settings, as_json: bool = False) -> str:
    """All registered versions, newest first: role, aliases, the gate's decision and its primary metric."""
    from aisle.registry import Registry

    decided = {each["challenger"]: each for each in reversed(records.everything("gate"))}
    registry = Registry(settings)
    aliases: dict[str, list[str]] = {}
    for alias, version in (
        registry.client.get_registered_model(registry.name).aliases.items() if registry.versions() else ()
    ):
        aliases.setdefault(str(version), []).append(alias)
    rows = [_model(each, aliases.get(str(each.version), []), decided) for each in registry.versions()]
    if as_json:
        return json.dumps(rows, indent=2, ensure_ascii=False)
    return _models(rows) if rows else "no model yet: `aisle run train`, or the train DAG, registers the first"


def _model(version: Any, aliases: list[str], decided: dict[str, dict]) -> dict[str, Any]:
    tags = version.tags
    gate = decided.get(tags.get("gated_version") or str(version.version))
    cells = _primary(gate) if gate else {}
    return {
        "version": str(version.version),
        "role": tags.get("role", ""),
        "aliases": sorted(aliases),
        "as_of": tags.get("as_of", "")[:10],
        "decision": tags.get("decision", ""),
        "decision_id": tags.get("decision_id", "") or (gate or {}).get("decision_id", ""),
        "refit_of": tags.get("refit_of", ""),
        "run_id": version.run_id,
        "metrics": {column: cell["mean"] for column, cell in cells.items()},
        "metric": next((cell["metric"] for cell in cells.values()), ""),
    }


def _primary(record: dict[str, Any]) -> dict[str, dict]:
    """The primary metric's cell against the opponent, by column."""
    body = record["body"]
    name = f"{body['settings']['primary_metric']}@{body['settings']['k']}"
    whole = (cell for cell in body["metrics"] if cell["slice"] == "all" and cell["metric"] == name)
    return {cell["column"]: cell for cell in whole if cell["other"] == body["opponent"]}


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    names = (
        "decision_id",
        "kind",
        "verdict",
        "challenger",
        "champion",
        "as_of",
        "decided_by",
        "decided_at",
        "digest",
    )
    return {name: record[name] for name in names} | {"reasons": record["body"].get("reasons", [])}


def _coloured(verdict: str) -> Text:
    return Text(verdict, style=COLOURS.get(verdict, ""))


def _table(title: str, *columns: str) -> Table:
    """What is copied or compared (WHOLE) is never broken; the other columns share what is left."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.collapse_padding = True
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in WHOLE, min_width=LEAST.get(column))
    return table


def _all(found: list[dict[str, Any]]) -> str:
    table = _table("Decisions, newest first", "id", "kind", "verdict", "version", "champion", "as of", "by")
    for each in found:
        cells = (each["challenger"], each["champion"], (each["as_of"] or "")[:10], _who(each["decided_by"]))
        table.add_row(Text(each["decision_id"]), each["kind"], _coloured(each["verdict"]), *map(Text, cells))
    return rendered(
        table, *_reasons(found), Text("\naisle decisions ID shows every rule and interval of one")
    )


def _who(decided_by: str) -> str:
    """Without the run of a DAG, which is long and stands in the record: 'publish' of 'publish:scheduled__2026-…'."""
    name, _, rest = decided_by.partition(":")
    return name if "__" in rest else decided_by


def _reasons(found: list[dict[str, Any]]) -> list[Any]:
    """The first reason of each decision that names any, below the table: a sentence needs the whole width."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for each in found:
        first, *more = each["body"].get("reasons") or [""]
        if first:
            table.add_row(Text(each["decision_id"]), Text(f"{first} (+{len(more)})" if more else first))
    return [Text("\nWhy", style="bold"), table] if table.row_count else []


def _one(record: dict[str, Any]) -> str:
    body = record["body"]
    facts = _table(f"Decision {record['decision_id']}", "", "")
    for name in (
        "kind",
        "verdict",
        "challenger",
        "champion",
        "as_of",
        "decided_by",
        "decided_at",
        "digest",
        "previous_digest",
    ):
        facts.add_row(name, _coloured(record[name]) if name == "verdict" else Text(str(record[name] or "")))
    known = {"rules", "metrics", "coverage", "settings", "reasons", "data_versions", "champion_data_versions"}
    for name in sorted(set(body) - known):
        facts.add_row(name, Text(str(body[name] if body[name] is not None else "")))
    parts: list[Any] = [facts]
    parts += [Text("\nWhy: " + "\n     ".join(map(str, body["reasons"])))] if body.get("reasons") else []
    parts += [Text(), _rules(body["rules"])] if body.get("rules") else []
    parts += [Text(), _metrics(body)] if body.get("metrics") else []
    parts += [Text(), _versions(body)] if body.get("data_versions") else []
    return rendered(*parts)


def _rules(rules: list[dict[str, Any]]) -> Table:
    table = _table("Rules", "rule", "verdict", "why")
    for each in rules:
        table.add_row(Text(each["rule"]), _coloured(each["verdict"]), Text(each["sentence"]))
    return table


def _metrics(body: dict[str, Any]) -> Table:
    """Every cell: the whole lists against each other version, slices against the opponent."""
    table = _table(
        "Metrics, with intervals",
        "metric",
        "items",
        "slice",
        "users",
        "mean",
        "against",
        "its mean",
        "difference",
    )
    for cell in body["metrics"]:
        if cell["other"] != body.get("opponent") and cell["slice"] != "all":
            continue
        mean = f"{cell['mean']:.4f} [{cell['mean_low']:.4f}, {cell['mean_high']:.4f}]"
        difference = f"{cell['difference']:+.1%} [{cell['low']:+.1%}, {cell['high']:+.1%}]"
        row = (
            cell["metric"],
            cell["column"],
            cell["slice"],
            str(cell["users"]),
            mean,
            cell["other"],
            f"{cell['other_mean']:.4f}",
            difference,
        )
        table.add_row(*map(Text, row))
    return table


def _versions(body: dict[str, Any]) -> Table:
    table = _table("Data", "table", "Delta version", "of the champion")
    champion = body.get("champion_data_versions") or {}
    for name, number in sorted(body["data_versions"].items()):
        table.add_row(name, str(number), str(champion.get(name, "")))
    return table


def _models(rows: list[dict[str, Any]]) -> str:
    metrics = sorted({row["metric"] for row in rows} - {""})
    title = f"Models, newest first; {' and '.join(metrics) or 'no metric yet'} on all items and on those new to the user"
    table = _table(title, "version", "role", "aliases", "as of", "decision", "id", "all", "new")
    for row in rows:
        figures = [
            f"{row['metrics'][column]:.4f}" if column in row["metrics"] else "" for column in ("all", "new")
        ]
        cells = (row["version"], row["role"], ", ".join(row["aliases"]), row["as_of"])
        table.add_row(*map(Text, cells), _coloured(row["decision"]), row["decision_id"], *figures)
    return rendered(table)
