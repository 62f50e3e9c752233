"""How a program of ours ends, and how seldom it looks for garbage."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes import collect_as_usual, importing

ROOT = Path(__file__).resolve().parents[2]


def program(main: str, tmp_path: Path, ending: str = "") -> subprocess.CompletedProcess[str]:
    """What becomes of a process whose `main` has this body."""
    lines = "\n    ".join(main.splitlines())
    script = (
        f"import atexit, sys, threading, time\nfrom bench.processes import run_as_program\ndef main():\n    {lines}\n"
    )
    command = [sys.executable, "-c", f"{script}run_as_program(main)\n"]
    if ending:
        command = ["sh", "-c", f'"$@" {ending}', "sh", *command]
    return subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("main", "code", "errors"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('it cannot be')", 1, "it cannot be\n"),
    ],
)
def test_codes_are_those_that_python_leaves_with(main: str, code: int, errors: str, tmp_path: Path) -> None:
    done = program(f"print('said')\n{main}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, "said\n", errors)


def test_an_error_is_shown_and_an_interruption_is_one(tmp_path: Path) -> None:
    done = program("raise ValueError('broken')", tmp_path)
    assert done.returncode == 1 and done.stderr.endswith("ValueError: broken\n")
    assert program("raise KeyboardInterrupt", tmp_path).returncode == -2


def test_threads_are_waited_for_and_what_is_registered_is_run(tmp_path: Path) -> None:
    wait = "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()"
    register = "atexit.register(print, 'first')\natexit.register(print, 'second')"
    kept = "class Kept:\n    def __del__(self): print('taken down')\nsys.kept = Kept()"
    done = program(f"{register}\n{wait}\n{kept}\nsys.exit(4)", tmp_path)
    assert (done.returncode, done.stdout) == (4, "thread\nsecond\nfirst\n")


def test_a_pipe_that_nobody_reads_is_no_success(tmp_path: Path) -> None:
    done = program("print('x' * 100)", tmp_path, ending=">/dev/full")
    assert done.returncode == 120


def test_garbage_is_searched_for_rarely_until_work_begins(tmp_path: Path) -> None:
    main = (
        "import gc\nfrom bench.processes import collect_as_usual\nprint(gc.get_threshold()[0])\n"
        "collect_as_usual()\nprint(gc.get_threshold()[0], gc.get_freeze_count() > 1000)"
    )
    assert program(main, tmp_path).stdout == f"100000\n{gc.get_threshold()[0]} True\n"


@pytest.mark.parametrize(("before", "kept"), [("keep()", True), ("gc.freeze()", True), ("pass", False)])
def test_what_was_kept_stays_so_when_a_report_has_settled(before: str, kept: bool, tmp_path: Path) -> None:
    main = (
        f"import gc\nfrom bench.processes import keep, settled\n{before}\n"
        "with settled():\n    print(gc.get_freeze_count() > 1000)\nprint(gc.get_freeze_count() > 1000)"
    )
    assert program(main, tmp_path).stdout == f"True\n{kept}\n"


def test_what_was_imported_counts_as_old(tmp_path: Path) -> None:
    main = (
        "import gc\nfrom bench.processes import importing\nwith importing():\n    made = [[] for _ in range(10_000)]\n"
        "print(gc.get_count()[0] < 1000, any(one is made for one in gc.get_objects(2)), gc.get_freeze_count())"
    )
    assert program(main, tmp_path).stdout == "True True 0\n"


def test_a_program_of_the_users_keeps_its_own_settings() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
    collect_as_usual()
    assert gc.isenabled() and gc.get_threshold() == before and gc.get_freeze_count() == frozen
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
