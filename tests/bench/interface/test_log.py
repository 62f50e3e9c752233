"""The log that a cell's stages share."""

from __future__ import annotations

from bench.interface.log import TrainingLog


def test_a_log_is_restored_as_it_was() -> None:
    log = TrainingLog()
    log.add_epoch({"phase": "search", "epoch": 1, "seconds": 2.0})
    log.add_snapshot("gates", {"epoch": 1, "values": [0.5]})
    log.note("a note")
    log.note("a note")
    state = log.state()
    log.add_epoch({"phase": "recovery", "epoch": 1, "seconds": 3.0})
    log.add_snapshot("gates", {"epoch": 2, "values": [0.6]})
    assert log.seconds("search") == 2.0 and log.seconds("recovery") == 3.0 and log.notes == ["a note"]
    log.restore(state)
    assert log.state() == state
    assert [row["phase"] for row in log.rows] == ["search"] and len(log.snapshots["gates"]) == 1
    # What is added later does not reach the state that was taken.
    log.add_epoch({"phase": "search", "epoch": 2, "seconds": 1.0})
    assert len(state["rows"]) == 1
