"""MLflow as the system of record: one experiment a suite, a parent run an invocation, a child run a cell.

What is done is asked of MLflow, so that several machines on one server share the work. A cell counts once its run is
FINISHED and its record is there; a run that a killed process left RUNNING is deleted and replaced, its history restored
from the checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from bench.errors import RequestError
from bench.interface.record import Record, RecordError, read_record
from bench.tracking.address import SERVERS, absolute, redacted, scheme, server_address, sqlite_path
from bench.tracking.connect import StoreError, connect, gone, retry, sentences
from bench.tracking.database import relocate
from bench.tracking.liveness import is_dead, process_start
from bench.tracking.places import MODEL, RECORD, artifact_root, current_folder, local_folder, seal_of_record
from bench.tracking.states import LOST, PARENT_TAG, SEAL, TAG, RunState, best_of, run_state

CLAIM = TAG + "claim"
"""Tag of a run whose process has asked for a cell, and then has it."""


class AlreadyRunning(Exception):
    """The cell is being run by another process that is alive; the message names its run."""


class AlreadyRecorded(AlreadyRunning):
    """Another process has run the cell since this one began; the message names its run."""


class Tracker:
    """The runs of one suite on one MLflow store.

    Raises:
        RequestError: the store cannot be reached, read or written.
    """

    def __init__(self, uri: str, suite: str) -> None:
        self.uri, self.suite = absolute(uri), suite
        self._root = artifact_root(sqlite_path(self.uri), suite) if scheme(self.uri) == "sqlite" else None
        self._begun: dict[str, int] = {}
        with sentences(self.uri):
            self.client = connect(self.uri)
            self.experiment = self._experiment(self._root.as_uri() if self._root else None)
            if self._root is not None:
                relocate(sqlite_path(self.uri), suite)

    @property
    def runs_page(self) -> str:
        """Address of a run's page on the tracking server, up to the run's id; "" where the store is no server."""
        if scheme(self.uri) not in SERVERS:
            return ""
        return f"{server_address(self.uri)}/#/experiments/{self.experiment}/runs/"

    @staticmethod
    def suites(uri: str) -> list[str]:
        """Names of all experiments of a store."""
        with sentences(uri):
            return [e.name for e in connect(absolute(uri)).search_experiments()]

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
            found += [s for s in map(self._state, page) if s is not None]
            token = page.token
            if not token:
                return found

    def _state(self, run: Run) -> RunState | None:
        info = run.info
        folder = current_folder(info.artifact_uri or "", info.run_id, self._root) if self._root else None
        times = (info.start_time, info.end_time)
        return run_state(info.run_id, info.status, times, run.data.tags, folder, run.data.metrics)

    def best(self) -> dict[str, RunState]:
        """One run for each cell and dense network that is known: all are read, so ask once and not in a loop."""
        return best_of(s for s in self.states() if s.kind in ("cell", "dense"))

    def find(self, cell_id: str) -> RunState | None:
        """What `best` says of one cell or dense network, without reading the others."""
        return best_of(self.states(_of_cell(cell_id))).get(cell_id)

    def mark_lost(self, states: Iterable[RunState]) -> None:
        """Mark those of these runs that have ended and whose files are gone from the store.

        Where the files lie on this machine, `states` finds that out by itself.
        """
        for state in states if self._root is None else ():
            if state.status in ("running", "lost"):
                continue
            uri = retry(lambda s=state: self.client.get_run(s.run_id)).info.artifact_uri or ""
            if local_folder(uri) is not None:
                continue  # it may be one of the server's, which cannot be seen from here
            for file in (RECORD, MODEL) if state.kind == "dense" and state.status == "finished" else (RECORD,):
                folder = file.rpartition("/")[0] or None
                there = retry(lambda s=state, f=folder: self.client.list_artifacts(s.run_id, f))
                if file not in {found.path for found in there}:
                    reason = f"run {state.run_id} has no {file}"
                    retry(lambda s=state, r=reason: self.client.set_tag(s.run_id, LOST, r))
                    break

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
            AlreadyRecorded: it has finished, or another invocation has failed at it since this one began.
        """
        where = _of_cell(cell_id)
        for state in self.states(where):
            if state.status == "running":
                if not is_dead(state):
                    raise AlreadyRunning(_whose(state))
                self._remove(state.run_id)
            elif self._is_settled(state, parent_run):
                raise AlreadyRecorded(_whose(state))
        tags = {**(tags or {}), CLAIM: "asked"}
        run_id = self._create(kind=kind, cell_id=cell_id, label=label, parent_run=parent_run, tags=tags)
        if rival := self._rival(run_id, where, parent_run):
            self._remove(run_id)
            raise AlreadyRunning(_whose(rival))
        return TrackedRun(self.client, run_id)

    def discard(self, cell_id: str) -> None:
        """Move the runs of a cell that have ended to MLflow's deleted ones."""
        for state in self.states(_of_cell(cell_id)):
            if state.status != "running":
                self._remove(state.run_id)

    def _remove(self, run_id: str) -> None:
        """Delete a run, unless another process has just done so."""

        def remove() -> None:
            if self.client.get_run(run_id).info.lifecycle_stage == "active":
                self.client.delete_run(run_id)

        retry(remove)

    def _is_settled(self, state: RunState, parent_run: str | None) -> bool:
        """Whether this run has finished, or has failed in another invocation after `parent_run` had begun."""
        if state.status != "failed" or parent_run is None or state.parent_run == parent_run:
            return state.status == "finished"
        if parent_run not in self._begun:
            self._begun[parent_run] = retry(lambda: self.client.get_run(parent_run)).info.start_time or 0
        return state.ended > self._begun[parent_run]

    def _rival(self, run_id: str, where: str, parent_run: str | None) -> RunState | None:
        """The run of another process that has the cell in place of this one; None once this one has it for certain.

        Several may ask at once, and none sees the others before they are stored. Who sees one that has the cell, or one
        that asked earlier, gives up. All others take it, and look again: of two that took it, both were there at one
        of the second looks, and the later one gives up.
        """

        def others(states: list[RunState]) -> tuple[list[RunState], list[RunState]]:
            living = [s for s in states if s.status == "running" and (s.run_id == run_id or not is_dead(s))]
            living.sort(key=lambda s: (s.started, s.run_id))
            mine = next((i for i, s in enumerate(living) if s.run_id == run_id), len(living))
            return living[:mine], living[mine + 1 :]

        def holding(states: list[RunState]) -> list[RunState]:
            return [s for s in states if s.tags.get(CLAIM) != "asked"]

        states = self.states(where)
        if settled := [s for s in states if self._is_settled(s, parent_run)]:
            return settled[0]  # another was through with it before this run was stored
        earlier, later = others(states)
        if earlier or holding(later):
            return (holding(later) or earlier)[0]
        retry(lambda: self.client.set_tag(run_id, CLAIM, "held"))
        while True:
            earlier, _ = others(self.states(where))
            if not earlier:
                return None
            if held := holding(earlier):
                return held[0]
            time.sleep(0.05)  # it is about to take the cell, or to give up

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
        """What a finished or failed run recorded.

        Raises:
            RecordError: the record is gone or damaged.
            RequestError: a later release has made it, or the store cannot be read.
        """
        if state.problem:
            raise RecordError(state.problem)
        try:
            text = self.read_text(state.run_id, RECORD)
        except UnicodeDecodeError:
            raise RecordError(f"{RECORD} of run {state.run_id} is damaged") from None
        except (StoreError, OSError) as error:
            if isinstance(error, StoreError) and not gone(error.__cause__):
                raise
            raise RecordError(f"{RECORD} of run {state.run_id} is gone") from None
        return read_record(text, f"{RECORD} of run {state.run_id}")

    def records(self, states: Sequence[RunState]) -> list[Record | RecordError]:
        """The records of many runs, read side by side; in place of one that is gone or damaged, the reason."""
        from concurrent.futures import ThreadPoolExecutor

        def read(state: RunState) -> Record | RecordError:
            try:
                return self.record(state)
            except RecordError as error:
                return error

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(read, states))

    def read_text(self, run_id: str, path: str) -> str:
        """A text artifact of a run."""
        with self.artifact(run_id, path) as file:
            return file.read_text("utf-8")

    @contextlib.contextmanager
    def artifact(self, run_id: str, path: str) -> Iterator[Path]:
        """A run's artifact, file or folder, as a local path: in place where the store is local, else fetched."""
        uri = retry(lambda: self.client.get_run(run_id)).info.artifact_uri or ""
        local = current_folder(uri, run_id, self._root) if self._root else local_folder(uri)
        if local is not None:
            yield local / path
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

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the suite's own on the run."""
        own = [RunTag(TAG + name, value) for name, value in values.items()]
        retry(lambda: self._client.log_batch(self.run_id, tags=own))

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
        if sealed := seal_of_record(record_json):
            retry(lambda: self._client.set_tag(self.run_id, SEAL, sealed))
        retry(lambda: self._client.set_terminated(self.run_id, status))


def _of_cell(cell_id: str) -> str:
    """MLflow's filter for the runs of one cell or dense network."""
    return f"tags.`{TAG}cell_id` = '{cell_id}'"


def _whose(state: RunState) -> str:
    return f"run {state.run_id} on {state.tags.get(TAG + 'host', '?')}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:500]
