"""What an adapter changes in the process is put back and said."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.runs.isolation import process_kept


def leave_a_hook() -> None:
    torch.nn.modules.module.register_module_forward_hook(lambda *arguments: None)


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "working directory": (lambda: os.chdir("/"), lambda: str(Path.cwd())),
    "umask": (lambda: os.umask(0o77), lambda: (os.umask(0o22), os.umask(0o22))[0]),
    "environment variables": (lambda: os.environ.update(PRUNEBENCH_TEST="1"), lambda: dict(os.environ)),
    "sys.path": (lambda: sys.path.insert(0, "/nowhere"), lambda: list(sys.path)),
    "recursion limit": (lambda: sys.setrecursionlimit(5000), sys.getrecursionlimit),
    "number of threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "autograd mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "matmul precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        torch.get_float32_matmul_precision,
    ),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), lambda: torch.is_autocast_enabled("cpu")),
    "global module hooks": (leave_a_hook, lambda: len(torch.nn.modules.module._global_forward_hooks)),
    "numpy's error handling": (lambda: np.seterr(all="raise"), np.geterr),
    "sys.stdout": (lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_put_back_and_said(name: str) -> None:
    change, read = CHANGES[name]
    told: list[str] = []
    before = read()
    with process_kept(told.append):
        change()
    assert read() == before
    (sentence,) = told
    assert sentence.startswith("the state of the process was changed and put back: ")
    # Torch sets an environment variable of CUDA's along with its deterministic algorithms.
    assert set(sentence.partition(": ")[2].split(", ")) - {name} <= {"environment variables"} and name in sentence


def test_operations_are_no_slower_after_another_default_device() -> None:
    with process_kept(lambda _: None):
        torch.set_default_device("meta")
    assert torch.ones(1).device.type == "cpu"
    assert torch.overrides._get_current_function_mode_stack() == []


def test_threads_that_go_on_are_named() -> None:
    told: list[str] = []
    end = threading.Event()
    with process_kept(told.append):
        threading.Thread(target=end.wait, name="straggler").start()
        threading.Thread(target=end.wait, daemon=True).start()
    end.set()
    assert told == ["threads were started that go on, and hold up the end of the process: straggler"]


def test_it_is_put_back_after_an_error_too(tmp_path: Path) -> None:
    told: list[str] = []
    gone = tmp_path / "gone"
    gone.mkdir()
    before = str(Path.cwd())
    with pytest.raises(ZeroDivisionError), process_kept(told.append):
        os.chdir(gone)
        gone.rmdir()
        raise ZeroDivisionError
    assert str(Path.cwd()) == before and len(told) == 1


def test_random_numbers_go_on_as_if_nothing_had_been_drawn_and_nothing_is_said() -> None:
    def seed(number: int) -> None:
        torch.manual_seed(number)
        np.random.seed(number)
        random.seed(number)

    def draw() -> tuple[float, ...]:
        return torch.rand(1).item(), np.random.rand(), random.random()

    told: list[str] = []
    seed(0)
    expected = draw()
    seed(0)
    with process_kept(told.append):
        seed(7)
        warnings.simplefilter("ignore")
    assert draw() == expected and told == []


def test_streams_that_were_closed_are_open_again() -> None:
    program = (
        "import os, sys\n"
        "from bench.runs.isolation import process_kept\n"
        "told = []\n"
        "with process_kept(told.append):\n"
        "    sys.stdout.close()\n"
        "    os.close(2)\n"
        "print('out', told[0])\n"
        "print('err', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "out the state of the process was changed and put back: sys.stdout, sys.stderr\n"
    assert done.stderr == "err\n"
