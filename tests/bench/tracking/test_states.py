"""Which of a cell's runs counts."""

from __future__ import annotations

from bench.tracking.states import RunState, best_of


def test_finished_beats_running_beats_failed_and_the_first_finish_stays() -> None:
    def state(run_id: str, status: str, started: int) -> RunState:
        return RunState(run_id=run_id, cell_id="x", kind="cell", status=status, started=started)

    runs = [state("f1", "failed", 1), state("f2", "failed", 2)]
    assert best_of(runs)["x"].run_id == "f2"
    runs.append(state("r", "running", 3))
    assert best_of(runs)["x"].run_id == "r"
    runs += [state("d2", "finished", 9), state("d1", "finished", 4)]
    assert best_of(runs)["x"].run_id == "d1"
