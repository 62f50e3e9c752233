"""Programs that are copies of a process that has imported the project: what each has of its own, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.warm import python

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system starts Python itself")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TELL = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("COLOUR"), sys.stdin.read(), __name__, "torch" in sys.modules]))
print("a word", file=sys.stderr)
sys.exit(3)
"""


def test_a_program_has_its_own_arguments_folder_environment_streams_and_code(tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    for how, first in ((("-c", TELL), "-c"), (("tell.py",), "tell.py")):
        done = subprocess.run(
            python(*how, "one", "two words"), cwd=tmp_path, env=ENVIRONMENT | {"COLOUR": "green"}, input="said",
            capture_output=True, text=True,
        )  # fmt: skip
        expected = [[first, "one", "two words"], str(tmp_path), "green", "said", "__main__", True]
        assert (done.returncode, done.stderr) == (3, "a word\n") and json.loads(done.stdout) == expected
    assert "COLOUR" not in os.environ


def test_a_program_finds_modules_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print(__name__)")
    (tmp_path / "elsewhere").mkdir()
    for arguments, path in ((("-m", "mine"), ""), (("-c", "import mine"), ""), (("-c", "import mine"), str(tmp_path))):
        folder = tmp_path / "elsewhere" if path else tmp_path
        done = subprocess.run(
            python(*arguments), cwd=folder, env=ENVIRONMENT | {"PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.stdout == ("__main__\n" if arguments[0] == "-m" else "mine\n"), done.stderr


def test_a_program_draws_nothing_if_so_asked() -> None:
    code = "from bench.report.figures.processes import Renderer as R; print(R(1).submit(None).result()['svg'][1:4])"
    dots, drawn = (
        subprocess.run(python("-c", code, drawn=d), env=ENVIRONMENT, capture_output=True) for d in (False, True)
    )
    assert dots.stdout == b"b'PNG'\n" and b"NoneType" in drawn.stderr


def test_output_is_told_at_once_where_it_is_not_held_back() -> None:
    program = subprocess.Popen(
        python("-u", "-c", "import time; print('begun'); time.sleep(20)"), env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    begun = time.monotonic()
    assert program.stdout is not None and program.stdout.readline() == b"begun\n"
    assert time.monotonic() - begun < 10
    program.kill()
    program.wait()


def test_an_error_and_a_signal_end_a_program_as_ever(tmp_path: Path) -> None:
    failed = subprocess.run(python("-c", "1 / 0"), env=ENVIRONMENT, capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.endswith("ZeroDivisionError: division by zero\n")
    killed = subprocess.run(python("-c", "import os; os.kill(os.getpid(), 15)"), env=ENVIRONMENT)
    assert killed.returncode == -signal.SIGTERM


def test_a_program_is_killed_with_whoever_waits_for_it(tmp_path: Path) -> None:
    code = "import os, time; open('pid', 'w').write(f'{os.getpid()}.'); time.sleep(600)"
    waiting = subprocess.Popen(python("-c", code), cwd=tmp_path, env=ENVIRONMENT)
    file, deadline = tmp_path / "pid", time.monotonic() + 60
    while not (file.exists() and file.read_text().endswith(".")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    number = int(file.read_text()[:-1])
    os.kill(number, 0)
    waiting.kill()
    waiting.wait()
    while Path(f"/proc/{number}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
