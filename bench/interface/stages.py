"""The identity of a cell's search: what decides its result, and nothing else. Imports no torch.

A cell has three stages. The dense network has an identity of its own (`Cell.dense_id`), the search has the one that is
made here, and what comes of recovery is the cell's (`Cell.id`).
"""

from __future__ import annotations

from typing import Any

from bench.interface.cell import PROTOCOL_VERSION, Cell, digest
from bench.interface.source import source_hash


def searched_cell(cell: Cell) -> Cell | None:
    """The cell, whatever its recovery, whose method makes the search that this cell starts from.

    None where no search is stored for it: its method trains nothing while it decides, or it takes over what was found
    on another workload.
    """
    if not cell.searches or cell.transfer is not None:
        return None
    if cell.source is None:
        return cell
    return cell.model_copy(update={"source": None, "ablation": None})


def search_identity(cell: Cell) -> dict[str, Any]:
    """All that decides what the search of a cell that `searched_cell` gave finds.

    The hash of the method's source is in it, so that no search is taken for that of a method that has changed.

    Raises:
        RequestError: there is no such method any more.
    """
    parts = {
        "dense": cell.dense_id,
        "protect": list(cell.workload.protect) if cell.workload.protect else None,
        "recipe": cell.search_recipe.model_dump(mode="json"),
        "epochs": cell.search_epochs,
        "method": cell.adapter,
        "method_source": source_hash(cell.adapter),
        "hyper": cell.hyper,
        "budget": cell.budget,
        "budget_kind": cell.budget_kind,
        "tolerance": cell.tolerance,
        "round_to": cell.round_to,
        "blind": True if cell.ablation == "blind" else None,
        "seed": cell.seed,
    }
    return {
        "protocol_version": PROTOCOL_VERSION,
        "search": {name: value for name, value in parts.items() if value is not None},
    }


def search_id(cell: Cell) -> str | None:
    """Identity of the search that this cell starts from, shared by all cells that differ in what comes after it.

    None as of `searched_cell`.
    """
    known: dict[str, str | None] = vars(cell)  # kept with the cell, as what is computed of it once
    if "search_id" not in known:
        of = searched_cell(cell)
        known["search_id"] = None if of is None else digest(search_identity(of))
    return known["search_id"]
