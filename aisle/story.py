"""What came of a demo: runs, decisions, the champion beside the baselines, one customer beside their recommendations."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from aisle import airflow_home, api_keys, decisions, lake
from aisle.errors import NotThere, ServiceFailed
from aisle.settings import Settings

LINES = 10
PATIENCE_SECONDS = 30
TOLD = ("primary_metric", "new_to_user")  # rules that are shown even when they passed


def tell(settings: Settings, account: dict[str, Any], console: Console) -> None:
    """Prints the whole story, from the records and the running API."""
    console.print(_runs(account))
    for each in reversed(decisions.everything("gate")):
        _decision(each, console)
    passed = [each for each in decisions.everything("gate") if each["verdict"] == "passed"]
    if passed:
        console.print(_metrics(passed[0]["body"], passed[0]["challenger"]))
    if (lake.home() / "releases" / "current.json").exists():
        console.print(_customer(settings))
    console.print(_addresses(settings))


def _table(title: str, *columns: str) -> Table:
    found = Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for column in columns:
        found.add_column(
            column, overflow="fold", justify="right" if column in ("seconds", "turn") else "left"
        )
    return found


def _runs(account: dict[str, Any]) -> Table:
    found = _table("DAG runs", "turn", "dag", "state", "seconds")
    for run in account.get("dag_runs", []):
        found.add_row(str(run["turn"]), run["dag"], run["state"], f"{run['seconds']:.1f}")
    return found


def _decision(record: dict[str, Any], console: Console) -> None:
    against = record["body"].get("opponent") or "nothing"
    colour = "green" if record["verdict"] == "passed" else "red"
    console.print(
        f"\n[bold]Gate[/bold] version {record['challenger']} against {against}: [{colour}]{record['verdict']}[/] "
        f"(`aisle decisions {record['decision_id']}`)"
    )
    rules = record["body"]["rules"]
    counts = Counter(rule["verdict"] for rule in rules)
    console.print(f"  {', '.join(f'{number} rules {verdict}' for verdict, number in counts.items())}")
    for rule in rules:
        if rule["verdict"] not in ("passed", "shown") or rule["rule"] in TOLD:
            console.print(
                f"  {rule['verdict']}: {rule['sentence']}", markup=False, highlight=False, emoji=False
            )


def _metrics(body: dict[str, Any], version: str) -> Table:
    """Means over held-out users of the judged version and of everything it was compared with, over both columns."""
    cells = [cell for cell in body["metrics"] if cell["slice"] == "all"]
    names = list(dict.fromkeys((cell["metric"], cell["column"]) for cell in cells))
    own = f"version {version}"
    means: dict[str, dict[tuple[str, str], str]] = {own: {}, "  its interval": {}}
    for cell in cells:
        key = cell["metric"], cell["column"]
        means[own][key] = f"{cell['mean']:.4f}"
        means["  its interval"][key] = f"{cell['mean_low']:.3f}-{cell['mean_high']:.3f}"
        means.setdefault(cell["other"], {})[key] = f"{cell['other_mean']:.4f}"
    heads = [f"{metric} {'all' if column == 'all' else 'new'}" for metric, column in names]
    found = _table(
        "The champion beside the baselines, on days that none of them has seen (all items | new to the user)",
        "",
        *heads,
    )
    for who, row in means.items():
        found.add_row(who, *[row.get(name, "") for name in names])
    return found


def customer() -> str:
    """A customer with a readable history: 5 to 15 orders of 20 to 60 items by the newest as_of, the most orders first."""
    stats = lake.read_frame("gold.user_stats", columns=["user_id", "as_of", "n_orders", "n_items"])
    stats = stats[stats["as_of"] == stats["as_of"].max()]
    readable = stats[stats["n_orders"].between(5, 15) & stats["n_items"].between(20, 60)]
    chosen = (readable if len(readable) else stats).sort_values(
        ["n_orders", "user_id"], ascending=[False, True]
    )
    if chosen.empty:
        raise NotThere("no customer in gold.user_stats yet: run the demo's DAGs first")
    return str(chosen["user_id"].iloc[0])


def _customer(settings: Settings) -> Table:
    """What they bought, newest first, beside what the running API recommends and why."""
    user = customer()
    url, key = f"http://{settings.serving.host}:{settings.ports.api}", api_keys.headers()
    with httpx.Client(base_url=url, headers=key, timeout=30) as api:
        events = _asked(api, f"/v1/users/{user}/history")["events"]
        answer = _asked(api, "/v1/recommendations", user_id=user, k=LINES)
    bought = dict.fromkeys(
        each["title"] or each["item_id"] for each in events if each["event_type"] == "purchase"
    )
    heading = f"Customer {user}, model version {answer['model_version']} ({answer['rung']})"
    found = _table(heading, "bought, newest first", "recommended", "because")
    titles = [*list(bought)[:LINES], *[""] * LINES]
    for title, item in zip(titles, answer["items"], strict=False):
        found.add_row(title, item["title"], item["reason"]["text"])
    return found


def _asked(api: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    """An answer of the API, which may still be opening the online store. Raises ServiceFailed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = api.get(path, params=query)
        except httpx.HTTPError as error:
            raise ServiceFailed(
                f"the API does not answer at {api.base_url} ({error}): `aisle up` starts it"
            ) from None
        if answer.is_success:
            return answer.json()
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
            raise ServiceFailed(f"the API answered {path} with {answer.status_code}: {answer.text[:300]}")
        time.sleep(1)


def _addresses(settings: Settings) -> Table:
    ports, host = settings.ports, settings.serving.host
    reports = f"http://{host}:{ports.api}/reports"
    drift = sorted((lake.home() / "reports" / "drift").glob("*.html"), key=lambda page: page.stat().st_mtime)
    found = _table("Open", "what", "where")
    found.add_row(
        "Airflow", f"{airflow_home.url(settings)}  login {airflow_home.USER} / {airflow_home.password()}"
    )
    found.add_row("MLflow", f"http://127.0.0.1:{ports.mlflow}")
    found.add_row("Feast", f"http://127.0.0.1:{ports.feast}")
    found.add_row("Reports", f"{reports}/index.html")
    found.add_row("Data docs", f"{reports}/data_docs/index.html")
    found.add_row("Drift report", f"{reports}/drift/{drift[-1].name}" if drift else "none yet")
    found.add_row("API", f"http://{host}:{ports.api}/docs  keys in {api_keys.first()}")
    found.add_row("Stop", "make down")
    return found
