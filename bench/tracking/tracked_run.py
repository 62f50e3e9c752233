"""The MLflow run of one job, while it is being run: what it logs, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from bench.tracking.connect import StoreAwayError, StoreError, retry
from bench.tracking.heart import Lease
from bench.tracking.outbox import Outbox
from bench.tracking.places import seal_of_record
from bench.tracking.states import LOST, SEAL, TAG
from bench.tracking.uploads import upload


class AlreadyRunning(Exception):
    """The cell is being run by another process that is alive; the message names its run."""


class LeaseLostError(AlreadyRunning):
    """The run was taken over or closed by another process while this one worked on it."""


class TrackedRun:
    """The MLflow run of one cell, while it is being run.

    Args:
        lease: that it is ours; None for one that is ended on behalf of a process that is gone.
        release: called with the run's id when it has ended.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        lease: Lease | None = None,
        release: Callable[[str], None] | None = None,
    ) -> None:
        self._client, self.run_id, self._lease, self._release = client, run_id, lease, release
        self._outbox = Outbox()
        self.has_uploads = False
        """Whether this run, or one that it replaces, has checkpoints in the store."""

    def upload(self, file: Path, epoch: int) -> None:
        """Upload the checkpoint after an epoch, beside the one before it (`bench.tracking.uploads`).

        A store that is away is not waited for.

        Raises:
            StoreError: it cannot be stored now; the one before it is untouched.
            LeaseLostError: as for `check`.
        """
        self.has_uploads = True
        self._now(lambda: upload(self._client, self.run_id, file, epoch, patience=0.0), retried=True)

    def check(self) -> None:
        """Raise where going on is of no use.

        Raises:
            LeaseLostError: another process has taken the run over, or closed it.
            StoreError: the store could not be reached for so long that figures of epochs were given up.
        """
        if self._lease is not None and self._lease.is_lost:
            raise self._lost()
        if self._outbox.failure is not None:
            self._drain()

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log nested values as flat parameters."""
        flat = [Param(k, v) for k, v in _flatten(values)]
        for start in range(0, len(flat), 100):
            part = flat[start : start + 100]
            self._now(lambda p=part: self._client.log_batch(self.run_id, params=p))

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None:
        """Log one epoch's figures as `phase.name`; they go out beside the work, and `flush` waits for them."""
        self.rows([{**row, "phase": phase, "epoch": epoch}])

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log several epochs at once: what a resumed run had logged under the run that it replaces."""
        now = int(time.time() * 1000)  # of one point's time, value and step MLflow keeps one, however often it is sent
        metrics = [
            Metric(f"{row['phase']}.{name}", float(value), now, int(row["epoch"]))
            for row in rows
            for name, value in row.items()
            if name not in ("phase", "epoch") and isinstance(value, int | float)
        ]
        for start in range(0, len(metrics), 900):
            part = metrics[start : start + 900]
            self._outbox.put(lambda p=part: retry(lambda: self._client.log_batch(self.run_id, metrics=p)))

    def flush(self) -> None:
        """Wait until the figures of all epochs are stored.

        Raises:
            LeaseLostError, StoreError: as for `check`.
        """
        self._drain()

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the suite's own on the run."""
        own = [RunTag(TAG + name, value) for name, value in values.items()]
        self._now(lambda: self._client.log_batch(self.run_id, tags=own))

    def final(self, values: Mapping[str, float | int | None]) -> None:
        """Log the figures that the cell ends with."""
        now = int(time.time() * 1000)
        metrics = [Metric(k, float(v), now, 0) for k, v in values.items() if v is not None]
        self._now(lambda: self._client.log_batch(self.run_id, metrics=metrics))

    def folder(self, path: Path, name: str | None = None) -> None:
        """Store a folder's files as artifacts."""
        self._now(lambda: self._client.log_artifacts(self.run_id, str(path), name))

    def finish(self, record_json: str) -> None:
        """Store the record, then mark the run as finished: from here on the cell counts.

        Raises:
            LeaseLostError: another process has taken the run over; this result does not count.
        """
        self._end(record_json, "FINISHED")

    def fail(self, record_json: str) -> None:
        """Store the record of a failure and mark the run as failed.

        Raises:
            LeaseLostError: as for `finish`.
        """
        self._end(record_json, "FAILED")

    def delete(self) -> None:
        """Move the run to MLflow's deleted ones: another takes its place."""
        retry(lambda: self._client.delete_run(self.run_id))

    def give_up(self, reason: str) -> None:
        """Close the run without a result, say why, and delete it: the job is not recorded."""
        retry(lambda: self._client.set_tag(self.run_id, LOST, reason), tries=1)
        retry(lambda: self._client.set_terminated(self.run_id, "KILLED"), tries=1)
        self.delete()

    def let_go(self) -> None:
        """Show no more that the run is alive."""
        if self._release is not None:
            self._release(self.run_id)

    def _end(self, record_json: str, status: str) -> None:
        self._drain()
        self._now(lambda: self._client.log_text(self.run_id, record_json, "record.json"))
        if sealed := seal_of_record(record_json):
            self._now(lambda: self._client.set_tag(self.run_id, SEAL, sealed))
        self._now(lambda: self._client.set_terminated(self.run_id, status))
        self.let_go()
        found = retry(lambda: self._client.get_run(self.run_id))
        if found.info.lifecycle_stage != "active" or found.info.status != status or LOST in found.data.tags:
            raise self._lost()

    def _drain(self) -> None:
        self._now(self._outbox.drain, retried=True)

    def _now(self, call: Callable[[], object], *, retried: bool = False) -> None:
        try:
            call() if retried else retry(call)
        except StoreError as error:
            if isinstance(error, StoreAwayError) or not self._is_taken():
                raise
            raise self._lost() from error

    def _is_taken(self) -> bool:
        return retry(lambda: self._client.get_run(self.run_id)).info.lifecycle_stage != "active"

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(f"run {self.run_id} was taken over by another process")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:500]
