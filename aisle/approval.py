"""A person's word before a release: Airflow's human-in-the-loop approval, with the gate's comparison in its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator

from aisle import clock, decisions, settings, status
from aisle.airflow import StepLink, failed, trigger_of
from aisle.errors import USERS, AisleError, GateBlocked, NotThere
from aisle.links import addresses

if TYPE_CHECKING:
    from aisle.registry import Registry

ASK, SKIP = "ask", "skip"  # values of the Param `approval`; empty: as gate.approval says
ORDER = ("failed", "blocked", "shown", "passed")  # of rules in the request: first what may speak against
COLUMNS = {"all": "all items", "new": "new to the user"}


class GateApproval(ApprovalOperator):
    """Waits for Approve or Reject in Airflow's UI, when the Param `approval` (else gate.approval) says so.

    Either way it settles which version the run is about: the Param, else the asset event's, else as `Registry.to_release`
    says; the tasks after it take that one. Either answer is recorded in `ops.decisions`; Reject skips everything
    downstream, and no answer in time fails the task, so that nothing is ever released by silence.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(
            subject="Release this model?",
            body="",
            ignore_downstream_trigger_rules=True,
            execution_timeout=None,
            **kwargs,
        )
        self.operator_extra_links = [StepLink("Decision")]
        self.addresses: dict[str, str] = {}

    def execute(self, context: Any) -> Any:
        try:
            return self.ask(context)
        except AisleError as error:
            raise failed(self, str(error), again=error.exit_code != USERS) from None

    def ask(self, context: Any) -> Any:
        """{"asked": False, "version"}, or the request, after which the task waits."""
        version, decision_id = candidate(context)
        self.show(decision_id)
        if not wanted(context):
            self.log.info("nobody is asked before the release of version %s", version)
            return {"asked": False, "version": version}
        if not decision_id:
            raise NotThere(
                f"the gate has not judged version {version}: run `aisle run train.gate` or name another version"
            )
        decision = decisions.read(decision_id)
        if decision["verdict"] != "passed":
            raise GateBlocked(
                f"version {version} was {decision['verdict']} by the gate (decision {decision_id}); "
                f"`aisle promote {version} --override REASON` releases it all the same"
            )
        self.subject = f"Release version {version} of the recommender?"
        self.body = body(version, served(), decision)
        # Kept for the answer, which may come days later: what was shown is what is released.
        context["ti"].xcom_push(key="candidate", value=[version, decision_id])
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        version, decision_id = context["ti"].xcom_pull(task_ids=self.task_id, key="candidate")
        self.show(decision_id)
        try:
            if "error" not in event:
                self.record(context, event, version, decision_id)
            super().execute_complete(context, event)
        except HITLTimeoutError:
            waited = f"nobody answered in {self.response_timeout}, so version {version} is not released"
            raise failed(self, waited, again=False) from None
        except AisleError as error:
            raise failed(self, str(error), again=error.exit_code != USERS) from None
        return {"asked": True, "version": version}

    def show(self, decision_id: str) -> None:
        self.addresses = addresses(settings.load(), {"decision_id": decision_id})

    def record(self, context: Any, event: dict[str, Any], version: str, gate_decision: str) -> None:
        """Who answered what, about which version, in place of which champion."""
        who = (event.get("responded_by_user") or {}).get("name") or "unknown"
        said = "approved" if event["chosen_options"] == [self.APPROVE] else "rejected"
        as_of = decisions.read(gate_decision)["as_of"]
        decision_id = decisions.record(
            settings.load(),
            "approval",
            said,
            version,
            served(),
            clock.parse(as_of) if as_of else None,
            f"airflow:{who}",
            {"run_id": context["run_id"], "gate_decision": gate_decision},
        )
        self.log.info("version %s %s by %s, decision %s", version, said, who, decision_id)


def wanted(context: Mapping[str, Any]) -> bool:
    told = context["params"].get("approval")
    return settings.load().gate.approval if told is None else told == ASK


def candidate(context: Mapping[str, Any]) -> tuple[str, str]:
    """The version that the run is about, and the gate's decision on it ('' where there is none).

    Raises NotThere, GateBlocked.
    """
    asked, event = context["params"].get("version"), trigger_of(context)
    if not asked and event.get("version") and event.get("decision_id"):
        return str(event["version"]), str(event["decision_id"])
    from aisle.registry import Registry  # MLflow, only where the event does not say it all

    registry = Registry(settings.load())
    version = registry.to_release(asked or event.get("version"))
    return version, judged(registry, version)


def judged(registry: Registry, version: str) -> str:
    """The decision about a version, or about the gated version that it is a refit of; '' where there is none.

    Raises GateBlocked for a barred one: nobody need be asked about what will not be staged.
    """
    tags = registry.version(version).tags
    if tags.get("barred"):
        raise GateBlocked(
            f"version {version} is barred ({tags['barred']}); "
            f"`aisle promote {version} --override REASON` releases it all the same"
        )
    if not tags.get("decision_id") and tags.get("refit_of"):
        tags = registry.version(tags["refit_of"]).tags
    return tags.get("decision_id", "")


def served() -> str:
    """The version that shoppers are served now; '' before the first release."""
    return str((status.release() or {}).get("version", ""))


def body(version: str, now: str, decision: Mapping[str, Any]) -> str:
    """The request in Markdown: what is asked, the comparison with the opponent over all users, then the gate's rules."""
    told, gated = decision["body"], decision["challenger"]
    what = f"is the refit of {gated}, which the gate judged" if version != gated else "was judged by the gate"
    served_now = f"version {now}" if now else "none"
    day = f", on data up to {decision['as_of'][:10]}" if decision.get("as_of") else ""
    verdict = f"The gate's decision `{decision['decision_id']}`: **{decision['verdict']}**{day}."
    opponent = told.get("opponent", "")
    rows = [row(cell) for cell in told["metrics"] if (cell["other"], cell["slice"]) == (opponent, "all")]
    head = f"| metric | version {gated} | {opponent.replace(':', ' ').replace('_', ' ')} | difference |"
    table = "\n".join([head, "|---|---|---|---|", *rows]) if rows else ""
    ordered = sorted(told["rules"], key=lambda rule: ORDER.index(rule["verdict"]))
    rules = "\n".join(f"- **{rule['rule']}** {rule['verdict']}: {rule['sentence']}" for rule in ordered)
    asked = f"Version {version} {what}; served now: {served_now}. {verdict}"
    return "\n\n".join(filter(None, [asked, table, rules])) + "\n"


def row(cell: Mapping[str, Any]) -> str:
    """
    >>> row({"other": "popularity", "column": "all", "metric": "ndcg@10", "mean": 0.2, "other_mean": 0.1,
    ...      "difference": 1.0, "low": 0.9, "high": 1.1})
    '| ndcg@10, all items | 0.2000 | 0.1000 | +100.0 % (+90.0 to +110.0) |'
    """
    shares = [_percent(cell[name]) for name in ("difference", "low", "high")]
    means = [_number(cell[name]) for name in ("mean", "other_mean")]
    name = f"{cell['metric']}, {COLUMNS.get(cell['column'], cell['column'])}"
    return f"| {name} | {means[0]} | {means[1]} | {shares[0]} % ({shares[1]} to {shares[2]}) |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f}"
