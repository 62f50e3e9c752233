"""Tables of small suites."""

from __future__ import annotations

from typing import Any


def table(**changes: Any) -> dict[str, Any]:
    """A suite with these fields changed."""
    base: dict[str, Any] = {
        "name": "t",
        "methods": ["l1"],
        "budgets": [0.5, 0.25],
        "seeds": [0, 1],
        "workloads": [
            {"task": "classification", "dataset": "digits", "model": "resnet8", "epochs": {"dense": 2, "recovery": 1}}
        ],
    }
    return {**base, **changes}


def changed_workload(**changes: Any) -> dict[str, Any]:
    """A suite with these fields of its workload changed."""
    return table(workloads=[{**table()["workloads"][0], **changes}])
