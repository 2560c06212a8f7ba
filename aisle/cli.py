"""The `aisle` command. Every heavy import happens inside the command that needs it."""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from aisle import blas, clock, key_commands, settings, steps
from aisle.errors import SettingsError
from aisle.stages import StepContext

app = typer.Typer(
    name="aisle",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A self-hosted product recommender: no model reaches a shopper without passing a gate.\n\n"
    "Example: aisle recommend --user 12347 -k 5",
)

app.add_typer(key_commands.app)

AsOf = Annotated[str | None, typer.Option("--as-of", help="UTC date or time; data from then on is not seen.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


def _show(found: object) -> None:
    print(json.dumps(found, default=str, ensure_ascii=False), flush=True)


def _object(text: str) -> dict[str, Any]:
    """The parameters of --params. Raises SettingsError for what is no JSON object."""
    example = """write an object, such as '{"rebuild": true}'"""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"--params {text!r} is no JSON ({error}); {example}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"--params {text!r} is JSON, but no object; {example}")
    return found


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="events, items or users")],
    file: Annotated[Path, typer.Argument(help="CSV, JSON lines or Parquet")],
    mapping: Annotated[Path | None, typer.Option(help="TOML: foreign column names and rules.")] = None,
    since: Annotated[str | None, typer.Option(help="Only rows from this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only rows before this time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a file into landing, with a report of what was refused and why.

    Example: aisle import events data/online_retail.parquet --mapping conf/mappings/online_retail_events.toml
    """
    from jobs.landing import import_file

    report = import_file(
        settings.load(),
        kind,
        file,
        mapping=mapping,
        since=clock.parse(since) if since else None,
        until=clock.parse(until) if until else None,
    )
    _show(report.as_dict()) if as_json else print(report.as_text())


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="STAGE or STAGE.STEP, such as ingest or train.gate")],
    as_of: AsOf = None,
    run_id: Annotated[str, typer.Option(help="Names the folder that the steps of a run share.")] = "manual",
    params: Annotated[str, typer.Option(help="JSON object of the step's parameters.")] = "{}",
) -> None:
    """Run a stage or a step by hand: the same code that the DAG runs. The last line of output is its result in JSON.

    Example: aisle run features.gold --as-of 2011-11-12
    """
    context = StepContext(clock.parse(as_of) if as_of else None, run_id, _object(params))
    _show(steps.run(name, settings.load(), context))


@app.command()
def recommend(
    user: Annotated[str | None, typer.Option(help="A user's id; unknown ids get what is popular.")] = None,
    item: Annotated[str | None, typer.Option(help="An item's id: what is similar.")] = None,
    session: Annotated[
        str | None,
        typer.Option(
            help="A session's id: goes by its events in silver. What came since the last ingest the API alone knows."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    explain: Annotated[bool, typer.Option(help="Show each source's part.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recommendations of the released model, from the same code that the API runs.

    Example: aisle recommend --user 12347 -k 5 --explain
    """
    from serving.console import recommend as answer

    print(
        answer(settings.load(), user=user, item=item, session=session, k=k, explain=explain, as_json=as_json)
    )


@app.command()
def evaluate(
    as_json: AsJson = False,
    as_of: AsOf = None,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers", help="Beside tuned peers as well, with seconds, memory and time of a list: an hour."
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Of tuning, the same for each of the --peers; 5 by default."),
    ] = None,
) -> None:
    """The quality table, baselines included, for whatever has been imported.

    Example: aisle evaluate --json

    Example: aisle evaluate --peers --minutes 1
    """
    from training import quality

    moment = clock.parse(as_of) if as_of else None
    if peers:
        raise typer.Exit(quality.against_peers(settings.load(), minutes or 5.0, moment, as_json))
    if minutes is not None:
        raise SettingsError("--minutes are those of the peers' tuning: `aisle evaluate --peers --minutes 1`")
    print(quality.table(settings.load(), as_of=moment, as_json=as_json))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A model version.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another model version.")],
    user: Annotated[
        list[str] | None,
        typer.Option(help="Whose lists to show; repeatable. None: a few light and heavy users."),
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="Length of a list; serving.k by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Two versions' lists side by side, with reasons, and how far they agree over a sample of users.

    Example: aisle compare 1 2 --user 12347 --user 12583 -k 5
    """
    from serving.compare import compare as show

    print(show(settings.load(), first, second, user or (), k=k, as_json=as_json))


@app.command()
def models(as_json: AsJson = False) -> None:
    """Model versions with their aliases, decisions and metrics.

    Example: aisle models
    """
    from monitoring.console import models as show

    print(show(settings.load(), as_json=as_json))


@app.command()
def decisions(
    decision: Annotated[str | None, typer.Argument(help="A decision's id.")] = None, as_json: AsJson = False
) -> None:
    """Why a model was or was not promoted: all decisions, or one with every rule and interval.

    Example: aisle decisions
    """
    from monitoring.console import decisions as show

    print(show(settings.load(), decision, as_json=as_json))


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A model version.")],
    override: Annotated[
        str | None, typer.Option(help="Promote against the gate's verdict, for this recorded REASON.")
    ] = None,
) -> None:
    """Release a version that the gate passed; --override REASON releases one it did not, and is recorded.

    Example: aisle promote 4
    """
    from serving.promote import promote as act

    print(act(settings.load(), version, override=override))


@app.command()
def rollback() -> None:
    """Serve the release before this one again. Works without Airflow.

    Example: aisle rollback
    """
    from serving.promote import rollback as act

    print(act(settings.load()))


@app.command()
def beside(
    version: Annotated[
        str | None, typer.Argument(help="A model version; none: show what stands beside.")
    ] = None,
    share: Annotated[float | None, typer.Option(help="Of the shoppers, above 0 and below 1.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Take the second release away.")] = False,
    override: Annotated[
        str | None, typer.Option(help="Put beside against the gate's verdict, for this recorded REASON.")
    ] = None,
) -> None:
    """A second release beside the served one, for a share of the shoppers; each always gets the same one.

    Example: aisle beside 4 --share 0.1
    """
    from serving import beside as act

    found, example = settings.load(), "`aisle beside 4 --share 0.1`, or `aisle beside --off`"
    if off and (version or share is not None or override):
        raise SettingsError(f"--off takes the second release away and goes with nothing else: {example}")
    if version is None and (share is not None or override):
        raise SettingsError(f"--share and --override are of a version, and none is named: {example}")
    if version is not None and share is None:
        raise SettingsError(f"which share of the shoppers is version {version} to answer? {example}")
    if off:
        print(act.off(found))
    else:
        print(act.put(found, version, share, override) if version and share is not None else act.show())


@app.command()
def status(as_json: AsJson = False) -> None:
    """Services, the sum of every imported row, the release and the last decision.

    Example: aisle status
    """
    from aisle.status import show

    print(show(settings.load(), as_json=as_json))


@app.command()
def doctor() -> None:
    """Check what must be there: Python, Java, the environment, Delta jars, ports, disk.

    Example: aisle doctor
    """
    from aisle.doctor import check

    text, healthy = check(settings.load())
    print(text)
    raise typer.Exit(0 if healthy else 1)


@app.command()
def up() -> None:
    """Start Airflow, Spark, MLflow, the feature catalogue and the API in the background; harmless when they run.

    Example: aisle up
    """
    from aisle.services import up as act

    print(act(settings.load()))


@app.command()
def down() -> None:
    """Stop exactly what `aisle up` started.

    Example: aisle down
    """
    from aisle.services import down as act

    print(act(settings.load()))


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option(help="Forget the state of an earlier demo first.")] = False,
    turns: Annotated[
        int, typer.Option(help="1: to the first champion; 2: and once more round the loop.")
    ] = 2,
    data: Annotated[
        Path | None, typer.Option(help="Invoices like data/online_retail.parquet, or a part of them.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="The day from which on invoices come in the second turn; for data of other years."),
    ] = "2011-11-12",
) -> None:
    """A year of a real shop's invoices through the whole loop, in a running Airflow.

    Example: aisle demo
    """
    from aisle.demo import main as act

    act(settings.load(), fresh=fresh, turns=turns, data=data, split=split)


@app.command()
def serve() -> None:
    """The API in the foreground, for `aisle up` and for containers.

    Example: aisle serve
    """
    blas.one_thread()
    from serving.server import main as act

    act(settings.load())


def main() -> None:
    """Entry point: a user's mistake ends in one line on stderr and a non-zero code, never in a traceback."""
    code = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it left off", file=sys.stderr)
        code = 130
    except Exception as error:
        known = steps.friendly(error)
        if known is None:
            raise
        print(f"aisle: {known}", file=sys.stderr)
        code = known.exit_code
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends the process without the static destructors of native libraries.

    Arrow's reader threads now and then abort there ("terminate called without an active exception") after
    the work was done, which would turn a finished step into a failed one.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
