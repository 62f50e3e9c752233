"""Checkpoints of unfinished jobs in the store, from which another machine goes on.

A run has two places for its checkpoint, used in turn. Its tag says which of them is whole, with the checksum of the
file, and changes once the upload has ended: until then, and where the file proves damaged, the one before it counts.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from bench.errors import first_line
from bench.tracking.connect import StoreError, all_runs, download, retry
from bench.tracking.places import sha256_of
from bench.tracking.states import TAG

logger = logging.getLogger("prunebench")

CHECKPOINT = TAG + "checkpoint"
"""Tag of a run that names its uploaded checkpoints, the newest first."""
FOLDER = "checkpoint"


@dataclass(frozen=True)
class Uploaded:
    """One checkpoint in the store."""

    run_id: str
    place: int
    """0 or 1."""
    name: str
    """Of the file."""
    epoch: int
    sha256: str

    @property
    def path(self) -> str:
        """Of the file among the run's artifacts."""
        return f"{FOLDER}/{self.place}/{self.name}"


def upload(client: MlflowClient, run_id: str, file: Path, epoch: int, patience: float | None = None) -> None:
    """Upload a checkpoint; the last one stays until this one is whole.

    Args:
        patience: as of `retry`.

    Raises:
        StoreError: it cannot be stored; the last one is untouched.
    """
    last = _listed(retry(lambda: client.get_run(run_id), patience=patience))[:1]
    place = 1 - last[0].place if last else 0
    made = Uploaded(run_id, place, file.name, epoch, sha256_of(file))
    retry(lambda: client.log_artifact(run_id, str(file), f"{FOLDER}/{place}"), patience=patience)
    tag = json.dumps([asdict(entry) for entry in (made, *last)])
    retry(lambda: client.set_tag(run_id, CHECKPOINT, tag), patience=patience)


def fetch(client: MlflowClient, entry: Uploaded, folder: Path) -> bool:
    """Put an uploaded checkpoint into a folder; False where it is gone or damaged, of which the log has a line."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        try:
            got = Path(retry(lambda: download(client, entry.run_id, entry.path, out), tries=2))
            problem = "" if sha256_of(got) == entry.sha256 else "its checksum does not hold"
        except (StoreError, OSError) as error:
            got, problem = None, first_line(error)
        if problem or got is None:
            logger.warning("uploaded checkpoint %s of run %s is left aside: %s", entry.path, entry.run_id, problem)
            return False
        got.replace(folder / entry.name)
        return True


def uploaded(client: MlflowClient, experiment: str, cell_id: str) -> list[Uploaded]:
    """What the runs of a job have uploaded, runs that another has replaced included: the newest first."""
    runs = sorted(_runs(client, experiment, cell_id), key=lambda run: run.info.start_time or 0, reverse=True)
    return [entry for run in runs for entry in _listed(run)]


def drop_uploads(client: MlflowClient, uri: str, experiment: str, cell_id: str) -> None:
    """Delete all that the runs of a job have uploaded."""
    for run in _runs(client, experiment, cell_id):
        if run.info.lifecycle_stage == "active":  # MLflow changes no tag of another
            retry(lambda run=run: client.delete_tag(run.info.run_id, CHECKPOINT))
        try:
            get_artifact_repository(run.info.artifact_uri or "", tracking_uri=uri).delete_artifacts(FOLDER)
        except (MlflowException, OSError, NotImplementedError) as error:
            logger.warning("checkpoints of run %s stay in the store: %s", run.info.run_id, first_line(error))


def _runs(client: MlflowClient, experiment: str, cell_id: str) -> list[Run]:
    where = f"tags.`{TAG}cell_id` = '{cell_id}' and tags.`{CHECKPOINT}` LIKE '%'"
    return list(all_runs(client, [experiment], where, ViewType.ALL))


def _listed(run: Run) -> list[Uploaded]:
    return [Uploaded(**entry) for entry in json.loads(run.data.tags.get(CHECKPOINT, "[]"))]
