"""Refuses before anything is trained what would fail later: data, networks, budgets, transfers."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import RequestError
from bench.interface.cell import Cell
from bench.interface.method import Budget
from bench.runs.job import Settings
from bench.runs.network import usable_graph
from bench.runs.workload import load_workload
from bench.search.fit import require_reachable
from bench.search.transfer import matching
from bench.structure.graph import PruningGraph
from bench.training.device import resolve_device


def preflight(cells: Sequence[Cell], settings: Settings) -> None:
    """Load every data set, try and trace every network, and try every budget and transfer of these cells.

    Raises:
        RequestError: the first problem, in a sentence.
    """
    resolve_device(settings.device)
    graphs: dict[str, PruningGraph] = {}
    tried: set[tuple[str, float, int]] = set()
    for cell in cells:
        name = cell.workload.name
        if (name, cell.budget, cell.round_to) in tried:
            continue
        tried.add((name, cell.budget, cell.round_to))
        if name not in graphs:
            graphs[name] = usable_graph(load_workload(cell.workload, settings))
        try:
            require_reachable(graphs[name], Budget(cell.budget, cell.tolerance), round_to=cell.round_to)
        except RequestError as error:
            raise RequestError(f"workload {name}: {error}") from None
    _require_matches(cells, graphs)


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
