"""`prunebench plan`: what of a suite is recorded, what is not, and how it is trained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.forecast import Forecast, forecast
from bench.cli.lines import print_table
from bench.cli.options import Json, Only, Seeds, Set, SuiteName, Uri, store_address
from bench.interface.cell import Cell, Recipe
from bench.interface.record import timed_at
from bench.interface.stages import search_id
from bench.runs.agenda import dense_jobs, make_agenda, search_jobs
from bench.runs.changed import warnings_of
from bench.runs.job import Job
from bench.runs.suite import load_suite, select
from bench.tracking.liveness import is_dead
from bench.tracking.quick_read import read_others, read_states
from bench.tracking.states import TAG, WHERE, RunState

if TYPE_CHECKING:
    from bench.report.power import Spread

_WORD = {"finished": "done", "lost": "missing", "running": "running", "failed": "failed"}


NotRead = Annotated[
    Path | None, typer.Option("--data", help="Not read; taken so that a line for `run` can be planned as it is.")
]


def plan(
    suite: SuiteName,
    set_: Set = None,
    only: Only = None,
    seeds: Seeds = None,
    data: NotRead = None,
    tracking_uri: Uri = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells to run at a time, for the wall time; by default 1, 2, 4 and 8.")
    ] = None,
    json_: Json = False,
) -> None:
    """List the cells of a suite, done, missing or failed, and what the rest will take. Trains nothing."""
    loaded = load_suite(suite, set_ or (), seeds)
    cells = select(loaded.cells, only or ())
    uri = store_address(tracking_uri)
    states = read_states(uri, loaded.name)
    due = make_agenda(cells, states, retry_failed=True).jobs
    planned = _Plan(
        suite=loaded.name,
        cells=cells,
        dense=dense_jobs(cells),
        searches=search_jobs(cells),
        states=states,
        others=read_others(uri, loaded.name),
        forecast=forecast(uri, loaded, due, states, workers=jobs),
    )
    for sentence in warnings_of(cells, states):
        typer.echo(f"prunebench: {sentence}", err=True)
    if json_:
        typer.echo(json.dumps(planned.payload(), indent=2))
    else:
        print_table(("cell", "status", "workload", "method", "budget", "seed", "recovery", "epochs"), planned.rows())
        typer.echo("\nhow each is trained")
        print_table(("workload", "phase", "epochs", "methods", "recipe"), planned.recipes())
        for line in (*planned.protected(), *planned.timed()):
            typer.echo(f"\n{line}")
        typer.echo(f"\nwhat the planned seeds can show\n{planned.power()}")
        typer.echo("\n" + "\n".join([planned.summary(), *planned.forecast.lines()]))
        if due:
            typer.echo(f"data, networks and weights are not tried here: prunebench run {suite} --dry-run tries them")


@dataclass(frozen=True)
class _Plan:
    """The cells of a suite and how far they are."""

    suite: str
    cells: Sequence[Cell]
    dense: Sequence[Job]
    searches: Sequence[Job]
    states: Mapping[str, RunState]
    others: Mapping[str, str]
    """What other suites of the store have recorded: by id, the suite."""
    forecast: Forecast
    """Of what is not done, failed cells included."""

    def status(self, identity: str) -> str:
        state = self.states.get(identity)
        if state is None:
            return "missing"
        return "stopped" if state.status == "running" and is_dead(state) else _WORD[state.status]

    @cached_property
    def counts(self) -> Counter[str]:
        """How many cells have each status."""
        return Counter(self.status(c.id) for c in self.cells)

    @property
    def epochs_left(self) -> int:
        return sum(job.epochs for job in self.left)

    @cached_property
    def left(self) -> list[Job]:
        """What is not done; a search only where a cell starts from it that is not."""
        cells = [cell for cell in self.cells if self.status(cell.id) != "done"]
        # A control takes over what is in the record of its source, where that is done.
        wanted = {search_id(cell) for cell in cells if cell.source is None or self.status(cell.source) != "done"}
        stages = [*self.dense, *(job for job in self.searches if job.id in wanted)]
        return [job for job in stages if self.status(job.id) != "done"] + list(map(Job.of_cell, cells))

    def shared(self) -> str:
        """A line on what is taken from other suites of the store, where something is."""
        taken = [(job.kind, self.others[job.id]) for job in self.left if job.id in self.others]
        if not taken:
            return ""
        names = {
            "dense": ("dense network", "dense networks"),
            "search": ("search", "searches"),
            "cell": ("cell", "cells"),
        }
        counts = Counter(kind for kind, _ in taken)
        words = ", ".join(f"{n} {forms[n > 1]}" for kind, forms in names.items() if (n := counts[kind]))
        suites = ", ".join(sorted({suite for _, suite in taken}))
        return (
            f"recorded by other suites of this store ({suites}): {words}; they are taken from there, not run again, "
            "where data and methods are the same"
        )

    def rows(self) -> list[tuple[str, ...]]:
        """A row of words for each cell."""
        return [
            (
                c.id,
                self.status(c.id),
                c.workload.name,
                c.title,
                c.budget_text,
                str(c.seed),
                c.recovery,
                str(c.total_epochs),
            )
            for c in self.cells
        ]

    def recipes(self) -> list[tuple[str, ...]]:
        """A row for each way in which a phase is trained, with the methods that train so."""
        methods: dict[tuple[str, ...], dict[str, None]] = {}
        kinds = {(c.workload.name, c.title, c.recovery, c.budget, c.protocol): c for c in self.cells}
        for c in kinds.values():  # seeds are trained alike
            for phase, epochs, recipe in c.schedule:
                taught = phase == "recovery" and c.recovery in ("distil", "scratch-distil")
                name = c.recovery if phase == "recovery" else phase
                row = (c.workload.name, name, str(epochs), recipe_words(recipe, distils=taught))
                methods.setdefault(row, {})[c.title] = None
        return [(*row[:3], ", ".join(found), row[3]) for row, found in methods.items()]

    @cached_property
    def spreads(self) -> list[Spread]:
        """How much differences have varied over seeds so far."""
        done = ((c.id, self.states.get(c.id)) for c in self.cells)
        finals = {i: s.final for i, s in done if s is not None and s.status == "finished" and s.final is not None}
        if not finals:
            return []
        from bench.report.power import planned_spreads  # loads what ranks a matrix

        return planned_spreads(self.cells, finals)

    def power(self) -> str:
        """What the planned seeds can show at the spread seen so far, a line for each workload."""
        known = self.spreads
        lines = [power_words(spread) for spread in known]
        places = dict.fromkeys((c.workload.name, c.protocol) for c in self.cells)
        lines += [
            f"{name} ({protocol}): not known before two networks of a budget have two seeds each"
            for name, protocol in places
            if (name, protocol) not in {(s.workload, s.protocol) for s in known}
        ]
        return "\n".join(lines)

    def protected(self) -> list[str]:
        """A line for each workload of whose network something is left alone."""
        return [
            f"{workload.name}: protected, so that no method removes their channels: {', '.join(workload.protect)}"
            for workload in {c.workload.name: c.workload for c in self.cells}.values()
            if workload.protect
        ]

    def timed(self) -> list[str]:
        """A line for each workload whose networks are timed at other than the default."""
        plans = {c.workload.name: c.latency for c in self.cells}
        return [
            f"{name}: latencies at " + "; ".join(timed_at(batch, threads or 0) for batch, threads in plan.combinations)
            for name, plan in plans.items()
            if plan is not None
        ]

    def running(self) -> list[tuple[str, str]]:
        """(cell, search or dense network, the devices and machine that it is on) of what runs now."""
        jobs = [*self.dense, *self.searches, *map(Job.of_cell, self.cells)]
        now = [job for job in jobs if self.status(job.id) == "running"]
        return [(job.label, self.states[job.id].tags.get(TAG + WHERE, "")) for job in now]

    def summary(self) -> str:
        counts = self.counts
        words = ", ".join(f"{counts[s]} {s}" for s in (*_WORD.values(), "stopped") if counts[s])
        ready, made = (sum(self.status(job.id) == "done" for job in jobs) for jobs in (self.dense, self.searches))
        searches = f"searches: {made} of {len(self.searches)} done; " if self.searches else ""
        stopped = [job.label for job in (*self.dense, *self.searches) if self.status(job.id) == "stopped"]
        stopped += [cell.label for cell in self.cells if self.status(cell.id) == "stopped"]
        lines = [
            f"{len(self.cells)} cells: {words}; dense networks: {ready} of {len(self.dense)} done; {searches}"
            f"{self.epochs_left} epochs to train"
        ]
        lines += filter(None, [self.shared()])
        lines += [f"running: {label}{f' on {where}' * bool(where)}" for label, where in self.running()]
        if stopped:
            lines.append(
                f"stopped, since the process that ran it has ended: {', '.join(stopped)}; prunebench run goes on from "
                "its last epoch"
            )
        return "\n".join(lines)

    def payload(self) -> dict[str, Any]:
        """The plan as JSON values."""
        networks = [
            {
                "dense_id": job.id,
                "status": self.status(job.id),
                "workload": job.workload.name,
                "seed": job.seed,
                "epochs": job.epochs,
            }
            for job in self.dense
        ]
        return {
            "suite": self.suite,
            "cells": [self._cell(c) for c in self.cells],
            "dense": networks,
            "searches": [
                {"search_id": job.id, "status": self.status(job.id), "label": job.label, "epochs": job.epochs}
                for job in self.searches
            ],
            "recorded_by_others": {job.id: self.others[job.id] for job in self.left if job.id in self.others},
            "counts": dict(self.counts),
            "epochs_left": self.epochs_left,
            "estimate": self.forecast.payload(),
            "power": [
                {
                    "workload": s.workload,
                    "protocol": s.protocol,
                    "metric": s.metric,
                    "unit": s.unit,
                    "spread": s.spread,
                    "pairs": s.pairs,
                    "seeds": s.seeds,
                    "smallest_difference": s.smallest if s.seeds >= 2 else None,
                    "seeds_for": {f"{s.point:g}": s.seeds_for_a_point},
                }
                for s in self.spreads
            ],
        }

    def _cell(self, c: Cell) -> dict[str, Any]:
        return {
            "cell_id": c.id,
            "status": self.status(c.id),
            "where": self.states[c.id].tags.get(TAG + WHERE) if c.id in self.states else None,
            "workload": c.workload.name,
            "task": c.workload.task,
            "dataset": c.workload.dataset,
            "model": c.workload.model,
            "protect": list(c.workload.protect or ()),
            "method": c.method,
            "ablation": c.ablation,
            "budget": c.budget,
            "budget_kind": c.kind,
            "latency": c.latency.model_dump() if c.latency else None,
            "seed": c.seed,
            "protocol": c.protocol,
            "recovery": c.recovery,
            "search_epochs": c.search_epochs,
            "recovery_epochs": c.recovery_epochs,
            "total_epochs": c.total_epochs,
            "schedule": [
                {"phase": phase, "epochs": epochs, "recipe": recipe.model_dump()}
                for phase, epochs, recipe in c.schedule
            ],
            "dense_id": c.dense_id,
            "search_id": search_id(c),
        }


def power_words(spread: Spread) -> str:
    """What so many seeds can show at this spread, in one line."""
    from bench.report.power import CHANCE

    unit = spread.unit and f" {spread.unit}"
    what = f"{spread.workload} ({spread.protocol}): differences spread by {spread.spread:.2g}{unit} over seeds so far"
    if spread.seeds < 2:
        return (
            f"{what}; one seed can show no difference; {spread.point:g}{unit} would take {spread.seeds_for_a_point:,}"
        )
    return (
        f"{what}; with {spread.seeds} seeds only {spread.smallest:.2g}{unit} or more would be found with {CHANCE} "
        f"probability; {spread.point:g}{unit} would take {spread.seeds_for_a_point:,}"
    )


def recipe_words(recipe: Recipe, *, distils: bool = False) -> str:
    """A training recipe in one line."""
    parts = ["Adam" if recipe.optimizer == "adam" else f"SGD momentum {recipe.momentum:g}"]
    parts += [f"rate {recipe.lr:g} {recipe.schedule}", f"batch {recipe.batch_size}", f"decay {recipe.weight_decay:g}"]
    parts += [f"warm-up {recipe.warmup_epochs:g}"] * bool(recipe.warmup_epochs)
    parts += [f"label smoothing {recipe.label_smoothing:g}"] * bool(recipe.label_smoothing)
    parts += [f"gradients clipped at {recipe.grad_clip:g}"] * bool(recipe.grad_clip)
    parts += [recipe.precision] * (recipe.precision != "auto")
    return ", ".join(parts + ["distilled from the dense network"] * distils)
