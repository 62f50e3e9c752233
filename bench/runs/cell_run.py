"""Runs one cell, from the dense network to the record; and the dense network that cells share."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from bench.errors import CellError, RequestError
from bench.interface import registry
from bench.interface.cell import Cell, Workload, dense_id
from bench.interface.method import Budget, Context
from bench.interface.record import Audit, GroupWidth, LatencyFigures, Ledger, Record
from bench.interface.task import Splits, Task
from bench.runs.environment import environment
from bench.search import fit as budgets
from bench.search.fit import Fitted
from bench.search.transfer import matching, transferred
from bench.structure.files import save_pruned
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.measure import Latency, compare_latencies, count_macs, count_params, peak_memory
from bench.structure.surgery import prune
from bench.tracking.mlflow_store import Taken, TrackedRun, Tracker
from bench.training.checkpoint import load_state, save_state
from bench.training.device import resolve_device, resolve_precision
from bench.training.evaluate import recalibrate
from bench.training.loop import seconds_in, train
from bench.training.quiet import quiet, waited
from bench.training.recovery import fresh_network, recipe_of, recover, thinner_initialisation

log = logging.getLogger("prunebench")
Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Settings:
    """What is the same for all cells of an invocation and changes no result."""

    suite: str
    tracking_uri: str
    parent_run: str | None = None
    data_root: Path | None = None
    device: str = "auto"
    work: Path = field(default_factory=lambda: Path(os.environ.get("PRUNEBENCH_WORK", ".prunebench")))
    """Checkpoints of unfinished cells."""
    download: bool = False
    threads: int = 0
    """Threads of a worker; 0 leaves torch's default."""


@dataclass
class Outcome:
    """How a cell or a dense network ended, small enough to send between processes."""

    id: str
    label: str
    kind: str
    status: str
    """`finished`, `failed`, or `taken` (another process is running it)."""
    error: str = ""
    seconds: float = 0.0
    summary: str = ""


@dataclass
class Dense:
    """A trained dense network and what was measured of it."""

    model: nn.Module
    metrics: dict[str, float]
    trajectory: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        return seconds_in(self.trajectory, "dense")


_loaded: dict[tuple[str, Path | None], Splits] = {}


def load_data(workload: Workload, root: Path | None, download: bool) -> Splits:
    """The workload's data; the last two that a process read are kept."""
    key = (json.dumps([workload.task, _options(workload)]), root)
    if key not in _loaded:
        splits = registry.make_task(workload.task, _options(workload)).load(root, download=download)
        while len(_loaded) >= 2:
            del _loaded[next(iter(_loaded))]
        _loaded[key] = splits
    return _loaded[key]


def _options(workload: Workload) -> dict[str, Any]:
    return {"dataset": workload.dataset, "model": workload.model, **workload.options}


def preflight(cells: list[Cell], settings: Settings) -> None:
    """Refuse before anything is trained what would fail later: data, networks, budgets.

    Raises:
        RequestError: the first problem, in a sentence.
    """
    resolve_device(settings.device)
    seen: set[tuple[str, float, int]] = set()
    graphs: dict[str, PruningGraph] = {}
    for cell in cells:
        workload = cell.workload
        key = workload.name
        if (key, cell.budget, cell.round_to) in seen:
            continue
        seen.add((key, cell.budget, cell.round_to))
        if key not in graphs:
            task = registry.make_task(workload.task, _options(workload))
            data = load_data(workload, settings.data_root, settings.download)
            network = fresh_network(task, data.info, 0)
            graphs[key] = PruningGraph.trace(network, task.example(data.info))
            if not graphs[key].groups:
                raise RequestError(f"workload {workload.name}: no channel of {workload.model} can be pruned")
        try:
            budgets.require_reachable(graphs[key], Budget(cell.budget, cell.tolerance), round_to=cell.round_to)
        except RequestError as error:
            raise RequestError(f"workload {workload.name}: {error}") from None
    workload_of = {cell.id: cell.workload for cell in cells}
    for cell in cells:
        origin = workload_of.get(cell.transfer or "")
        if origin is None:
            continue
        groups = [(g.name, g.size) for g in graphs[origin.name].groups]
        if not matching(groups, graphs[cell.workload.name])[0]:
            raise RequestError(
                f"workload {cell.workload.name}: nothing of {origin.model} can be transferred to "
                f"{cell.workload.model}: no channel group of one has a namesake of its size in the other"
            )


def run_dense(workload: Workload, seed: int, settings: Settings, emit: Emit) -> Outcome:
    """Train the dense network of a workload and seed, unless it is recorded."""
    identity, label = dense_id(workload, seed), f"{workload.name} dense seed {seed}"

    def work(run: TrackedRun, folder: Path) -> tuple[str, str]:
        task, data, device = _set_up(workload, settings)
        model, trajectory = fresh_network(task, data.info, seed), []
        saved = load_state(folder / "train.pt")
        run.rows(saved["rows"] if saved else [])
        train(
            model,
            task,
            data.train,
            workload.train,
            epochs=workload.epochs.dense,
            seed=seed,
            device=device,
            phase="dense",
            val=data.val,
            checkpoint=folder / "train.pt",
            trajectory=trajectory,
            on_epoch=_on_epoch(run, identity, emit),
            progress=_on_step(identity, emit),
        )
        metrics = task.evaluate(model, data.test(), device, workload.train)
        example = task.example(data.info)
        with tempfile.TemporaryDirectory() as out:
            save_model(model.cpu(), str(Path(out, "model.safetensors")))
            run.folder(Path(out), "model")
        run.parameters({"workload": workload.identity(), "seed": seed, "kind": "dense"})
        run.final({f"final.{k}": v for k, v in metrics.items()} | {"macs": count_macs(model, example)})
        facts = json.dumps({"metrics": metrics, "trajectory": trajectory, "label": label})
        return f"{task.metric} {metrics[task.metric]:.2f}{task.unit}", facts

    return _tracked(identity, "dense", label, settings, emit, work, lambda run_id, error: json.dumps({"error": error}))


def run_cell(cell: Cell, settings: Settings, emit: Emit) -> Outcome:
    """Run one cell and record what came of it; a failure is recorded too, never raised."""
    started = _now()

    def work(run: TrackedRun, folder: Path) -> tuple[str, str]:
        record = _measure(cell, settings, run, folder, emit, started)
        run.final({k: v for k, v in record.row().items() if isinstance(v, int | float) and not isinstance(v, bool)})
        summary = (
            f"{record.metric_name} {record.final_metrics[record.metric_name]:.2f}{record.metric_unit} at "
            f"{record.macs_pruned / record.macs_dense:.4f} of the MACs"
        )
        return summary, record.model_dump_json()

    def failure(run_id: str, error: str) -> str:
        record = Record(
            suite=settings.suite,
            cell_id=cell.id,
            run_id=run_id,
            status="failed",
            cell=cell.model_dump(mode="json"),
            environment=environment(settings.device, "unknown"),
            started_at=started,
            finished_at=_now(),
            error=error,
            traceback=traceback.format_exc(),
        )
        return record.model_dump_json()

    return _tracked(cell.id, "cell", cell.label, settings, emit, work, failure)


def _measure(cell: Cell, settings: Settings, run: TrackedRun, folder: Path, emit: Emit, started: str) -> Record:
    """The flow of one cell: search, fit, prune, check, recover, evaluate."""
    workload, budget = cell.workload, Budget(cell.budget, cell.tolerance)
    task, data, device = _set_up(workload, settings)
    run.parameters(cell.identity())
    example = task.example(data.info)
    loop: dict[str, Any] = {
        "device": device,
        "on_epoch": _on_epoch(run, cell.id, emit),
        "progress": _on_step(cell.id, emit),
    }
    fresh = fresh_network(task, data.info, cell.seed)
    dense = load_dense(cell, settings, fresh)
    ctx = Context(
        task=task,
        data=data.visible,
        device=device,
        seed=cell.seed,
        epochs=cell.search_epochs,
        recipe=workload.train,
        workdir=folder,
        on_epoch=loop["on_epoch"],
        progress=loop["progress"],
    )
    for checkpoint in ("recovery.pt", "found.pt", "search.pt"):
        saved = load_state(folder / checkpoint)
        if saved is not None:
            run.rows(saved["rows"])
            break

    graph = PruningGraph.trace(dense.model, example)
    emit({"event": "stage", "id": cell.id, "stage": "search"})
    source, fitted, search_seconds = _search(cell, dense.model, graph, budget, ctx, folder, settings)
    pruned = prune(source, graph, fitted.pruning)
    macs_dense, macs_pruned = count_macs(dense.model, example), count_macs(pruned, example)
    if macs_pruned != round(fitted.macs_ratio * macs_dense):
        raise CellError(
            f"the pruned network has {macs_pruned} MACs where the cost model says "
            f"{round(fitted.macs_ratio * macs_dense)}: the structural engine is wrong about {workload.model}"
        )
    ratio, within = budgets.check(pruned, example, budget, macs_dense)

    emit({"event": "stage", "id": cell.id, "stage": "recovery"})
    before = recalibrate(copy.deepcopy(pruned), data.train, device, seed=cell.seed, recipe=workload.train)
    thin = thinner_initialisation(fresh, prune(fresh, graph, fitted.pruning))
    trajectory = ctx.trajectory
    final = recover(
        pruned,
        thin,
        dense.model,
        task,
        data.visible,
        cell,
        checkpoint=folder / "recovery.pt",
        trajectory=trajectory,
        snapshots=ctx.snapshots,
        **loop,
    )

    emit({"event": "stage", "id": cell.id, "stage": "test"})
    test = data.test()  # the only reading of the test split in a cell
    recipe = recipe_of(cell)
    pruned_metrics = task.evaluate(thin if cell.from_scratch else before, test, device, recipe)
    final_metrics = task.evaluate(final if cell.recovery_epochs else before, test, device, recipe)
    if not cell.recovery_epochs:
        final = before
    references = task.references(data, test)
    drawn = task.pictures({"dense": dense.model, "pruned": final}, test, folder / "pictures", device, recipe)
    networks = (dense.model.to(device), final.to(device))
    with quiet() as alone:
        latency = compare_latencies(networks, example.to(device), min_seconds=0.2)
    if not alone:
        ctx.note("latency was measured while other cells ran beside: they could not be made to hold still")
    memory = [peak_memory(m, example.to(device)) for m in (dense.model, final)]
    record = Record(
        suite=settings.suite,
        cell_id=cell.id,
        run_id=run.run_id,
        status="finished",
        cell=cell.model_dump(mode="json"),
        metric_name=task.metric,
        higher_is_better=task.higher_is_better,
        metric_unit=task.unit,
        dense_metrics=dense.metrics,
        pruned_metrics=pruned_metrics,
        final_metrics=final_metrics,
        reference_metrics=references,
        input_shape=list(example.shape),
        data_info=dataclasses.asdict(data.info),
        data_fingerprint=data.fingerprint,
        macs_dense=macs_dense,
        macs_pruned=macs_pruned,
        params_dense=count_params(dense.model),
        params_pruned=count_params(final),
        audit=Audit(
            requested=cell.budget,
            tolerance=cell.tolerance,
            native_macs_ratio=fitted.native_macs_ratio,
            fitted_channels=fitted.fitted_channels,
            macs_ratio=ratio,
            within=within,
            note=fitted.note,
        ),
        groups=[
            GroupWidth(name=g.name, size=g.size, width=fitted.widths[g.name], native_width=fitted.native_widths[g.name])
            for g in graph.groups
        ],
        dropped_blocks=list(fitted.pruning.drop_blocks),
        left_whole=dict(graph.skipped),
        latency_dense=_figures(latency[0]),
        latency_pruned=_figures(latency[1]),
        peak_memory_dense=memory[0],
        peak_memory_pruned=memory[1],
        ledger=Ledger(
            dense_epochs=workload.epochs.dense if cell.needs_dense else 0,
            search_epochs=cell.search_epochs,
            recovery_epochs=cell.recovery_epochs,
            dense_seconds=dense.seconds if cell.needs_dense else 0.0,
            search_seconds=search_seconds,
            recovery_seconds=seconds_in(trajectory, "recovery"),
            device=device.type,
        ),
        trajectory=[*dense.trajectory, *trajectory],
        snapshots=ctx.snapshots,
        pictures=[f"pictures/{name}" for name in drawn],
        notes=[*data.notes, *ctx.notes],
        environment=environment(device.type, resolve_precision(recipe, device)),
        started_at=started,
        finished_at=_now(),
    )
    with tempfile.TemporaryDirectory() as out:
        save_pruned(Path(out, "model"), final.cpu(), fitted.pruning)
        from bench.runs.pictures import save_widths

        save_widths(record, Path(out, "widths.png"))
        if drawn:
            shutil.copytree(folder / "pictures", Path(out, "pictures"))
        run.folder(Path(out))
    return record


def _search(
    cell: Cell, dense: nn.Module, graph: PruningGraph, budget: Budget, ctx: Context, folder: Path, settings: Settings
) -> tuple[nn.Module, Fitted, float]:
    """What the method found, fitted to the budget: (network to cut, fit, seconds). Kept across restarts."""
    saved = load_state(folder / "found.pt")
    if saved is None:
        start = time.perf_counter() - waited()
        if cell.transfer is not None:
            source = _source(cell, settings)
            found, said = transferred(source.groups, source.dropped_blocks, dense, graph, budget)
            ctx.note(f"transfer from {source.config.label}: {said}")
        else:
            method = registry.make_method(cell.adapter, cell.hyper)
            found = method.search(copy.deepcopy(dense), graph, ctx.task, budget, ctx)
        fitted = budgets.fit(graph, found, budget, round_to=cell.round_to)
        # A resumed search's earlier epochs are in its trajectory; the clock saw only this process.
        seconds = max(time.perf_counter() - waited() - start, seconds_in(ctx.trajectory, "search"))
        saved = {
            "pruning": fitted.pruning.to_dict(),
            "fitted": {
                "widths": fitted.widths,
                "native_widths": fitted.native_widths,
                "native_macs_ratio": fitted.native_macs_ratio,
                "fitted_channels": fitted.fitted_channels,
                "macs_ratio": fitted.macs_ratio,
                "within": fitted.within,
                "note": fitted.note,
            },
            "weights": found.model.state_dict() if found.model is not None else None,
            "seconds": seconds,
            "rows": list(ctx.trajectory),
            "snapshots": dict(ctx.snapshots),
            "notes": list(ctx.notes),
        }
        save_state(folder / "found.pt", saved)
    ctx.trajectory[:] = saved["rows"]
    ctx.snapshots.clear()
    ctx.snapshots.update(saved["snapshots"])
    ctx.notes[:] = saved["notes"]
    source = copy.deepcopy(dense)
    if saved["weights"] is not None:
        source.load_state_dict(saved["weights"])
    fitted = Fitted(pruning=Pruning.from_dict(saved["pruning"]), **saved["fitted"])
    return source, fitted, saved["seconds"]


def _source(cell: Cell, settings: Settings) -> Record:
    """The record of the cell whose pruning is transferred.

    Raises:
        CellError: it is not recorded as finished.
    """
    assert cell.transfer is not None
    tracker = _tracker(settings.tracking_uri, settings.suite)
    state = tracker.best().get(cell.transfer)
    if state is None or state.status != "finished":
        raise CellError(f"cell {cell.transfer}, whose pruning is transferred, is not recorded as finished")
    return tracker.record(state)


def load_dense(cell: Cell, settings: Settings, like: nn.Module) -> Dense:
    """The recorded dense network that the cell starts from; for a cell that needs none, its figures all the same.

    Raises:
        CellError: it is not recorded as finished.
    """
    tracker = _tracker(settings.tracking_uri, settings.suite)
    state = tracker.best().get(cell.dense_id)
    if state is None or state.status != "finished":
        raise CellError(f"the dense network of {cell.workload.name} with seed {cell.seed} is not trained")
    facts = json.loads(tracker.read_text(state.run_id, "record.json"))
    model = copy.deepcopy(like)
    with tracker.artifact(state.run_id, "model") as folder:
        load_model(model, str(folder / "model.safetensors"))
    return Dense(model, facts["metrics"], facts["trajectory"])


def _tracked(
    identity: str,
    kind: str,
    label: str,
    settings: Settings,
    emit: Emit,
    work: Callable[[TrackedRun, Path], tuple[str, str]],
    failure: Callable[[str, str], str],
) -> Outcome:
    """Run `work` under an MLflow run of its own; whatever it raises is recorded as a failure."""
    tracker, start = _tracker(settings.tracking_uri, settings.suite), time.perf_counter()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = settings.work / settings.suite / identity
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = tracker.claim(identity, kind, label, settings.parent_run, _tags(settings))
    except Taken as other:
        return Outcome(identity, label, kind, "taken", str(other))
    emit({"event": "start", "id": identity, "label": label, "kind": kind})
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    outcome = Outcome(identity, label, kind, "failed")
    try:
        log.info("%s starts as run %s", label, run.run_id)
        summary, record = work(run, folder)
        log.info("%s: %s", label, summary)
        _upload_log(run, folder)
        run.finish(record)
        outcome = Outcome(identity, label, kind, "finished", summary=summary)
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        first = text if isinstance(error, CellError | RequestError) else f"{type(error).__name__}: {text}"
        log.exception("%s failed", label)
        outcome.error = " ".join(first.split())[:500]
        _upload_log(run, folder)
        run.fail(failure(run.run_id, outcome.error))
    finally:
        log.removeHandler(handler)
        handler.close()
    outcome.seconds = time.perf_counter() - start
    if outcome.status == "finished":
        shutil.rmtree(folder, ignore_errors=True)
    emit({"event": "end", "id": identity, "label": label, "kind": kind, "outcome": outcome})
    return outcome


def _upload_log(run: TrackedRun, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        shutil.copy(folder / "log.txt", Path(out, "log.txt"))
        run.folder(Path(out))


@lru_cache(maxsize=4)
def _tracker(uri: str, suite: str) -> Tracker:
    return Tracker(uri, suite)


def _set_up(workload: Workload, settings: Settings) -> tuple[Task, Splits, torch.device]:
    task = registry.make_task(workload.task, _options(workload))
    return task, load_data(workload, settings.data_root, settings.download), resolve_device(settings.device)


def _tags(settings: Settings) -> dict[str, str]:
    facts = environment("cpu", "")
    return {f"prunebench.{k}": facts[k] for k in ("prunebench", "git_commit", "python", "torch", "processor")}


def _on_epoch(run: TrackedRun, identity: str, emit: Emit) -> Callable[[str, int, dict[str, Any]], None]:
    def report(phase: str, epoch: int, row: dict[str, Any]) -> None:
        run.epoch(phase, epoch, row)
        figures = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        log.info("%s epoch %d: %s", phase, epoch, figures)
        emit({"event": "epoch", "id": identity, "phase": phase, "epoch": epoch, "row": row})

    return report


def _on_step(identity: str, emit: Emit) -> Callable[[str, int, int, float], None]:
    def report(phase: str, step: int, steps: int, loss: float) -> None:
        emit({"event": "step", "id": identity, "phase": phase, "step": step, "steps": steps, "loss": loss})

    return report


def _figures(latency: Latency) -> LatencyFigures:
    return LatencyFigures(
        median_ms=latency.median_ms,
        iqr_ms=latency.iqr_ms,
        batch_size=1,
        threads=latency.threads,
        device=latency.device,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
