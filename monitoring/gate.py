"""The gate (step `train.gate`): challenger against champion, or against the best baseline where there is no
champion.

Reads `ops.evaluations` of one evaluation and nothing else of the data; writes a decision record to
`ops.decisions`, and `decision.json` and `comparison.md` to the MLflow run. A refusal is a successful step:
its result says so, and the DAG does not refit. The same evaluation, champion and settings give the same
decision, written once.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from aisle import clock, decisions, lake
from aisle.errors import GateBlocked, NotThere
from aisle.settings import Settings
from aisle.stages import StepContext
from monitoring import comparison, rules
from monitoring.comparison import Comparison
from monitoring.markdown import comparison_markdown
from monitoring.rules import BLOCKED, FAILED, PASSED, Verdict

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from aisle.registry import Registry


@dataclass(frozen=True)
class Judgement:
    """Verdict, every rule's verdict and the comparison they rest on."""

    verdict: str
    verdicts: list[Verdict]
    found: Comparison

    @property
    def reasons(self) -> list[str]:
        """'rule: sentence' of the rules that refused or blocked."""
        return [
            f"{each.rule}: {each.sentence}" for each in self.verdicts if each.verdict in (FAILED, BLOCKED)
        ]


@dataclass(frozen=True)
class Ages:
    """The ends of the data that challenger and champion in force were made of; None where there is no champion."""

    challenger: datetime | None = None
    champion: datetime | None = None


def judge(
    frame: pd.DataFrame,
    challenger: str,
    settings: Settings,
    champions: frozenset[str] = frozenset(),
    ages: Ages = Ages(),
) -> Judgement:
    """Judges version `challenger` on `frame` (columns of ops.evaluations, window test).

    champions: version numbers that count as the champion in force (a released refit and the gated
    version it came from); empty where there is none.
    """
    found = comparison.compare(frame, challenger, settings.gate, settings.training.seed)
    verdicts = [
        _right_opponent(found, champions),
        _not_older(challenger, ages),
        *rules.judge(found, settings.gate),
    ]
    return Judgement(rules.overall(verdicts), verdicts, found)


def _right_opponent(found: Comparison, champions: frozenset[str]) -> Verdict:
    """The champion that was evaluated is the one in force now; another may have been promoted since."""
    against = (
        found.opponent.removeprefix(comparison.CHAMPION)
        if found.opponent.startswith(comparison.CHAMPION)
        else ""
    )
    now = " / ".join(sorted(champions)) or "none"
    if against in champions or (not against and not champions):
        return Verdict(
            "right_opponent", PASSED, f"champion in force: {now}; compared with {found.opponent or 'nothing'}"
        )
    sentence = f"champion in force: {now}, evaluated against {against or 'none'}; run train.evaluate again"
    return Verdict("right_opponent", BLOCKED, sentence, {"in_force": sorted(champions), "evaluated": against})


def _not_older(challenger: str, ages: Ages) -> Verdict:
    """A model of a past day may be judged, but it does not by itself replace one that has seen more."""
    if ages.champion is None:
        return Verdict("not_older", PASSED, "no champion whose data could be newer")
    if ages.challenger is None:
        return Verdict("not_older", BLOCKED, f"version {challenger} has no tag as_of; train it again")
    days = (
        f"trained on the data up to {ages.challenger:%Y-%m-%d}, the champion up to {ages.champion:%Y-%m-%d}"
    )
    figures = {"challenger": ages.challenger.isoformat(), "champion": ages.champion.isoformat()}
    if ages.challenger >= ages.champion:
        return Verdict("not_older", PASSED, days, figures)
    way_out = f"`aisle promote {challenger} --override REASON` releases it all the same"
    return Verdict(
        "not_older", FAILED, f"{days}: an older model replaces no newer one by itself; {way_out}", figures
    )


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Judges the version of this train run (its `mlflow.json`), or the one that the parameter `version`
    names.

    Raises GateBlocked where a rule could not be judged, once that is on record: something is missing,
    and a person should look. A refusal is returned.
    """
    from aisle.registry import CHAMPION, Registry

    registry = Registry(settings)
    version = registry.version(_version(context))
    if version.tags.get("role") == "refit":
        gated = version.tags.get("gated_version")
        raise NotThere(f"version {version.version} is the refit of {gated}: the gate judges version {gated}")
    champion = registry.by_alias(CHAMPION)
    ages = Ages(_as_of(version, context), _as_of(champion, StepContext()) if champion else None)
    judged = judge(comparison.load(version.run_id), str(version.version), settings, _in_force(champion), ages)
    markdown = comparison_markdown(judged.found, judged.verdicts, judged.verdict)
    decision_id = _record(settings, context, registry, version, champion, judged, markdown)
    said = f"version {version.version} {judged.verdict} by the gate (decision {decision_id})"
    if judged.verdict == "blocked":
        raise GateBlocked(f"{said}: {'; '.join(judged.reasons)}")
    print(said, *judged.reasons, sep="\n  ", file=sys.stderr)
    return {
        "verdict": judged.verdict,
        "decision_id": decision_id,
        "version": str(version.version),
        **registry.run_of(version),
        "markdown": markdown,
        "reasons": judged.reasons,
    }


def _record(
    settings: Settings,
    context: StepContext,
    registry: Registry,
    version: ModelVersion,
    champion: ModelVersion | None,
    judged: Judgement,
    markdown: str,
) -> str:
    """The record, then its copies: artifacts of the run, tags of version and run. Safe to repeat."""
    number = str(version.version)
    named = str(champion.version) if champion else ""
    body = _body(settings, version, champion, judged)
    decision_id = decisions.record(
        settings, "gate", judged.verdict, number, named, _as_of(version, context), "gate", body
    )
    whole = decisions.canonical(decisions.read(decision_id))
    registry.client.log_text(version.run_id, whole, "decision.json")
    registry.client.log_text(version.run_id, markdown, "comparison.md")
    registry.tag(number, decision=judged.verdict, decision_id=decision_id)
    registry.client.set_tag(version.run_id, "decision", judged.verdict)
    return decision_id


def _version(context: StepContext) -> str:
    if "version" in context.params:
        return str(context.params["version"])
    note = lake.workdir("train", context.run_id) / "mlflow.json"
    if not note.exists():
        raise NotThere(f"{note} is missing: run train.fit and train.evaluate of run {context.run_id!r} first")
    return str(json.loads(note.read_text())["version"])


def _in_force(champion: ModelVersion | None) -> frozenset[str]:
    """A champion's own number and that of the gated version it was refitted from."""
    if champion is None:
        return frozenset()
    linked = (champion.tags.get(name) for name in ("gated_version", "refit_of"))
    return frozenset({str(champion.version), *filter(None, linked)})


def _as_of(version: ModelVersion, context: StepContext) -> datetime | None:
    told = version.tags.get("as_of")
    return clock.parse(told) if told else context.as_of


def _body(
    settings: Settings, version: ModelVersion, champion: ModelVersion | None, judged: Judgement
) -> dict[str, Any]:
    """Everything that the decision rests on; nothing of it depends on when it was taken."""
    found = judged.found
    return {
        "evaluation_id": version.run_id,
        "mlflow_run": version.run_id,
        "window": comparison.WINDOW,
        "opponent": found.opponent,
        "users": found.users,
        "data_versions": json.loads(version.tags.get("delta_versions") or "{}"),
        "champion_data_versions": json.loads(
            (champion.tags if champion else {}).get("delta_versions") or "{}"
        ),
        "commit": version.tags.get("commit"),
        "cut": version.tags.get("cut"),
        "rules": [each.as_dict() for each in judged.verdicts],
        "metrics": found.rows(),
        "coverage": found.coverage,
        "reasons": judged.reasons,
        "settings": settings.gate.model_dump() | {"seed": settings.training.seed},
    }
