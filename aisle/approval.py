"""A person's word before a release: Airflow's human-in-the-loop approval, with the gate's comparison in its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from aisle import clock, decisions, settings
from aisle.airflow import resolve_as_of, trigger_of
from aisle.errors import NotThere

_HEAD = "| metric | column | challenger | other | other's | difference | interval |\n|---|---|---|---|---|---|---|"


class GateApproval(ApprovalOperator):
    """Waits for Approve or Reject in Airflow's UI, when the Param `approval` (else gate.approval) is true.

    Either answer is recorded in `ops.decisions`; Reject skips everything downstream, and no answer in time fails the task,
    so that nothing is ever released by silence.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(
            subject="Release this model?",
            body="",
            ignore_downstream_trigger_rules=True,
            execution_timeout=None,
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        wanted = context["params"].get("approval")
        if not (settings.load().gate.approval if wanted is None else wanted):
            self.log.info("nobody is asked: gate.approval is off")
            return {"asked": False}
        self.subject = f"Release version {_version(context)} of the recommender?"
        self.body = body(_decision(context))
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        if "error" not in event:
            self.record(context, event)
        return super().execute_complete(context, event)

    def record(self, context: Any, event: dict[str, Any]) -> None:
        who = (event.get("responded_by_user") or {}).get("name") or "unknown"
        approved = event["chosen_options"] == [self.APPROVE]
        gate = _decision(context)
        as_of = resolve_as_of(context, {})
        decision_id = decisions.record(
            settings.load(),
            "approval",
            "approved" if approved else "rejected",
            _version(context),
            gate["champion"],
            clock.parse(as_of) if as_of else None,
            f"airflow:{who}",
            {"run_id": context["run_id"], "gate_decision": gate["decision_id"]},
        )
        self.log.info("%s by %s, decision %s", "approved" if approved else "rejected", who, decision_id)


def _version(context: Mapping[str, Any]) -> str:
    return str(context["params"].get("version") or trigger_of(context).get("version") or "")


def _decision(context: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's record: the one that the asset event names, else the one in the version's tags. Raises NotThere."""
    return decisions.read(trigger_of(context).get("decision_id") or _tagged(_version(context)))


def _tagged(version: str) -> str:
    """The decision about a version, or about the gated version that it is a refit of. Imports MLflow."""
    from aisle.registry import Registry

    registry = Registry(settings.load())
    tags = registry.version(version).tags
    if not tags.get("decision_id") and tags.get("refit_of"):
        tags = registry.version(tags["refit_of"]).tags
    if not tags.get("decision_id"):
        raise NotThere(
            f"the gate has not judged version {version}: run `aisle run train.gate` or name another version"
        )
    return tags["decision_id"]


def body(decision: Mapping[str, Any]) -> str:
    """The gate's rules and its comparison table over all users, in Markdown."""
    told = decision["body"]
    rules = "\n".join(f"- **{rule['rule']}** {rule['verdict']}: {rule['sentence']}" for rule in told["rules"])
    rows = "\n".join(_row(cell) for cell in told["metrics"] if cell["slice"] == "all")
    head = f"Decision `{decision['decision_id']}` of the gate: **{decision['verdict']}**"
    return f"{head}\n\n{rules}\n\n{_HEAD}\n{rows}\n"


def _row(cell: Mapping[str, Any]) -> str:
    """
    >>> _row({"other": "popularity", "column": "all", "metric": "ndcg@10", "mean": 0.2, "other_mean": 0.1,
    ...       "difference": 1.0, "low": 0.9, "high": 1.1})
    '| ndcg@10 | all | 0.2000 | popularity | 0.1000 | +100.0 % | +90.0 % to +110.0 % |'
    """
    shares = [_percent(cell[name]) for name in ("difference", "low", "high")]
    means = [_number(cell[name]) for name in ("mean", "other_mean")]
    columns = (
        cell["metric"],
        cell["column"],
        means[0],
        cell["other"],
        means[1],
        shares[0],
        f"{shares[1]} to {shares[2]}",
    )
    return f"| {' | '.join(columns)} |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f} %"
