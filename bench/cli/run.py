"""`prunebench run`: what is not yet recorded of a suite, and then its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Data, Only, Out, Seeds, Set, SuiteName, Uri, report_folder, store_address
from bench.cli.report import write_suite_report
from bench.errors import RequestError
from bench.runs.agenda import Agenda, make_agenda
from bench.runs.changed import warnings_of, with_dependents
from bench.runs.executors.executor import EXECUTORS, make_executor
from bench.runs.job import Outcome, Settings
from bench.runs.recorded import checked_states
from bench.runs.suite import load_suite, select

if TYPE_CHECKING:
    from bench.interface.cell import Cell

DEVICES = ("auto", "cpu", "cuda")
ELSEWHERE = 3
"""Exit code where nothing failed and other processes are still running some of the cells."""


def run(
    suite: SuiteName,
    set_: Set = None,
    only: Only = None,
    seeds: Seeds = None,
    jobs: Annotated[int, typer.Option(help="Cells to run at a time.")] = 1,
    executor: Annotated[str, typer.Option(help=f"Where they run: {', '.join(EXECUTORS)}.")] = "local",
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")] = "auto",
    data: Data = None,
    tracking_uri: Uri = None,
    out: Out = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Discard what is recorded of the cells that --only chooses; run them again.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch missing data sets.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only what failed.")] = False,
    max_retries: Annotated[
        int, typer.Option(min=0, help="How often a cell is run again whose worker was lost.")
    ] = Settings.max_retries,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for cells that other processes run; run those of one that dies.")
    ] = False,
) -> None:
    """Run every cell of the suite that is not yet recorded, then write the report.

    Exit codes: 0 all recorded, 1 some cells failed, 2 wrong request, 3 other processes are still running some.
    """
    loaded = load_suite(suite, set_ or (), seeds)
    chosen = select(loaded.cells, only or ())
    if device not in DEVICES:
        raise RequestError(f"unknown device {device!r}; available: {', '.join(DEVICES)}")
    folder = report_folder(out, loaded.name)
    settings = Settings(
        suite=loaded.name,
        tracking_uri=store_address(tracking_uri),
        data_root=data,
        device=device,
        download=download,
        max_retries=max_retries,
    )
    if rerun and not only:
        raise RequestError("--rerun needs --only KEY=VALUE, which says of which cells the results are discarded")
    chosen = with_dependents(chosen, loaded.cells) if rerun else chosen
    states = checked_states(settings.tracking_uri, loaded.name, chosen)
    for sentence in () if rerun else warnings_of(chosen, states):
        typer.echo(f"prunebench: {sentence}", err=True)
    agenda = make_agenda(chosen, states, retry_failed=retry_failed, again={c.id for c in chosen} if rerun else ())
    outcomes = _run(agenda, settings, executor=executor, workers=jobs, quiet=quiet, wait=wait)
    summary = write_suite_report(loaded, settings.tracking_uri, folder)
    if not quiet:
        typer.echo(summary)
    _say_what_is_missing(outcomes, agenda.failed_before)


def _run(agenda: Agenda, settings: Settings, *, executor: str, workers: int, quiet: bool, wait: bool) -> list[Outcome]:
    """Run what is due; nothing heavy is loaded where nothing is."""
    if not agenda.due:
        return []
    place = make_executor(executor, workers)
    from bench.runs.display import Display
    from bench.runs.matrix import run_matrix  # loads torch

    due = len(agenda.due)
    title = f"{settings.suite}: {agenda.chosen} cells, {agenda.chosen - due} recorded, {due} to run"
    display = Display(title, jobs=len(agenda.jobs), epochs=agenda.epochs, quiet=quiet)
    return run_matrix(agenda, settings, place, display, wait=wait)


def _say_what_is_missing(outcomes: Sequence[Outcome], failed_before: Sequence[Cell]) -> None:
    """Name on stderr the cells without a result; exit code 1 where some failed, else 3 where others run some."""
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
    if failures or failed_before:
        raise typer.Exit(1)
    if elsewhere:
        raise typer.Exit(ELSEWHERE)
