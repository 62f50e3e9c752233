"""What other suites of the same store have recorded under the same id: taken from there, and not made again.

An id has no suite in it. A result is copied, so that each suite's experiment is whole by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.errors import RequestError
from bench.runs.stored import DamagedStageError, facts_of, resealed, stored_folder
from bench.runs.tracked import ActiveJob, Result, open_tracker
from bench.tracking.elsewhere import finished_elsewhere
from bench.tracking.mlflow_store import Tracker
from bench.tracking.states import DATA, SOURCE, TAG, RunState
from bench.training import parallel


def taken_stage(active: ActiveJob, fingerprint: str, name: str, note: str = "") -> Result | None:
    """The result of another suite for a dense network or a search, stored with this run; None where there is none.

    Args:
        fingerprint: of the data here; a result of other data does not count.
        name: the folder of its artifacts.
        note: for its record.
    """
    for tracker, state in found_elsewhere(active, fingerprint):
        try:
            facts = facts_of(tracker, state)
            with stored_folder(tracker, state, name, facts) as folder:
                active.run.folder(folder, name)
        except DamagedStageError:
            continue
        rows = facts.get("trajectory", [])
        active.run.rows(rows)
        facts["notes"] = [*facts.get("notes", []), *filter(None, [note, taken_from(tracker, state)])]
        facts["label"] = active.job.label
        return Result(summary=taken_summary(str(facts.get("summary", "")), tracker), record=resealed(facts))
    return None


def agreed_taken(find: Callable[[], Result | None]) -> Result | None:
    """What the first of the processes of a job takes from elsewhere; in the others an empty result where it does.

    Args:
        find: gives what there is to take; called in the first process alone.
    """
    taken = find() if parallel.first() else None
    there = parallel.agreed(taken is not None)
    return Result(summary="", record="") if there and taken is None else taken


def found_elsewhere(
    active: ActiveJob, fingerprint: str, source: str | None = None
) -> Iterator[tuple[Tracker, RunState]]:
    """Finished runs of the job's id in other experiments of the store, made with the same data.

    Args:
        fingerprint: of the data here.
        source: the hash of the method's source today, where only results of the same code count.
    """
    if active.job.anew:
        return
    own, identity = active.tracker, active.job.id
    for suite in finished_elsewhere(own.client, own.experiment, identity).get(identity, ()):
        try:
            tracker = open_tracker(active.settings.tracking_uri, suite)
            state = tracker.find(identity)
        except RequestError:  # an experiment that was deleted meanwhile
            continue
        if state is None or state.status != "finished" or state.tags.get(TAG + DATA) != fingerprint:
            continue
        if source is None or state.tags.get(TAG + SOURCE) == source:
            yield tracker, state


def taken_from(tracker: Tracker, state: RunState) -> str:
    """A note on where a result came from."""
    return f"taken from suite {tracker.suite!r} of the same store, run {state.run_id}"


def taken_summary(text: str, tracker: Tracker) -> str:
    """A summary for the display, with where the result came from."""
    return f"{text} (taken from suite {tracker.suite!r})".strip()
