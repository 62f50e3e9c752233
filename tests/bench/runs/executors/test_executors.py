"""Every executor, with real workers: the same table, and a worker that dies takes down its own cell alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.runs.tiny import SUITE, call, figures, records, results


@pytest.mark.parametrize("executor", ["processes", "ray", "slurm"])
def test_every_executor_gives_the_same_table(place: Path, monkeypatch: pytest.MonkeyPatch, executor: str) -> None:
    only = ("--only", "method=l1", "--quiet")
    environment = {"OMP_NUM_THREADS": "1", "PRUNEBENCH_SLURM_TEST": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert call("run", "tiny.toml", *only, cwd=place).wait() == 0
    other = place / executor
    other.mkdir()
    (other / "tiny.toml").write_text(SUITE)
    # Two at a time give each one thread, as the run that they are compared with.
    how = ("--jobs", "2") if executor == "processes" else ("--executor", executor, "--jobs", "2")
    assert call("run", "tiny.toml", *only, *how, cwd=other).wait() == 0
    assert figures(results(other)) == figures(results(place))
    # Latencies were measured while the other cell held still.
    assert not any("hold still" in note for record in records(other) for note in record.notes)
