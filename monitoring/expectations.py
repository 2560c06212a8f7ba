"""ingest.check: Great Expectations judges each received batch as a whole. Row rules have judged its rows; neither repeats the other.

A batch that breaks its schema, or with more faulty rows than `ingest.max_fault_rate`, is refused whole: nothing of it
reaches silver, its rows stay in bronze and quarantine. The good ones beside it go on: `ingest.silver` merges them and then fails
the run for the others.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from aisle import lake, ledger
from aisle.columns import BATCH_ID, SET_ASIDE
from aisle.settings import Settings
from aisle.stages import StepContext
from aisle.tables import TABLES
from monitoring import reports

if TYPE_CHECKING:
    from great_expectations.data_context import EphemeralDataContext

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


def run(settings: Settings, context: StepContext) -> dict[str, Any]:
    """Checks what `ingest.bronze` received. Returns how many passed, and of each refused batch why."""
    replayed = (context.params.get("upstream") or {}).get("ingest.bronze", {}).get("replayed")
    pending = ledger.with_status(ledger.BRONZE)
    if not pending:
        return (
            {"checked": 0} if replayed or ledger.with_status(ledger.CHECKED) else {"skip": "nothing to check"}
        )
    verdicts = {row[BATCH_ID]: faults(settings, row) for row in pending}
    broken = expectations(settings, pending)
    for batch, said in broken.items():
        verdicts[batch] += said
    with ledger.writing():  # read again: what another run has judged or merged since is not taken back
        judged = [row for row in ledger.with_status(ledger.BRONZE) if row[BATCH_ID] in verdicts]
        bad = [row for row in judged if verdicts[row[BATCH_ID]]]
        ledger.record(
            [{**row, "status": ledger.REJECTED if row in bad else ledger.CHECKED} for row in judged],
            context.run_id,
        )
    refused = [refusal(row, verdicts[row[BATCH_ID]]) for row in bad]
    for words in refused:
        print(f"[ingest.check] {words}", file=sys.stderr, flush=True)
    return {"checked": len(judged) - len(bad), "refused": refused}


def faults(settings: Settings, row: dict[str, Any]) -> list[str]:
    """Why the ledger's counts refuse a batch; empty where they do not."""
    judged = row["rows_in"] - row["set_aside"]
    rate = row["quarantined"] / judged if judged else 0.0
    if rate <= settings.ingest.max_fault_rate:
        return []
    top = sorted(row["reasons"].get("quarantined", {}).items(), key=lambda each: -each[1])[:3]
    reasons = ", ".join(f"{reason} ({n:,})" for reason, n in top)
    return [f"{rate:.1%} of its rows are faulty, {settings.ingest.max_fault_rate:.1%} are allowed: {reasons}"]


def refusal(row: dict[str, Any], said: list[str]) -> str:
    file = ledger.manifest(row["kind"], row[BATCH_ID]).get("file", "a stream")
    return (
        f"batch {row[BATCH_ID]} ({row['kind']} of {file}) was refused, nothing of it is in silver: {' and '.join(said)}. "
        "Mend the file or its mapping and import it again, or raise ingest.max_fault_rate"
    )


def expectations(settings: Settings, pending: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Batch -> the expectations of its kind that it does not meet. Writes the data docs beside."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from aisle.spark import session

    context, spark = gx.get_context(mode="ephemeral"), session(settings)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    docs(context)
    found: dict[str, list[str]] = {}
    for row in pending:
        if row["set_aside"] == row["rows_in"]:  # the mapping wants none of it: there is nothing to expect
            continue
        frame = (
            spark.read.format("delta")
            .load(lake.table_path(f"bronze.{row['kind']}"))
            .where(f"{BATCH_ID} = '{row[BATCH_ID]}'")
        )
        result = definition(context, row["kind"]).run(
            batch_parameters={"dataframe": frame.where(f"{SET_ASIDE} IS NULL")}
        )
        found[row[BATCH_ID]] = [
            f"{each.expectation_config.type} failed {dict(each.expectation_config.kwargs, batch_id=None).get('column', '')}".strip()
            for each in result.results
            if not each.success
        ]
    context.build_data_docs()
    reports.refresh(settings)  # the index links to them
    return found


def definition(context: EphemeralDataContext, kind: str):
    """The validation of one kind's batches, made once a run: the whole batch only, since row rules have counted its faults."""
    import great_expectations as gx

    made = {each.name: each for each in context.validation_definitions.all()}
    if kind in made:
        return made[kind]
    columns = list(TABLES[f"bronze.{kind}"].columns)
    suite = context.suites.add(gx.ExpectationSuite(name=kind))
    suite.add_expectation(gx.expectations.ExpectTableColumnsToMatchSet(column_set=columns, exact_match=True))
    suite.add_expectation(gx.expectations.ExpectTableRowCountToBeBetween(min_value=1))
    source = context.data_sources.add_spark(name=kind)
    asset = source.add_dataframe_asset(name=kind)
    batch = asset.add_batch_definition_whole_dataframe(kind)
    return context.validation_definitions.add(gx.ValidationDefinition(name=kind, data=batch, suite=suite))


def docs(context: EphemeralDataContext) -> None:
    """The data docs' site under reports/, where the API shows it."""
    folder = lake.home() / "reports" / "data_docs"
    folder.mkdir(parents=True, exist_ok=True)
    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }
    context.add_data_docs_site(site_name="aisle", site_config=site)
