"""Leases: whether a run is alive is told from changes that were seen, by one clock that never goes back."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import pytest

from bench.tracking import liveness
from bench.tracking.liveness import GAP, LAPSE, Watch, is_dead, is_gone, machine, process_start
from bench.tracking.states import TAG, RunState


def state(beat: str, *, where: str = "elsewhere/1", pid: int = 1, start: str = "") -> RunState:
    tags = {"machine": where, "host": "elsewhere", "pid": str(pid), "process_start": start, "heartbeat": beat}
    named = {TAG + name: value for name, value in tags.items()}
    return RunState(run_id="r", cell_id="c", kind="cell", status="running", tags=named)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def looks(self, watch: Watch, beats: list[str], *, every: float = 2.0) -> list[bool]:
        """What the watch says at looks that are so many seconds apart."""
        said: list[bool] = []
        for beat in beats:
            said.append(watch.has_lapsed(state(beat)))
            self.now += every
        return said


def test_a_lease_lapses_after_silence_and_not_before() -> None:
    clock = Clock()
    said = clock.looks(Watch(clock), ["1 1"] * 47)
    assert LAPSE == 90 and said == [False] * 45 + [True] * 2  # the first look is at 0 s, the 46th at 90 s


def test_a_sign_of_life_begins_the_watching_again_whatever_time_it_states() -> None:
    clock = Clock()
    beats = [f"{when} {count}" for count, when in enumerate([5e9, 0, 1.7e9, 1.7e9, -3])]
    said = clock.looks(Watch(clock), [beat for beat in beats for _ in range(40)])
    assert not any(said)


def test_clocks_that_are_set_or_disagree_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, day = Clock(), 86400.0
    watch = Watch(clock)
    alive = state(f"{time.time() - day:.0f} 1")
    assert not watch.has_lapsed(alive) and watch.is_doubtful(alive)
    monkeypatch.setattr(liveness.time, "time", lambda: 1e12)
    assert not watch.has_lapsed(alive)
    # Seen to change once, it is alive, whatever its clock says.
    assert not watch.has_lapsed(state("1 2")) and not watch.is_doubtful(state("1 2"))


def test_time_in_which_nobody_could_look_does_not_count() -> None:
    clock = Clock()
    watch = Watch(clock)
    assert clock.looks(watch, ["1 1", "1 1"], every=3600.0) == [False, False]
    assert clock.looks(watch, ["1 1"] * 19, every=3600.0) == [False] * 16 + [True] * 3  # 18 looks of GAP each
    assert GAP * 18 == LAPSE


def test_a_process_of_this_machine_is_looked_up() -> None:
    own = {"where": machine(), "pid": os.getpid(), "start": process_start(os.getpid())}
    watch = Watch()
    for beat in ("0 0", f"{time.time():.0f} 0"):  # what its heartbeat says does not matter
        assert not is_gone(state(beat, **own)) and not is_dead(state(beat, **own))
        gone = state(beat, where=machine(), pid=999999999, start="1")
        assert is_gone(gone) and is_dead(gone) and watch.has_lapsed(gone)
    # The same number in another container, or before the machine was started anew, is another process.
    assert not is_gone(state("0 0", where="elsewhere/1", pid=999999999))
    assert machine().count("/") in (0, 2) and not is_gone(state("0 0", where=machine() + "0", pid=999999999))


def test_one_look_at_another_machine_goes_by_the_clocks() -> None:
    assert not is_dead(state(f"{time.time() - 600:.0f} 7")) and is_dead(state(f"{time.time() - 3600:.0f} 7"))
    assert is_dead(state("nonsense"))
