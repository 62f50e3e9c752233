"""`prunebench run`: what is not yet recorded of a suite, and then its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.forecast import forecast
from bench.cli.lines import name_lost, summary
from bench.cli.options import Data, MaxRetries, Only, Out, Resource, Seeds, Set, SuiteName, Uri, store_address
from bench.errors import RequestError
from bench.interface.devices import DEVICES
from bench.runs.agenda import Agenda, make_agenda
from bench.runs.changed import searches_of, warnings_of, with_dependents
from bench.runs.display import Busy
from bench.runs.executors.executor import EXECUTORS, make_executor
from bench.runs.folders import report_folder
from bench.runs.invocation import carry_out
from bench.runs.job import Outcome, Settings
from bench.runs.limit import seconds_of
from bench.runs.recorded import checked_states
from bench.runs.reporting import write_suite_report
from bench.runs.suite import load_suite, select

if TYPE_CHECKING:
    from bench.interface.cell import Cell
    from bench.runs.suite import Suite
    from bench.tracking.states import RunState

ELSEWHERE = 3
"""Exit code where nothing failed and other processes are still running some of the cells."""
OUT_OF_TIME = 4
"""Exit code where nothing failed and cells were not started, since --time-limit would have come before their end."""
Rerun = Annotated[
    bool, typer.Option("--rerun", help="Discard what is recorded of the cells that --only chooses; run them again.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check data, networks and budgets, and name what would be run, and how long.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes that read streamed data for each job; by default as many as it has threads."),
]
Within = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Start no cell that cannot end within this time, e.g. 8h, 90m, 1h30m."),
]
CheckpointEvery = Annotated[
    float, typer.Option(min=0, help="Minutes between uploads of an unfinished job's checkpoint; 0: after each epoch.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for cells that other processes run; run those of one that dies.")
]


def run(
    suite: SuiteName,
    set_: Set = None,
    only: Only = None,
    seeds: Seeds = None,
    jobs: Annotated[int, typer.Option(help="Cells to run at a time.")] = 1,
    executor: Annotated[str, typer.Option(help=f"Where they run: {', '.join(EXECUTORS)}.")] = "local",
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")] = "auto",
    resource: Resource = None,
    data: Data = None,
    tracking_uri: Uri = None,
    out: Out = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    rerun: Rerun = False,
    workers: Workers = None,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch missing data sets.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what failed.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print a line for each epoch.")] = False,
    dry_run: DryRun = False,
    max_retries: MaxRetries = Settings.max_retries,
    checkpoint_every: CheckpointEvery = Settings.checkpoint_every,
    wait: Wait = False,
    time_limit: Within = None,
) -> None:
    """Run every cell of the suite that is not yet recorded, then write the report.

    Exit codes: 0 all recorded, 1 some cells failed, 2 wrong request, 3 other processes are still running some, 4 some
    were not started, since they could not end within --time-limit.
    """
    limit = seconds_of(time_limit) if time_limit is not None else None
    loaded = load_suite(suite, set_ or (), seeds)
    chosen = select(loaded.cells, only or ())
    _require_choice(only, rerun=rerun)
    folder = report_folder(out, loaded, set_ or (), seeds)
    settings = Settings(
        suite=loaded.name,
        tracking_uri=store_address(tracking_uri),
        data_root=data,
        device=device,
        resources=loaded.resources.changed(resource or ()),
        workers=workers,
        download=download,
        max_retries=max_retries,
        checkpoint_every=checkpoint_every,
    )
    chosen = with_dependents(chosen, loaded.cells) if rerun else chosen
    with Busy(f"{loaded.name}: reading what is recorded", quiet=quiet) as busy:
        states = checked_states(settings.tracking_uri, loaded.name, chosen)
        again = _again(chosen, loaded.cells) if rerun else _warned(chosen, states)
        agenda = make_agenda(chosen, states, retry_failed=retry_failed, again=again)
        if dry_run:
            return _tell(agenda, loaded, settings, busy, executor, jobs)
        shown = {"quiet": quiet, "verbose": verbose, "wait": wait}
        outcomes = carry_out(agenda, settings, busy, executor=executor, workers=jobs, time_limit=limit, **shown)
    reported = write_suite_report(loaded, settings.tracking_uri, folder, quiet=quiet)
    name_lost(reported)
    if not quiet:
        typer.echo(summary(reported, loaded, chosen if only else None))
    _say_what_is_missing(outcomes, agenda)
    return None


def _warned(chosen: Sequence[Cell], states: Mapping[str, RunState]) -> set[str]:
    """Say which of the chosen cells were recorded with other code; none of them is run again for that."""
    for sentence in warnings_of(chosen, states):
        typer.echo(f"prunebench: {sentence}", err=True)
    return set()


def _again(chosen: Sequence[Cell], cells: Sequence[Cell]) -> set[str]:
    """Ids of the chosen cells, and of the searches that are made again with them."""
    return {cell.id for cell in chosen} | searches_of(chosen, cells)


def _require_choice(only: Sequence[str] | None, *, rerun: bool) -> None:
    """Refuse to discard everything."""
    if rerun and not only:
        raise RequestError("--rerun needs --only KEY=VALUE, which says of which cells the results are discarded")


def _tell(agenda: Agenda, suite: Suite, settings: Settings, busy: Busy, executor: str, workers: int) -> None:
    """Check all that is due, and print what would be run and what that takes."""
    place = make_executor(executor, workers)
    if agenda.due:
        busy.say(f"{settings.suite}: loading PyTorch")
        from bench.runs.matrix import check_all

        check_all(agenda, settings, place, busy.say)
    busy.stop()
    for job in agenda.jobs:
        typer.echo(f"{job.id}  {job.label}: {job.epochs} epochs")
    recorded = agenda.chosen - len(agenda.due)
    typer.echo(
        f"{agenda.chosen} cells, {recorded} recorded; would run {len(agenda.dense)} dense networks, "
        f"{len(agenda.searches)} searches and {len(agenda.due)} cells, {agenda.epochs} epochs; nothing was run"
    )
    if agenda.due:
        typer.echo("tried and found in order: data, networks, weights, budgets")
    for line in forecast(settings.tracking_uri, suite, agenda.jobs, agenda.states, workers=workers).lines():
        typer.echo(line)


def _say_what_is_missing(outcomes: Sequence[Outcome], agenda: Agenda) -> None:
    """Name on stderr the cells without a result; exit code 1 where some failed, else 4 where the time did not suffice,
    else 3 where others run some."""
    failed_before = agenda.failed_before
    failures = [o for o in outcomes if o.status == "failed" and o.kind == "cell"]
    elsewhere = [o for o in outcomes if o.status == "elsewhere" and o.kind == "cell"]
    for outcome in elsewhere:
        typer.echo(f"elsewhere: {outcome.label} is being run by another process ({outcome.error})", err=True)
    for outcome in failures:
        typer.echo(f"failed: {outcome.label}: {outcome.error} (prunebench show {outcome.id})", err=True)
    for cell in failed_before:
        typer.echo(f"failed earlier: {cell.label} (prunebench show {cell.id}; --retry-failed runs it again)", err=True)
    if elsewhere:
        typer.echo(
            f"not in this report yet, since other processes are running them: {len(elsewhere)} cells; the same command "
            "with --wait waits until those have ended, and takes over what one that dies leaves",
            err=True,
        )
    through = {o.id for o in outcomes if o.status != "unstarted"}
    unstarted = sum(cell.id not in through for cell in agenda.due)
    if unstarted:
        typer.echo(
            f"not started within the time limit: {unstarted} cells; the same command goes on with them", err=True
        )
    if failures or failed_before:
        raise typer.Exit(1)
    if unstarted:
        raise typer.Exit(OUT_OF_TIME)
    if elsewhere:
        raise typer.Exit(ELSEWHERE)
