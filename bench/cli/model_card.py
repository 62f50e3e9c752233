"""`card.json` beside an exported network: all that a program which runs it must know, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.interface.exported import info_of, network_facts
from bench.interface.task import Task, deployment

if TYPE_CHECKING:
    from bench.interface.record import Record

FORMAT, VERSION = "prunebench-card", 1
_PACKAGES = ("prunebench", "git_commit", "python", "torch")


def card_of(record: Record, task: Task, options: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """The card of a cell's network.

    Args:
        options: the fields of the task's adapter.
        files: what is in each file beside it, by name.
    """
    cell, info = record.config, info_of(record.data_info)
    kept = {
        "macs": record.macs_pruned / record.macs_dense,
        "params": record.params_pruned / record.params_dense if record.params_dense else None,  # not in old records
    }
    found = {
        "format": FORMAT,
        "version": VERSION,
        "cell": record.cell_id,
        "suite": record.suite,
        "task": cell.workload.task,
        "dataset": cell.workload.dataset,
        "model": cell.workload.model,
        "method": cell.title,
        "seed": cell.seed,
        "recovery": cell.recovery,
        "budget": {
            "asked": cell.budget,
            "of": cell.kind,
            "kept": kept[cell.kind],
            "kept_macs": kept["macs"],
            "kept_parameters": kept["params"],
            "macs_dense": record.macs_dense,
            "macs": record.macs_pruned,
            "parameters_dense": record.params_dense,
            "parameters": record.params_pruned,
            "at_input": record.input_shape,
        },
        "metrics": {
            "ranked_by": record.metric_name,
            "unit": record.metric_unit,
            "higher_is_better": record.higher_is_better,
            "test": record.final_metrics,
            "test_dense": record.dense_metrics,
        },
        **deployment(task, info),
        "files": files,
        "network": network_facts(cell.workload, options, record.data_info),
        "made_with": {name: record.environment[name] for name in _PACKAGES if name in record.environment},
    }
    weights = cell.workload.weights
    return found | ({"weights_sha256": weights.sha256} if weights else {})
