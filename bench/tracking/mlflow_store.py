"""MLflow as the system of record: one experiment a suite, a parent run an invocation, a child run a cell.

What is done is asked of MLflow, so that several machines on one server share the work. A cell counts once its run is
FINISHED and its record is there; a run that a killed process left RUNNING is closed, deleted and replaced, its history
restored from the checkpoint.

Between a process that records a result and one that takes its run over, either order is safe. Who takes over marks
the run as lost, and then looks whether it has ended; who records marks it as finished, and then looks whether it is
lost. At least one of them sees the other's mark, and gives way.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from bench.errors import RequestError
from bench.interface.record import Record, RecordError, read_record
from bench.tracking.address import SERVERS, absolute, redacted, scheme, server_address, sqlite_path
from bench.tracking.beats import heartbeat
from bench.tracking.connect import StoreError, all_runs, connect, download, gone, retry, sentences
from bench.tracking.database import relocate
from bench.tracking.heart import Heart, heart_of
from bench.tracking.liveness import BEAT, is_dead, is_gone, machine, process_start
from bench.tracking.places import FILES, RECORD, artifact_root, current_folder, local_folder
from bench.tracking.states import LOST, PARENT_TAG, STAGES, TAG, RunState, best_of, run_state
from bench.tracking.tracked_run import AlreadyRunning, LeaseLostError, TrackedRun
from bench.tracking.uploads import drop_uploads

TOKEN = TAG + "token"
"""Tag with what no two runs share, so that one that was made can be found again."""
CLAIM = TAG + "claim"
"""Tag of a run whose process has asked for a cell, and then has it."""
NUMBER, BESIDE, KNOWN = TAG + "number", TAG + "beside", TAG + "known"
"""Tags of an invocation: which it is among all of the suite, the invocations that ran when it began, and what had
failed in those by then."""
SETTLING = 60.0
"""Seconds to wait for one who asked for a cell earlier to take it; after that it is left to him."""


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
        self._invocations: dict[str, Mapping[str, str]] = {}
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
        runs = all_runs(self.client, [self.experiment], filter_string)
        return [state for state in map(self._state, runs) if state is not None]

    def _state(self, run: Run) -> RunState | None:
        info = run.info
        folder = current_folder(info.artifact_uri or "", info.run_id, self._root) if self._root else None
        times = (info.start_time, info.end_time)
        return run_state(info.run_id, info.status, times, run.data.tags, folder, run.data.metrics)

    def best(self) -> dict[str, RunState]:
        """One run for each cell and shared stage that is known: all are read, so ask once and not in a loop."""
        return best_of(s for s in self.states() if s.kind in STAGES)

    def find(self, cell_id: str) -> RunState | None:
        """What `best` says of one cell, dense network or search, without reading the others."""
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
            for file in (RECORD, *(FILES.get(state.kind, ()) if state.status == "finished" else ())):
                folder = file.rpartition("/")[0] or None
                there = retry(lambda s=state, f=folder: self.client.list_artifacts(s.run_id, f))
                if file not in {found.path for found in there}:
                    reason = f"run {state.run_id} has no {file}"
                    self.lose(state, reason)
                    break

    def lose(self, state: RunState, reason: str) -> None:
        """Mark a run whose files are damaged, so that it counts no more."""
        retry(lambda: self.client.set_tag(state.run_id, LOST, reason))

    def tracked(self, state: RunState) -> TrackedRun:
        """The run of this state, to be ended on behalf of a process that is gone."""
        return TrackedRun(self.client, state.run_id)

    def begin_invocation(self, description: str, tags: Mapping[str, str]) -> str:
        """A parent run for the cells of one call; those that dead processes left running are closed.

        Invocations are numbered by the store: one that begins later has a higher number, or the same where the two
        began at the same time. What clocks say does not matter.
        """
        number, beside = 0, list[str]()
        for state in self.states(f"tags.`{TAG}kind` = 'invocation'"):
            number = max(number, _number(state.tags))
            if state.status == "running" and is_dead(state):
                retry(lambda s=state: self.client.set_terminated(s.run_id, "KILLED"))
            elif state.status == "running":
                beside.append(state.run_id)
        failed = self.states("attributes.status = 'FAILED'") if beside else []
        known = [state.run_id for state in failed if state.parent_run in beside]
        tags = {**tags, NUMBER: str(number + 1), BESIDE: " ".join(beside), KNOWN: " ".join(known)}
        run_id = self._create(kind="invocation", cell_id="", label=description, parent_run=None, tags=tags)
        self._heart.hold(run_id)
        return run_id

    def end_invocation(self, run_id: str, status: str = "FINISHED", patience: float | None = None) -> None:
        """Close the run of an invocation.

        Args:
            patience: as of `retry`.
        """
        self._heart.release(run_id)
        retry(lambda: self.client.set_terminated(run_id, status), patience=patience)

    @property
    def _heart(self) -> Heart:
        return heart_of(self.uri, TAG + "heartbeat", BEAT)

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
            kind: one of `STAGES`.
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
                if not is_gone(state) or not self.take_over(state, "its process was gone"):
                    raise AlreadyRunning(_whose(state))
            elif self._is_settled(state, parent_run):
                raise AlreadyRecorded(_whose(state))
        tags = {**(tags or {}), CLAIM: "asked"}
        run_id = self._create(kind=kind, cell_id=cell_id, label=label, parent_run=parent_run, tags=tags)
        try:
            rival = self._rival(run_id, where, parent_run)
        except StoreError as error:
            if not self._is_deleted(run_id):
                raise
            raise LeaseLostError(f"run {run_id} was taken for dead") from error
        if rival:
            self._remove(run_id)
            raise AlreadyRunning(_whose(rival))
        return TrackedRun(self.client, run_id, self._heart.hold(run_id), self._heart.release)

    def take_over(self, state: RunState, reason: str) -> bool:
        """Close a run whose process is gone, with the reason, and delete it, so that its cell can be claimed.

        Returns:
            False where it has ended after all, and keeps its result.
        """
        try:
            retry(lambda: self.client.set_tag(state.run_id, LOST, f"{reason}; taken over by {_here()}"))
            if retry(lambda: self.client.get_run(state.run_id)).info.status != "RUNNING":
                with contextlib.suppress(StoreError):  # another has taken the mark away
                    retry(lambda: self.client.delete_tag(state.run_id, LOST))
                return False
            retry(lambda: self.client.set_terminated(state.run_id, "KILLED"))
        except StoreError:
            if not self._is_deleted(state.run_id):
                raise
            return True  # another was faster
        self._remove(state.run_id)
        return True

    def _is_deleted(self, run_id: str) -> bool:
        return retry(lambda: self.client.get_run(run_id)).info.lifecycle_stage != "active"

    def drop_uploads(self, cell_id: str) -> None:
        """Delete the checkpoints that runs of a cell have uploaded."""
        drop_uploads(self.client, self.uri, self.experiment, cell_id)

    def discard(self, cell_id: str) -> None:
        """Move the runs of a cell that have ended to MLflow's deleted ones, and drop what they have uploaded."""
        self.drop_uploads(cell_id)
        for state in self.states(_of_cell(cell_id)):
            if state.status != "running":
                self._remove(state.run_id)

    def _remove(self, run_id: str) -> None:
        """Close a run and delete it, unless another process has just done so."""

        def remove() -> None:
            info = self.client.get_run(run_id).info
            if info.lifecycle_stage == "active":
                if info.status == "RUNNING":
                    self.client.set_terminated(run_id, "KILLED")
                self.client.delete_run(run_id)

        retry(remove)

    def _is_settled(self, state: RunState, parent_run: str | None) -> bool:
        """Whether this run has finished, or has failed in another invocation after ours had begun."""
        if state.status != "failed" or parent_run is None or state.parent_run in (parent_run, None):
            return state.status == "finished"
        ours, theirs = self._invocation(parent_run), self._invocation(state.parent_run)
        if state.parent_run in ours.get(BESIDE, "").split():
            return state.run_id not in ours.get(KNOWN, "").split()
        return _number(theirs) >= _number(ours)

    def _invocation(self, run_id: str | None) -> Mapping[str, str]:
        """The tags of an invocation's run; none where it is unknown."""
        if run_id is not None and run_id not in self._invocations:
            try:
                self._invocations[run_id] = retry(lambda: self.client.get_run(run_id)).data.tags
            except StoreError as error:
                if not gone(error.__cause__):
                    raise
                self._invocations[run_id] = {}
        return self._invocations.get(run_id or "", {})

    def _rival(self, run_id: str, where: str, parent_run: str | None) -> RunState | None:
        """The run of another process that has the cell in place of this one; None once this one has it for certain.

        Several may ask at once, and none sees the others before they are stored. Who sees one that has the cell, or one
        that asked earlier, gives up. All others take it, and look again: of two that took it, both were there at one
        of the second looks, and the later one gives up.
        """

        def others(states: list[RunState]) -> tuple[list[RunState], list[RunState]]:
            living = [s for s in states if s.status == "running" and (s.run_id == run_id or not is_gone(s))]
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
        deadline = time.monotonic() + SETTLING
        while True:
            earlier, _ = others(self.states(where))
            if not earlier:
                return None
            if held := holding(earlier):
                return held[0]
            if time.monotonic() > deadline:
                return earlier[0]  # it may have died on another machine: who waits for the cell will see
            time.sleep(0.05)  # it is about to take the cell, or to give up

    def _create(self, *, kind: str, cell_id: str, label: str, parent_run: str | None, tags: Mapping[str, str]) -> str:
        own = {
            "kind": kind,
            "cell_id": cell_id,
            "host": socket.gethostname(),
            "machine": machine(),
            "pid": str(os.getpid()),
            "process_start": process_start(os.getpid()),
            "heartbeat": heartbeat(0),
        }
        all_tags = {TAG + k: v for k, v in own.items()} | dict(tags)
        if parent_run:
            all_tags[PARENT_TAG] = parent_run
        return self._create_once(label, all_tags)

    def _create_once(self, label: str, tags: Mapping[str, str]) -> str:
        """Create one run, however often the store has to be asked: an answer may be lost whose run was made."""
        token, tried = uuid.uuid4().hex, False

        def create() -> str:
            nonlocal tried
            if tried:
                for run in self.client.search_runs([self.experiment], f"tags.`{TOKEN}` = '{token}'"):
                    return run.info.run_id
            tried = True
            return self.client.create_run(self.experiment, tags={**tags, TOKEN: token}, run_name=label).info.run_id

        return retry(create)

    def sweep(self) -> None:
        """Close runs that are marked as running and are nobody's: their process is gone, or their cell is recorded."""
        states = self.states()
        finished = {state.cell_id: state.run_id for state in states if state.status == "finished"}
        for state in states:
            if state.status != "running" or state.kind == "invocation":
                continue
            if is_gone(state):
                self.take_over(state, "its process was gone")
            elif state.cell_id in finished:
                self.take_over(state, f"its cell was recorded by run {finished[state.cell_id]}")

    def record(self, state: RunState) -> Record:
        """What a finished or failed run recorded.

        Raises:
            RecordError: the record is gone or damaged.
            RequestError: a later release has made it, or the store cannot be read.
        """
        if state.problem:
            raise RecordError(state.problem)
        try:
            # MLflow takes ten times as long to say where the record lies as it takes to read it.
            text = (state.folder / RECORD).read_text("utf-8") if state.folder else self.read_text(state.run_id, RECORD)
        except UnicodeDecodeError:
            raise RecordError(f"{RECORD} of run {state.run_id} is damaged") from None
        except (StoreError, OSError) as error:
            if isinstance(error, StoreError) and not gone(error.__cause__):
                raise
            raise RecordError(f"{RECORD} of run {state.run_id} is gone") from None
        return read_record(text, f"{RECORD} of run {state.run_id}")

    def records(self, states: Sequence[RunState]) -> list[Record | RecordError]:
        """The records of many runs, fetched side by side; in place of one that is gone or damaged, the reason."""
        from concurrent.futures import ThreadPoolExecutor

        def read(state: RunState) -> Record | RecordError:
            try:
                return self.record(state)
            except RecordError as error:
                return error

        if all(state.folder is not None for state in states):
            return list(map(read, states))  # threads would wait for each other: nothing else is waited for
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
            yield Path(retry(lambda: download(self.client, run_id, path, folder)))


def _of_cell(cell_id: str) -> str:
    """MLflow's filter for the runs of one cell or dense network."""
    return f"tags.`{TAG}cell_id` = '{cell_id}'"


def _number(tags: Mapping[str, str]) -> int:
    text = tags.get(NUMBER, "0")
    return int(text) if text.isdecimal() else 0


def _here() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _whose(state: RunState) -> str:
    return f"run {state.run_id} on {state.tags.get(TAG + 'host', '?')}"
