"""Which recorded cells came from other code of their method than there is now. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.errors import RequestError
from bench.interface.cell import Cell
from bench.interface.source import source_hash
from bench.interface.stages import search_id
from bench.tracking.states import SOURCE, TAG, RunState


def made_with_other_code(cells: Iterable[Cell], states: Mapping[str, RunState]) -> list[Cell]:
    """The finished ones of these cells whose method has another source today than when they were made.

    Cells that an earlier release recorded, without their method's source, are not among them.
    """
    found: list[Cell] = []
    for cell in cells:
        state = states.get(cell.id)
        then = state.tags.get(TAG + SOURCE) if state is not None and state.status == "finished" else None
        if then and then != _now(cell.adapter):
            found.append(cell)
    return found


def _now(adapter: str) -> str:
    try:
        return source_hash(adapter)
    except RequestError:
        return ""  # it cannot be loaded any more


def warnings_of(cells: Iterable[Cell], states: Mapping[str, RunState]) -> list[str]:
    """A sentence for each method of `made_with_other_code`, with how its cells are made again."""
    by_method: dict[str, list[Cell]] = {}
    for cell in made_with_other_code(cells, states):
        by_method.setdefault(cell.plain_method, []).append(cell)
    return [
        f"{method} has changed: {_cells(len(of))} recorded with other code ({_hashes(of, states)}, now "
        f"{_now(of[0].adapter) or 'gone'}); --rerun --only method={method} makes them again"
        for method, of in by_method.items()
    ]


def _cells(count: int) -> str:
    return "1 cell is" if count == 1 else f"{count} cells are"


def _hashes(cells: Iterable[Cell], states: Mapping[str, RunState]) -> str:
    return ", ".join(sorted({states[cell.id].tags[TAG + SOURCE] for cell in cells}))


def with_dependents(chosen: Sequence[Cell], cells: Iterable[Cell]) -> list[Cell]:
    """The chosen cells, and those of a suite that take over what one of them finds: made again with it."""
    found = {cell.id: cell for cell in chosen}
    for cell in cells:  # a cell that is taken over stands before those that take it over
        if found.keys() & {cell.source, cell.transfer}:
            found.setdefault(cell.id, cell)
    return list(found.values())


def searches_of(chosen: Sequence[Cell], cells: Iterable[Cell]) -> set[str]:
    """Ids of the searches that are made again with the chosen cells: those that no other cell starts from."""
    picked = {cell.id for cell in chosen}
    kept = {search_id(cell) for cell in cells if cell.id not in picked}
    return {identity for cell in chosen if (identity := search_id(cell)) is not None and identity not in kept}
