"""What other experiments of a store have recorded: ids have no suite in them."""

from __future__ import annotations

from mlflow.tracking import MlflowClient

from bench.tracking.connect import all_runs, retry
from bench.tracking.states import TAG


def finished_elsewhere(client: MlflowClient, experiment: str, cell_id: str = "") -> dict[str, list[str]]:
    """By id, the names of the other experiments in which it has finished, the earliest first.

    Args:
        experiment: the own one's id.
        cell_id: look for this one alone.
    """
    names = {e.experiment_id: e.name for e in retry(client.search_experiments)}
    names.pop(experiment, None)
    found: dict[str, list[str]] = {}
    where = "attributes.status = 'FINISHED'" + (f" and tags.`{TAG}cell_id` = '{cell_id}'" if cell_id else "")
    for run in all_runs(client, list(names), where, order="attributes.start_time ASC") if names else ():
        identity = run.data.tags.get(TAG + "cell_id")
        if identity:
            found.setdefault(identity, []).append(names[run.info.experiment_id])
    return {identity: list(dict.fromkeys(suites)) for identity, suites in found.items()}
