"""What the benchmark's parts share: sides in turn, ratios of medians, one file of figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.runs.events import Ended, EpochEnded, StageReached, Started
from bench.runs.job import Outcome
from benchmarks.__main__ import PARTS, merge
from benchmarks.cell import Clock
from benchmarks.measure import in_turn, medians, ratio
from benchmarks.page import FIGURES, PAGE, PLACE, TABLES, filled

ROOT = Path(__file__).resolve().parent.parent


def test_sides_take_turns_and_the_first_rounds_do_not_count() -> None:
    order: list[str] = []

    def side(name: str, values: list[float]) -> float:
        order.append(name)
        return values.pop(0)

    one, other = [100.0, 3.0, 9.0, 4.0], [50.0, 2.0, 1.0, 8.0]
    found = in_turn({"one": lambda: side("one", one), "other": lambda: side("other", other)}, rounds=3)
    assert order == ["one", "other"] * 4
    assert found == {"one": [3.0, 9.0, 4.0], "other": [2.0, 1.0, 8.0]}
    assert medians(found) == {"one": 4.0, "other": 2.0} and ratio(found, "one", "other") == 2.0


def test_a_part_leaves_the_figures_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "reports" / "benchmarks.json"
    merge(file, "startup", {"figures": {"help": 1}})
    merge(file, "large", {"figures": {"plan": 2}})
    merge(file, "startup", {"figures": {"help": 3}})
    assert json.loads(file.read_text()) == {"large": {"figures": {"plan": 2}}, "startup": {"figures": {"help": 3}}}


def test_a_cells_time_is_taken_apart_by_its_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 2.0, 2.0, 5.0, 9.0, 10.0, 10.5, 10.75, 11.0, 30.0, 31.0))
    monkeypatch.setattr("benchmarks.cell.time.perf_counter", lambda: next(times))
    clock, ended = Clock(), {"label": "", "status": "finished"}
    clock(Started(id="c", label=""))
    clock(StageReached(id="c", stage="search"))
    clock(EpochEnded(id="c", phase="search", epoch=1, row={"seconds": 2.5}))
    clock(StageReached(id="c", stage="recovery"))
    clock(EpochEnded(id="c", phase="recovery", epoch=1, row={"seconds": 4.0}))
    clock(StageReached(id="c", stage="test"))
    clock(StageReached(id="c", stage="latency"))
    clock(StageReached(id="c", stage="store"))
    clock(Ended(id="c", outcome=Outcome(id="c", kind="cell", **ended)))  # pyright: ignore[reportArgumentType]
    clock(Started(id="d", label=""))
    clock(Ended(id="d", outcome=Outcome(id="d", kind="dense", **ended)))  # pyright: ignore[reportArgumentType]
    found = clock.of_cells()
    assert found["seconds"] == {
        "set-up": 2.0,
        "search": 3.0,
        "recovery": 5.0,
        "test": 0.5,
        "latency": 0.25,
        "store": 0.25,
    }
    assert (found["cells"], found["whole"], found["outside_training"]) == (1, 11.0, 4.5)
    assert found["share_outside_training"] == round(4.5 / 11, 3)
    assert (found["overhead"], found["share_overhead"]) == (3.75, round(3.75 / 11, 3))


def test_parts_are_files_and_an_unknown_one_is_refused() -> None:
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in PARTS)
    done = subprocess.run([sys.executable, "-m", "benchmarks", "starup"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "unknown part 'starup'; available: startup," in done.stderr


def test_the_page_has_the_figures_of_the_file() -> None:
    known = json.loads(FIGURES.read_text("utf-8"))
    assert set(PARTS) <= set(known)
    text = PAGE.read_text("utf-8")
    assert text == filled(text, known)
    assert sorted(name for _, name, _ in PLACE.findall(text)) == sorted(TABLES)


def test_a_table_is_written_anew_and_the_rest_of_a_page_is_left() -> None:
    machine = {"processor": "P", "cores": 2, "git_commit": "0123456789ab"}
    known = {"startup": {"figures": {"seconds": {"help": 0.1, "plan": 0.347}}, "machine": machine}}
    page = "before\n<!-- figures: startup -->\nold\n<!-- end of figures -->\nafter\n"
    assert filled(page, known) == (
        "before\n<!-- figures: startup -->\n| call | seconds |\n| --- | --- |\n| `prunebench --help` | 0.10 |\n"
        "| `prunebench plan demo` | 0.35 |\n\n*P, 2 cores, commit 0123456.*\n<!-- end of figures -->\nafter\n"
    )
