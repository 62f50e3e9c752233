"""How tables name workloads, methods and transfers, so that no two configurations share a name."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from bench.interface.cell import BUDGET_WORDS, Cell


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key in value:
            found |= flatten(value[key], f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: value}


def canonical(value: Any) -> str:
    """Equal values as equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def distinguish(configurations: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What tells each configuration from the others: `epsilon=0.1, rounds=2`; empty where there is only one."""
    if len(configurations) < 2:
        return dict.fromkeys(configurations, "")
    flat = {key: flatten(value) for key, value in configurations.items()}
    fields = sorted({name for value in flat.values() for name in value})
    differing = [name for name in fields if len({canonical(value.get(name)) for value in flat.values()}) > 1]
    short = {name: name.rsplit(".", 1)[-1] for name in differing}
    if len(set(short.values())) < len(short):
        short = {name: name for name in differing}
    return {
        key: ", ".join(f"{short[name]}={_plain(value[name])}" for name in differing if name in value)
        for key, value in flat.items()
    }


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell_labels(cells: Mapping[str, Cell]) -> dict[str, tuple[str, str]]:
    """Labels of the workload and of the method, by cell id.

    Where two configurations share a name, the label says in what they differ.
    """
    each = {id(cell.workload): cell.workload for cell in cells.values()}  # cells of a workload mostly share one object
    identities = {place: workload.identity() for place, workload in each.items()}
    texts = {place: canonical(identity) for place, identity in identities.items()}
    workloads = {cell_id: identities[id(cell.workload)] for cell_id, cell in cells.items()}
    workload_keys = {cell_id: texts[id(cell.workload)] for cell_id, cell in cells.items()}
    variants = {cell_id: _variant(cell) for cell_id, cell in cells.items()}
    variant_keys = {cell_id: canonical(variant) for cell_id, variant in variants.items()}
    # Variants are told apart among cells of one workload, protocol and method name.
    places = {
        cell_id: (cell.workload.name, workload_keys[cell_id], cell.protocol, cell.method)
        for cell_id, cell in cells.items()
    }
    workloads_of_name: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    variants_of_place: dict[tuple[str, str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for cell_id, cell in cells.items():
        workloads_of_name[cell.workload.name][workload_keys[cell_id]] = workloads[cell_id]
        variants_of_place[places[cell_id]][variant_keys[cell_id]] = variants[cell_id]
    of_workload = {name: distinguish(choices) for name, choices in workloads_of_name.items()}
    of_variant = {place: distinguish(choices) for place, choices in variants_of_place.items()}
    return {
        cell_id: (
            _named(cell.workload.name, of_workload[cell.workload.name][workload_keys[cell_id]]),
            _named(cell.method, of_variant[places[cell_id]][variant_keys[cell_id]]),
        )
        for cell_id, cell in cells.items()
    }


def _variant(cell: Cell) -> dict[str, Any]:
    """All by which two cells of one method name can differ beside workload, protocol, budget, seed and recovery."""
    plain = {**cell.hyper, "round_to": cell.round_to, "tolerance": cell.tolerance, "searches": cell.searches}
    timed = {f"latency_{name}": list(values) for name, values in cell.latency or ()}
    return plain | timed


def _named(name: str, difference: str) -> str:
    return f"{name} ({difference})" if difference else name


def protocol_label(cell: Cell) -> str:
    """The protocol as tables name it: cells that hold different things equal share no section."""
    equal = ["equal steps"] * (cell.match == "steps")
    equal += [f"equal {BUDGET_WORDS[cell.kind]}"] * (cell.kind != "macs")
    return cell.protocol + (f" ({', '.join(equal)})" if equal else "")


def transfer_names(cells: Mapping[str, Cell], labels: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """How a pruning that was searched in a cell is named elsewhere: its workload and budget, by cell id."""
    return {cell_id: f"{labels[cell_id][0]} at {cell.budget:g}" for cell_id, cell in cells.items()}
