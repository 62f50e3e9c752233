"""MLflow as the system of record: one experiment a suite, a parent run an invocation, a child run a cell.

What is done is asked of MLflow, so that several machines on one server share the work. A cell counts once its run is
FINISHED; a run that a killed process left RUNNING is deleted and replaced, its history restored from the checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
# Beside a live display, lines of MLflow's own would be in the way.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from bench.errors import RequestError
from bench.interface.record import Record
from bench.tracking.address import redacted, server_address, sqlite_path
from bench.tracking.liveness import is_dead, process_start
from bench.tracking.rest import ask_server
from bench.tracking.states import FINAL, PARENT_TAG, TAG, RunState, best_of, run_state

T = TypeVar("T")


class AlreadyRunning(Exception):
    """The cell is being run by another process that is alive; the message names its run."""


class Tracker:
    """The runs of one suite on one MLflow store.

    Raises:
        RequestError: the store cannot be reached, read or written.
    """

    def __init__(self, uri: str, suite: str) -> None:
        self.uri, self.suite = uri, suite
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        artifacts = None
        scheme = urllib.parse.urlsplit(uri).scheme
        if scheme == "sqlite":
            path = sqlite_path(uri).resolve()
            if not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
                raise RequestError(f"tracking store {path} cannot be written: give another with --tracking-uri")
            artifacts = (path.parent / "mlartifacts" / suite).as_uri()
        elif scheme in ("http", "https"):
            with contextlib.suppress(FileNotFoundError):
                ask_server(uri, "experiments/get-by-name?experiment_name=prunebench")
        elif scheme not in ("file", "", "postgresql", "mysql", "mssql", "databricks"):
            raise RequestError(
                f"tracking URI {redacted(uri)} is not allowed; use sqlite:///FILE, http(s)://… or a folder"
            )
        try:
            self.client = MlflowClient(uri)
            self.experiment = self._experiment(artifacts)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise RequestError(f"tracking store {redacted(uri)} cannot be used: {reason}") from error

    @property
    def runs_page(self) -> str:
        """Address of a run's page on the tracking server, up to the run's id; "" where the store is no server."""
        if urllib.parse.urlsplit(self.uri).scheme not in ("http", "https"):
            return ""
        return f"{server_address(self.uri)}/#/experiments/{self.experiment}/runs/"

    @staticmethod
    def suites(uri: str) -> list[str]:
        """Names of all experiments of a store."""
        try:
            return [e.name for e in MlflowClient(uri).search_experiments()]
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise RequestError(f"tracking store {redacted(uri)} cannot be used: {error}") from error

    def _experiment(self, artifacts: str | None) -> str:
        known = self.client.get_experiment_by_name(self.suite)
        if known is None:
            try:
                return self.client.create_experiment(self.suite, artifact_location=artifacts)
            except MlflowException:
                # Another process may have been faster.
                known = self.client.get_experiment_by_name(self.suite)
                if known is None:
                    raise
        if known.lifecycle_stage == "deleted":
            raise RequestError(
                f"experiment {self.suite!r} was deleted in {redacted(self.uri)}; restore it there, or rename the suite"
            )
        return known.experiment_id

    def states(self, filter_string: str = "") -> list[RunState]:
        """Every run of the suite that is not deleted."""
        found: list[RunState] = []
        token: str | None = None
        while True:
            page = retry(
                lambda token=token: self.client.search_runs(
                    [self.experiment], filter_string, ViewType.ACTIVE_ONLY, max_results=1000, page_token=token
                )
            )
            found += [s for s in map(_state, page) if s is not None]
            token = page.token
            if not token:
                return found

    def best(self) -> dict[str, RunState]:
        """One run for each cell and dense network that is known: all are read, so ask once and not in a loop."""
        return best_of(s for s in self.states() if s.kind in ("cell", "dense"))

    def find(self, cell_id: str) -> RunState | None:
        """What `best` says of one cell or dense network, without reading the others."""
        return best_of(self.states(_of_cell(cell_id))).get(cell_id)

    def tracked(self, state: RunState) -> TrackedRun:
        """The run of this state, to be ended on behalf of a process that is gone."""
        return TrackedRun(self.client, state.run_id)

    def begin_invocation(self, description: str, tags: Mapping[str, str]) -> str:
        """A parent run for the cells of one call; those that dead processes left running are closed."""
        for state in self.states(f"tags.`{TAG}kind` = 'invocation'"):
            if state.status == "running" and is_dead(state):
                retry(lambda s=state: self.client.set_terminated(s.run_id, "KILLED"))
        return self._create(kind="invocation", cell_id="", label=description, parent_run=None, tags=tags)

    def end_invocation(self, run_id: str, status: str = "FINISHED") -> None:
        retry(lambda: self.client.set_terminated(run_id, status))

    def claim(
        self,
        cell_id: str,
        *,
        kind: str,
        label: str,
        parent_run: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedRun:
        """A new run for a cell or dense network, in place of those that dead processes left running.

        Args:
            kind: `cell` or `dense`.
            label: the run's name.
            parent_run: the invocation's run.
            tags: set beside the suite's own.

        Raises:
            AlreadyRunning: a live process has it.
        """
        where = _of_cell(cell_id)
        for state in self.states(where):
            if state.status == "running":
                if not is_dead(state):
                    raise AlreadyRunning(f"run {state.run_id} on {state.tags.get(TAG + 'host', '?')}")
                retry(lambda s=state: self.client.delete_run(s.run_id))
        run_id = self._create(kind=kind, cell_id=cell_id, label=label, parent_run=parent_run, tags=tags or {})
        # Two processes may have come this far together: the earlier run keeps the cell.
        rivals = [s for s in self.states(where) if s.status == "running"]
        if min(rivals, key=lambda s: (s.started, s.run_id)).run_id != run_id:
            retry(lambda: self.client.delete_run(run_id))
            raise AlreadyRunning(f"run {rivals[0].run_id}")
        return TrackedRun(self.client, run_id)

    def _create(self, *, kind: str, cell_id: str, label: str, parent_run: str | None, tags: Mapping[str, str]) -> str:
        own = {
            "kind": kind,
            "cell_id": cell_id,
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "process_start": process_start(os.getpid()),
            "heartbeat": f"{time.time():.0f}",
        }
        all_tags = {TAG + k: v for k, v in own.items()} | dict(tags)
        if parent_run:
            all_tags[PARENT_TAG] = parent_run
        return retry(lambda: self.client.create_run(self.experiment, tags=all_tags, run_name=label)).info.run_id

    def record(self, state: RunState) -> Record:
        """What a finished or failed run recorded."""
        return Record.model_validate_json(self.read_text(state.run_id, "record.json"))

    def records(self, states: Sequence[RunState]) -> list[Record]:
        """The records of many runs, read side by side."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.record, states))

    def read_text(self, run_id: str, path: str) -> str:
        """A text artifact of a run."""
        with self.artifact(run_id, path) as file:
            return file.read_text("utf-8")

    @contextlib.contextmanager
    def artifact(self, run_id: str, path: str) -> Iterator[Path]:
        """A run's artifact, file or folder, as a local path: in place where the store is local, else fetched."""
        root = retry(lambda: self.client.get_run(run_id)).info.artifact_uri or ""
        parts = urllib.parse.urlsplit(root)
        if parts.scheme in ("", "file"):
            yield Path(urllib.parse.unquote(parts.path)) / path
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(retry(lambda: self.client.download_artifacts(run_id, path, folder)))


class TrackedRun:
    """The MLflow run of one cell, while it is being run."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log nested values as flat parameters."""
        flat = [Param(k, v) for k, v in _flatten(values)]
        for start in range(0, len(flat), 100):
            part = flat[start : start + 100]
            retry(lambda p=part: self._client.log_batch(self.run_id, params=p))

    def epoch(self, phase: str, epoch: int, row: Mapping[str, Any]) -> None:
        """Log one epoch's figures as `phase.name`, and show that the process is alive."""
        self.rows([{**row, "phase": phase, "epoch": epoch}])

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log several epochs at once: what a resumed run had logged under the run that it replaces."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"{row['phase']}.{name}", float(value), now, int(row["epoch"]))
            for row in rows
            for name, value in row.items()
            if name not in ("phase", "epoch") and isinstance(value, int | float)
        ]
        alive = [RunTag(TAG + "heartbeat", f"{time.time():.0f}")]
        for start in range(0, len(metrics), 900):
            part = metrics[start : start + 900]
            retry(lambda p=part: self._client.log_batch(self.run_id, metrics=p, tags=alive))

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the suite's own on the run."""
        retry(lambda: self._client.set_tag(self.run_id, TAG + name, value))

    def final(self, values: Mapping[str, float | int | None]) -> None:
        """Log the figures that the cell ends with."""
        now = int(time.time() * 1000)
        metrics = [Metric(k, float(v), now, 0) for k, v in values.items() if v is not None]
        retry(lambda: self._client.log_batch(self.run_id, metrics=metrics))

    def folder(self, path: Path, name: str | None = None) -> None:
        """Store a folder's files as artifacts."""
        retry(lambda: self._client.log_artifacts(self.run_id, str(path), name))

    def finish(self, record_json: str) -> None:
        """Store the record, then mark the run as finished: from here on the cell counts."""
        self._end(record_json, "FINISHED")

    def fail(self, record_json: str) -> None:
        """Store the record of a failure and mark the run as failed."""
        self._end(record_json, "FAILED")

    def delete(self) -> None:
        """Move the run to MLflow's deleted ones: another takes its place."""
        retry(lambda: self._client.delete_run(self.run_id))

    def _end(self, record_json: str, status: str) -> None:
        retry(lambda: self._client.log_text(self.run_id, record_json, "record.json"))
        retry(lambda: self._client.set_terminated(self.run_id, status))


def retry(call: Callable[[], T], tries: int = 5) -> T:
    """Call again after a passing failure (a locked database, a server that restarts): 0.2 to 3 seconds apart."""
    for attempt in range(tries):
        try:
            return call()
        except (MlflowException, SQLAlchemyError, OSError):
            if attempt == tries - 1:
                raise
            time.sleep(0.2 * 2**attempt)
    raise AssertionError("unreachable")


def _of_cell(cell_id: str) -> str:
    """MLflow's filter for the runs of one cell or dense network."""
    return f"tags.`{TAG}cell_id` = '{cell_id}'"


def _state(run: Run) -> RunState | None:
    final = run.data.metrics.get(FINAL)
    return run_state(run.info.run_id, run.info.status, run.info.start_time or 0, run.data.tags, final)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:500]
