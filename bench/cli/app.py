"""The command line. Imports heavy packages where they are used: `--help` and `plan` answer at once."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.interface.cell import Cell
    from bench.interface.record import Record
    from bench.runs.suite import Suite
    from bench.tracking.mlflow_store import Tracker
    from bench.tracking.states import RunState

app = typer.Typer(
    help="Which channel-pruning method gives the best network for a given FLOPs budget, on my task?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="A shipped suite's name, or a TOML file.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the suite.")]
Seeds = Annotated[int | None, typer.Option(help="Use seeds 0 to N-1.")]
Only = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only these cells, e.g. method=l1.")]
Uri = Annotated[str | None, typer.Option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store.")]
Data = Annotated[Path | None, typer.Option(envvar="PRUNEBENCH_DATA", help="Folder of data sets.")]
Out = Annotated[Path | None, typer.Option(help="Where to write.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

DEFAULT_URI = "sqlite:///mlflow.db"


@app.command()
def run(
    suite: SuiteName,
    set_: Set = None,
    only: Only = None,
    seeds: Seeds = None,
    jobs: Annotated[int, typer.Option(help="Cells to run at a time.")] = 1,
    executor: Annotated[str, typer.Option(help="local, ray or slurm.")] = "local",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data: Data = None,
    tracking_uri: Uri = None,
    out: Out = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision fetch missing data sets.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only what failed.")] = False,
) -> None:
    """Run every cell of the suite that is not yet recorded, then write the report."""
    from bench.runs.suite import load_suite, select
    from bench.tracking.quick_read import read_states

    loaded = load_suite(suite, set_ or (), seeds)
    chosen = select(loaded.cells, only or ())
    uri, folder = _store(tracking_uri), out or Path("reports") / loaded.name
    if device not in ("auto", "cpu", "cuda"):
        raise RequestError(f"unknown device {device!r}; available: auto, cpu, cuda")
    require_writable(folder)
    states = read_states(uri, loaded.name)
    wanted = [c for c in chosen if _is_due(states.get(c.id), retry_failed)]

    failed_before = [c for c in chosen if c not in wanted and states[c.id].status == "failed"]
    counts = {"total": len(loaded.cells), "chosen": len(chosen), "due": len(wanted)}
    outcomes = _execute(loaded, wanted, states, jobs, executor, device, data, uri, download, quiet, counts)
    tracker = _open(uri, loaded.name)
    records, missing = collect(tracker, loaded.cells)
    from bench.report import write_report

    readme = write_report(
        records, folder, suite=loaded.name, missing=missing, runs=tracker.runs_page, pictures=_pictures(tracker)
    )
    failures = [o for o in outcomes if o.status == "failed" and o.kind == "cell"]
    taken = [o for o in outcomes if o.status == "taken"]
    if not quiet:
        typer.echo(f"{len(records)} of {len(loaded.cells)} cells recorded; report: {readme}")
    for outcome in taken:
        typer.echo(f"elsewhere: {outcome.label} is being run by another process ({outcome.error})", err=True)
    for outcome in failures:
        typer.echo(f"failed: {outcome.label}: {outcome.error} (prunebench show {outcome.id})", err=True)
    for cell in failed_before:
        typer.echo(f"failed earlier: {cell.label} (prunebench show {cell.id}; --retry-failed runs it again)", err=True)
    if failures or failed_before:
        raise typer.Exit(1)


def _is_due(state: RunState | None, retry_failed: bool) -> bool:
    if state is None or state.status == "running":
        return True
    return state.status == "failed" and retry_failed


def _execute(
    suite: Suite,
    wanted: Sequence[Cell],
    states: dict[str, RunState],
    jobs: int,
    executor: str,
    device: str,
    data: Path | None,
    uri: str,
    download: bool,
    quiet: bool,
    counts: dict[str, int],
) -> list[Any]:
    """Run what is due; the outcomes of cells and dense networks."""
    if not wanted:
        return []
    from bench.runs.cell_run import Settings, preflight
    from bench.runs.display import Display
    from bench.runs.executors import Job, make_executor

    runner = make_executor(executor, jobs)
    settings = Settings(suite.name, uri, data_root=data, device=device, download=download)
    preflight(list(wanted), settings)
    tracker = _open(uri, suite.name)
    from dataclasses import replace

    from bench.runs.cell_run import _tags

    needed = {(c.dense_id): Job(c.workload, c.seed) for c in wanted}
    dense = [job for i, job in needed.items() if i not in states or states[i].status != "finished"]
    cells = [Job(c.workload, c.seed, c) for c in wanted]
    parent = tracker.begin_invocation(f"{suite.name}: {len(cells)} cells", _tags(settings))
    settings = replace(settings, parent_run=parent)
    outcomes: list[Any] = []
    status = "KILLED"
    try:
        with Display(len(dense) + len(cells), sum(j.epochs for j in (*dense, *cells)), quiet=quiet) as display:
            done = counts["chosen"] - counts["due"]
            display.say(f"{suite.name}: {counts['chosen']} cells, {done} recorded, {len(cells)} to run")
            own = [job for job in cells if job.cell is None or job.cell.transfer is None]
            taking = [job for job in cells if job not in own]  # what they take over must be found first
            for stage in (dense, own, taking):
                outcomes += runner.run(stage, settings, display)
        status = "FINISHED"
    finally:
        tracker.end_invocation(parent, status)
    return outcomes


@app.command()
def plan(
    suite: SuiteName,
    set_: Set = None,
    only: Only = None,
    seeds: Seeds = None,
    tracking_uri: Uri = None,
    json_: Json = False,
) -> None:
    """List the cells of a suite: done, missing, failed. Trains nothing."""
    from bench.interface.cell import dense_id
    from bench.runs.suite import load_suite, select
    from bench.tracking.quick_read import read_states

    loaded = load_suite(suite, set_ or (), seeds)
    cells = select(loaded.cells, only or ())
    states = read_states(_store(tracking_uri), loaded.name)
    word = {"finished": "done", "failed": "failed", "running": "running"}

    def status(identity: str) -> str:
        return word[states[identity].status] if identity in states else "missing"

    dense = {c.dense_id: (c.workload, c.seed) for c in cells}
    dense_left = sum(w.epochs.dense for i, (w, _) in dense.items() if status(i) != "done")
    left = dense_left + sum(c.search_epochs + c.recovery_epochs for c in cells if status(c.id) != "done")
    counts = Counter(status(c.id) for c in cells)
    if json_:
        rows = [
            {
                "cell_id": c.id,
                "status": status(c.id),
                "workload": c.workload.name,
                "task": c.workload.task,
                "dataset": c.workload.dataset,
                "model": c.workload.model,
                "method": c.method,
                "budget": c.budget,
                "seed": c.seed,
                "protocol": c.protocol,
                "recovery": c.recovery,
                "search_epochs": c.search_epochs,
                "recovery_epochs": c.recovery_epochs,
                "total_epochs": c.total_epochs,
                "dense_id": dense_id(c.workload, c.seed),
            }
            for c in cells
        ]
        networks = [
            {"dense_id": i, "status": status(i), "workload": w.name, "seed": s, "epochs": w.epochs.dense}
            for i, (w, s) in dense.items()
        ]
        answer = {"suite": loaded.name, "cells": rows, "dense": networks, "counts": dict(counts), "epochs_left": left}
        typer.echo(json.dumps(answer, indent=2))
        return
    table(
        ("cell", "status", "workload", "method", "budget", "seed", "recovery", "epochs"),
        [
            (
                c.id,
                status(c.id),
                c.workload.name,
                c.method,
                f"{c.budget:g}",
                str(c.seed),
                c.recovery,
                str(c.total_epochs),
            )
            for c in cells
        ],
    )
    ready = sum(status(i) == "done" for i in dense)
    summary = ", ".join(f"{counts[s]} {s}" for s in ("done", "missing", "running", "failed") if counts[s])
    typer.echo(f"{len(cells)} cells: {summary}; dense networks: {ready} of {len(dense)} done; {left} epochs to train")


@app.command()
def report(
    suite: SuiteName,
    out: Out = None,
    set_: Set = None,
    seeds: Seeds = None,
    tracking_uri: Uri = None,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Read a cells.jsonl instead of MLflow.")
    ] = None,
) -> None:
    """Write tables, figures and the page from what is recorded, also when the matrix is incomplete."""
    from bench.report import read_records, write_report
    from bench.runs.suite import load_suite

    loaded = load_suite(suite, set_ or (), seeds)
    folder = out or Path("reports") / loaded.name
    require_writable(folder)
    if from_ is not None:
        records = read_records(from_)
        known = {r.cell_id for r in records}
        missing = [c for c in loaded.cells if c.id not in known]
        readme = write_report(records, folder, suite=loaded.name, missing=missing)
    else:
        uri = _store(tracking_uri)
        from bench.tracking.quick_read import read_states

        if not read_states(uri, loaded.name):
            raise RequestError(
                f"nothing of suite {loaded.name!r} is recorded in {uri}; prunebench run {suite} comes first"
            )
        tracker = _open(uri, loaded.name)
        records, missing = collect(tracker, loaded.cells)
        readme = write_report(
            records, folder, suite=loaded.name, missing=missing, runs=tracker.runs_page, pictures=_pictures(tracker)
        )
    typer.echo(f"{len(records)} of {len(loaded.cells)} cells recorded; report: {readme}")


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="methods|tasks|models|datasets|suites")], json_: Json = False
) -> None:
    """What there is, one line each."""
    from bench.interface import registry
    from bench.runs.suite import shipped

    def first_line(kind: type[Any]) -> str:
        return (kind.__doc__ or "").strip().splitlines()[0]

    rows: list[dict[str, str]] = []
    if what == "methods":
        for name in registry.method_names():
            kind = registry.method_class(name)
            role = "control" if name in registry.control_names() else "method"
            rows.append({"name": name, "role": role, "description": first_line(kind), "standing": kind.standing})
    elif what == "tasks":
        for name in registry.task_names():
            kind = registry.task_class(name)
            rows.append({"name": name, "metric": kind.metric, "description": first_line(kind)})
    elif what in ("models", "datasets"):
        for task in registry.task_names():
            for name, text in getattr(registry.task_class(task), what)().items():
                rows.append({"name": name, "task": task, "description": text})
    elif what == "suites":
        rows = [{"name": name, "description": text} for name, text in shipped().items()]
    else:
        raise RequestError(f"cannot list {what!r}; available: methods, tasks, models, datasets, suites")
    if json_:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        table(tuple(rows[0]), [tuple(row.values()) for row in rows])


@app.command()
def check(name: Annotated[str, typer.Argument(metavar="NAME", help="A method or a task.")]) -> None:
    """The contract suite on one adapter: pass or fail for each property."""
    from bench.contract.suite import check as verdicts

    failed = 0
    for verdict in verdicts(name):
        failed += not verdict.passed
        typer.echo(
            f"{'pass' if verdict.passed else 'FAIL'}  {verdict.name}{': ' if verdict.reason else ''}{verdict.reason}"
        )
    typer.echo(f"{name}: {failed} failed" if failed else f"{name}: every property holds")
    if failed:
        raise typer.Exit(1)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(metavar="method")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and dashes.")],
    folder: Annotated[Path, typer.Option("--in", help="The checkout to write to.")] = Path(),
) -> None:
    """A short commented method and its test, registered, which pass `check` as they stand."""
    from bench.cli.new_method import new_method

    if kind != "method":
        raise RequestError(f"cannot make a new {kind!r}; available: method")
    for path in new_method(name, folder):
        typer.echo(path)


@app.command()
def show(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or its beginning.")],
    tracking_uri: Uri = None,
    json_: Json = False,
) -> None:
    """One cell: configuration, status, metrics, budget audit, its MLflow run, a failure's traceback."""
    tracker, state = find_cell(cell, _store(tracking_uri))
    if state.status == "running":
        typer.echo(f"cell {state.cell_id}: running since run {state.run_id} began; nothing is recorded yet")
        return
    record = tracker.record(state)
    if json_:
        typer.echo(record.model_dump_json(indent=2))
        return
    typer.echo(describe(record, tracker))


@app.command()
def export(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or its beginning.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    tracking_uri: Uri = None,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Also write model.onnx (extra `onnx`).")] = True,
) -> None:
    """The pruned model of a cell: model.safetensors, architecture.json and model.onnx."""
    require_writable(out)
    tracker, state = find_cell(cell, _store(tracking_uri))
    if state.status != "finished":
        raise RequestError(f"cell {state.cell_id} is {state.status}: there is no pruned model to export")
    import shutil

    record = tracker.record(state)
    out.mkdir(parents=True, exist_ok=True)
    with tracker.artifact(state.run_id, "model") as folder:
        for name in ("model.safetensors", "architecture.json"):
            shutil.copy(folder / name, out / name)
    written = ["model.safetensors", "architecture.json"]
    if onnx:
        import torch

        from bench.interface.task import DataInfo
        from bench.runs.cell_run import _options
        from bench.structure.files import load_pruned
        from bench.structure.onnx_export import export_onnx
        from bench.training.recovery import fresh_network

        config = record.config
        from bench.interface import registry

        task = registry.make_task(config.workload.task, {**_options(config.workload), "pretrained": False})
        facts = record.data_info
        info = DataInfo(**{**facts, "classes": tuple(facts["classes"])})
        model = load_pruned(out, fresh_network(task, info, 0))
        with torch.inference_mode():
            export_onnx(model, task.example(info), out / "model.onnx")
        written.append("model.onnx")
    typer.echo(f"{out}: {', '.join(written)}")


@app.command()
def merge(
    a: Annotated[Path, typer.Argument(metavar="A")],
    b: Annotated[Path, typer.Argument(metavar="B")],
    out: Annotated[Path, typer.Option(help="Folder for the joint report.")],
) -> None:
    """Join two reports (their cells.jsonl) into one."""
    from bench.report import merge_records, read_records, write_report

    require_writable(out)
    records = merge_records(read_records(a), read_records(b))
    readme = write_report(records, out, suite=" + ".join(sorted({r.suite for r in records})))
    typer.echo(f"{len(records)} cells; report: {readme}")


@app.command()
def audit(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A report's folder.")]) -> None:
    """Compute every difference, percentage, rank and bold of a report again from its cells.jsonl."""
    from bench.report.audit import audit as findings

    if not (folder / "cells.jsonl").is_file():
        raise RequestError(f"{folder} is no report: it has no cells.jsonl")
    found = findings(folder)
    for sentence in found:
        typer.echo(sentence)
    typer.echo(f"{folder}: {len(found)} contradictions" if found else f"{folder}: everything agrees with its records")
    if found:
        raise typer.Exit(1)


def collect(tracker: Tracker, cells: Sequence[Cell]) -> tuple[list[Record], list[Cell]]:
    """The records of a suite's cells, and the cells that have none."""
    states = tracker.best()
    known = [c for c in cells if c.id in states and states[c.id].status != "running"]
    records = tracker.records([states[c.id] for c in known])
    # Names of workloads and of variants are labels, not part of a cell's identity: show today's.
    for cell, record in zip(known, records, strict=True):
        record.cell["workload"]["name"] = cell.workload.name
        record.cell |= {"method": cell.method, "base": cell.base}
    return records, [c for c in cells if c not in known]


def find_cell(prefix: str, uri: str) -> tuple[Tracker, RunState]:
    """The run of a cell on any suite of the store, by its id or the beginning of it.

    Raises:
        RequestError: no cell, or several, begin like that.
    """
    from bench.tracking.address import sqlite_path
    from bench.tracking.mlflow_store import Tracker
    from bench.tracking.states import best_of

    if not prefix or any(c not in "0123456789abcdef" for c in prefix):
        raise RequestError(
            f"{prefix!r} is no cell id: ids are up to 12 hexadecimal digits, as `prunebench plan` lists them"
        )
    if uri.startswith("sqlite:") and not sqlite_path(uri).exists():
        raise RequestError(f"there is no tracking store {sqlite_path(uri)}; give one with --tracking-uri")
    found: dict[str, tuple[Tracker, RunState]] = {}
    for suite in Tracker.suites(uri):
        tracker = Tracker(uri, suite)
        states = best_of(s for s in tracker.states(f"tags.`prunebench.cell_id` LIKE '{prefix}%'") if s.kind == "cell")
        found |= {identity: (tracker, state) for identity, state in states.items()}
    if len(found) != 1:
        what = "no recorded cell begins" if not found else f"{len(found)} cells begin ({', '.join(sorted(found)[:5])})"
        raise RequestError(f"{what} with {prefix!r}; prunebench plan SUITE lists the ids")
    return next(iter(found.values()))


def describe(record: Record, tracker: Tracker) -> str:
    """A cell in words."""
    from bench.tracking.address import redacted

    cell, audit, ledger = record.config, record.audit, record.ledger
    lines = [
        f"cell       {record.cell_id}  {cell.label}",
        f"status     {record.status}",
        f"MLflow     run {record.run_id} in experiment {tracker.suite!r} of {redacted(tracker.uri)}",
    ]
    if record.status == "finished" and audit and ledger:
        name, unit = record.metric_name, record.metric_unit
        lines += [
            f"{name:<10} dense {record.dense_metrics[name]:.2f}{unit}, after pruning {record.pruned_metrics[name]:.2f}"
            f"{unit}, after recovery {record.final_metrics[name]:.2f}{unit}",
            f"budget     requested {audit.requested:g} ± {audit.tolerance:g}, method's own "
            f"{audit.native_macs_ratio:.4f}, {audit.fitted_channels} channels fitted, measured {audit.macs_ratio:.4f}"
            f"{'' if audit.within else ' (MISSED: ' + audit.note + ')'}",
            f"MACs       {record.macs_dense:,} -> {record.macs_pruned:,} at {'×'.join(map(str, record.input_shape))}",
            f"parameters {record.params_dense:,} -> {record.params_pruned:,}",
            f"epochs     {ledger.dense_epochs} dense + {ledger.search_epochs} search + "
            f"{ledger.recovery_epochs} recovery",
            f"seconds    {ledger.search_seconds:.1f} search, {ledger.recovery_seconds:.1f} recovery on {ledger.device}",
        ]
        if record.latency_dense and record.latency_pruned:
            lines.append(
                f"latency    {record.latency_dense.median_ms:.2f} -> {record.latency_pruned.median_ms:.2f} ms "
                f"({record.latency_pruned.threads} threads, {record.latency_pruned.device})"
            )
        lines.append("widths     " + ", ".join(f"{g.name} {g.width}/{g.size}" for g in record.groups))
        if record.dropped_blocks:
            lines.append(f"removed    {', '.join(record.dropped_blocks)}")
        lines += [f"left whole {name}: {why}" for name, why in record.left_whole.items()]
    lines += [f"note       {note}" for note in record.notes]
    lines += ["configuration", json.dumps(cell.identity(), indent=2)]
    lines.append("environment " + ", ".join(f"{k} {v}" for k, v in record.environment.items()))
    if record.error:
        lines += [f"error      {record.error}", record.traceback]
    return "\n".join(lines)


def require_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written, without creating anything.

    Raises:
        RequestError: naming the folder.
    """
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise RequestError(f"output folder {folder} cannot be made: {nearest} is a file; give another with --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RequestError(f"output folder {folder} cannot be written; give another with --out")


def _store(uri: str | None) -> str:
    from bench.tracking.address import absolute

    return absolute(uri or DEFAULT_URI)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns on a terminal and in a pipe alike; nothing is cut off."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _open(uri: str, suite: str) -> Tracker:
    from bench.tracking.mlflow_store import Tracker

    return Tracker(uri, suite)


def _pictures(tracker: Tracker) -> Any:
    def fetch(record: Record, name: str) -> bytes | None:
        try:
            with tracker.artifact(record.run_id, name) as path:
                return path.read_bytes()
        except OSError:
            return None

    return fetch


def main() -> None:
    """Entry point: a wrong request ends in one sentence on stderr and exit code 2."""
    # torch announces on import that a CUDA toolkit without a GPU is of no use to it.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        app()
    except RequestError as error:
        typer.echo(f"prunebench: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("prunebench: interrupted; the same command goes on where this one stopped", err=True)
        sys.exit(130)
