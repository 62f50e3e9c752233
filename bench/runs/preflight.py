"""Refuses before anything is trained what would fail later: data, networks, budgets, transfers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import nn

from bench.errors import RequestError, reason_of
from bench.interface import registry
from bench.interface.cell import Cell, Given, Workload
from bench.interface.method import Budget, left_whole
from bench.interface.own_network import build_own, is_own
from bench.runs.events import Say, untold
from bench.runs.folders import can_be_written, nearest_existing
from bench.runs.job import Settings
from bench.runs.network import usable_graph
from bench.runs.place import require_devices
from bench.runs.workload import LoadedWorkload, load_workload, task_options
from bench.search.fit import require_reachable
from bench.search.transfer import matching
from bench.structure.graph import PruningGraph
from bench.training.device import resolve_device
from bench.training.weights import load_weights


def preflight(
    cells: Sequence[Cell],
    settings: Settings,
    made_with: Mapping[str, Collection[str]],
    say: Say = untold,
) -> None:
    """Load every data set, try and trace every network, and try every budget and transfer of these cells.

    Args:
        made_with: the data that results on record were made with, as `Agenda.made_with`.
        say: is told what is tried.

    Raises:
        RequestError: the first problem, in a sentence.
    """
    resolve_device(settings.device)
    require_devices(settings)
    _require_work_folder(settings.work)
    graphs: dict[str, PruningGraph] = {}
    tried: set[tuple[str, str, int, str]] = set()
    for cell in cells:
        name = cell.workload.name
        place = (name, cell.budget_text, cell.round_to, json.dumps([cell.adapter, cell.hyper]))
        if place in tried:
            continue
        tried.add(place)
        if name not in graphs:
            say(f"{settings.suite}: reading data of {name}")
            loaded = _loaded(cell.workload, settings)
            _require_same_data(loaded, made_with)
            say(f"{settings.suite}: trying network and budgets of {name}")
            graphs[name] = usable_graph(loaded)
        fixed: frozenset[str] = frozenset()
        try:
            fixed = left_whole(registry.make_method(cell.adapter, cell.hyper), graphs[name])
            budget = Budget(cell.budget, cell.tolerance, cell.kind)
            require_reachable(graphs[name], budget, round_to=cell.round_to, fixed=fixed)
        except RequestError as error:
            whole = f", method {cell.method}" if fixed else ""
            raise RequestError(f"workload {name}{whole}: {error}") from None
    _require_matches(cells, graphs)


def _require_work_folder(folder: Path) -> None:
    """Refuse a work folder that checkpoints cannot be written to; nothing is created yet."""
    if not can_be_written(nearest_existing(folder)):
        raise RequestError(f"work folder {folder} cannot be written; set PRUNEBENCH_WORK to another folder")


def _loaded(workload: Workload, settings: Settings) -> LoadedWorkload:
    """The workload with its data; whatever the task's adapter raises becomes a sentence."""
    try:
        options = task_options(workload)
        if is_own(options["model"]):  # what takes no data is tried before they are read
            network = build_own(options["model"], options.get("model_args"))
            if workload.weights is not None:
                _require_fit(network, options["model"], workload.weights)
        return load_workload(workload, settings)
    except RequestError as error:
        raise RequestError(f"workload {workload.name}: {error}") from None
    except (Exception, SystemExit, GeneratorExit) as error:
        raise RequestError(f"workload {workload.name}: its data cannot be loaded: {reason_of(error)}") from error


def _require_fit(network: nn.Module, name: str, weights: Given) -> None:
    """Refuse weights that do not fit the network, which gets them."""
    try:
        load_weights(network, Path(weights.path), weights.sha256)
    except RequestError as error:
        raise RequestError(f"{name}: {error}") from None


def _require_same_data(loaded: LoadedWorkload, made_with: Mapping[str, Collection[str]]) -> None:
    """Refuse data that changed since results of this workload were recorded: no table may mix the two."""
    here, known = loaded.data.fingerprint, made_with.get(loaded.workload.id, ())
    if known and here not in known:
        raise RequestError(
            f"workload {loaded.workload.name}: its data changed since results were recorded (fingerprint {here}, on "
            f"record {', '.join(sorted(known))}); put the data back, or give the suite another name or another "
            "--tracking-uri"
        )


def _require_matches(cells: Sequence[Cell], graphs: dict[str, PruningGraph]) -> None:
    """Refuse a transfer between two networks that have no channel group in common."""
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
