"""`prunebench tune`: hyper-parameters by the validation split, in a stated number of trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.lines import print_table
from bench.cli.options import Data, Out, Set, SuiteName, Uri, store_address
from bench.cli.settings import plain_text
from bench.errors import RequestError, unknown
from bench.interface.cell import Cell
from bench.interface.devices import DEVICES
from bench.interface.record import Record
from bench.runs.agenda import make_agenda
from bench.runs.display import Busy
from bench.runs.folders import require_writable
from bench.runs.invocation import carry_out
from bench.runs.job import Settings
from bench.runs.suite import Suite, load_suite
from bench.runs.tune import Trial, Tuned, space_of, tune
from bench.tracking.quick_read import read_states

TRIALS = 20


def tune_methods(
    methods: Annotated[str, typer.Argument(metavar="METHOD[,METHOD…]", help="Methods of the suite.")],
    suite: SuiteName,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each method, the suite's own settings first.")] = TRIALS,
    field: Annotated[list[str] | None, typer.Option(help="Tune this field; without it all that can be.")] = None,
    workload: Annotated[str | None, typer.Option(help="Where to tune; without it on the suite's first.")] = None,
    budget: Annotated[float | None, typer.Option(help="At which budget; without it at the suite's first.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With which seed; without it with one that the suite does not have.")
    ] = None,
    set_: Set = None,
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")] = "auto",
    data: Data = None,
    tracking_uri: Uri = None,
    out: Out = None,
) -> None:
    """Tune methods with Optuna by the metric on the validation split: as many trials for each.

    Trials are recorded as cells of suite NAME-tune, and the same command goes on where it stopped. It prints what to
    write into the suite, with the cost, which the suite's ledger then shows.
    """
    loaded = load_suite(suite, set_ or ())
    chosen = [_cell(loaded, name.strip(), workload, budget, seed) for name in methods.split(",")]
    spaces = [space_of(cell.adapter, field or ()) for cell in chosen]
    name = f"{loaded.name}-tune"
    folder = out or Path("reports") / name
    require_writable(folder)
    settings = Settings(
        suite=name, tracking_uri=store_address(tracking_uri), data_root=data, device=device, resources=loaded.resources
    )
    found: list[tuple[Cell, Tuned]] = []
    for cell, space in zip(chosen, spaces, strict=True):
        typer.echo(f"{cell.method}: {trials} trials of {', '.join(space)} on {cell.workload.name}", err=True)
        found.append((cell, tune(cell, space, trials, _runner(settings), _say)))
    _write(found, folder)
    for cell, tuned in found:
        _show(cell, tuned)


def _say(trial: Trial) -> None:
    """How a trial ended, in a line on stderr."""
    came = f"failed: {trial.error}" if trial.metric is None else f"validation {trial.metric:.4g}"
    typer.echo(f"  trial {trial.number}: {came} ({trial.seconds:.1f} s)", err=True)


def _cell(suite: Suite, method: str, workload: str | None, budget: float | None, seed: int | None) -> Cell:
    """The cell of the suite that is tuned, with a seed of its own.

    Raises:
        RequestError: the suite does not run the method, there or at all, or nothing of it could be told apart.
    """
    own = [c for c in suite.cells if c.ablation is None and c.transfer is None]
    if method not in {c.method for c in own}:
        raise unknown(f"method of suite {suite.name!r}", method, {c.method for c in own})
    where = workload or own[0].workload.name
    at = [c for c in own if c.method == method and c.workload.name == where]
    if not at:
        raise unknown(f"workload of {method}", where, {c.workload.name for c in own if c.method == method})
    wanted = at[0].budget if budget is None else budget
    found = next((c for c in at if c.budget == wanted), None)
    if found is None:
        raise RequestError(f"--budget {wanted:g} is none of {method}'s: {', '.join(f'{c.budget:g}' for c in at)}")
    if not found.recovery_epochs:
        raise RequestError(f"{method} cannot be tuned with recovery {found.recovery!r}: no epoch of it is evaluated")
    free = max(c.seed for c in suite.cells) + 1
    return found.model_copy(update={"seed": free if seed is None else seed, "tuning": None})


def _runner(settings: Settings) -> Callable[[Cell], Record]:
    """Runs a cell, or reads what is recorded of it."""

    def run(cell: Cell) -> Record:
        from bench.runs.recorded import recorded
        from bench.runs.tracked import open_tracker

        agenda = make_agenda([cell], read_states(settings.tracking_uri, settings.suite))
        # Nothing is shown of a trial's test figures, so that nobody tunes on them.
        carry_out(agenda, settings, Busy("", quiet=True), quiet=True, wait=True)
        found = recorded(open_tracker(settings.tracking_uri, settings.suite), [cell])
        if not found:
            raise RequestError(f"{cell.label} ({cell.id}) is not recorded, although it was run")
        return found[0]

    return run


def _write(found: Sequence[tuple[Cell, Tuned]], folder: Path) -> None:
    """All trials as `tuning.csv`."""
    from bench.report.formats.csv import to_csv

    rows: list[dict[str, Any]] = [
        {
            "method": cell.method,
            "workload": cell.workload.name,
            "budget": cell.budget,
            "seed": cell.seed,
            "trial": trial.number,
            "validation_metric": trial.metric,
            "best": trial is tuned.best,
            "seconds": trial.seconds,
            "cell_id": trial.cell.id if trial.cell else "",
            "error": trial.error,
            **{f"{cell.method}.{name}": value for name, value in trial.values.items()},
        }
        for cell, tuned in found
        for trial in tuned.trials
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tuning.csv").write_text(to_csv(rows), "utf-8")
    typer.echo(f"{folder / 'tuning.csv'}: {len(rows)} trials\n", err=True)


def _show(cell: Cell, tuned: Tuned) -> None:
    """The trials as a table, and the best as a part of a suite."""
    names = list(tuned.trials[0].values)
    rows = [
        (
            str(trial.number),
            "failed" if trial.metric is None else f"{trial.metric:.4g}",
            *(plain_text(trial.values[name]) for name in names),
        )
        for trial in tuned.trials
    ]
    print_table(("trial", "validation", *names), rows)
    best, cost = tuned.best, tuned.cost
    typer.echo(f"\n# trial {best.number} of {cost.trials}\n[method.{cell.method}]")
    for name, value in best.values.items():
        typer.echo(f"{name} = {plain_text(value)}")
    typer.echo(f"tuning = {{ trials = {cost.trials}, epochs = {cost.epochs}, seconds = {cost.seconds:.1f} }}\n")
