"""A suite that runs in seconds, and what its runs leave behind."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.cli.app import main
from bench.interface.record import Record
from tests.warm import python

SUITE = """
name = "tiny"
methods = ["l1"]
controls = ["random", "uniform-scratch"]
budgets = [0.5, 0.3]
seeds = [0]

[[workloads]]
task = "classification"
dataset = "digits"
model = "resnet8"
train_size = 128
epochs = { dense = 2, search = 1, recovery = 1 }
train = { batch_size = 32, precision = "fp32" }
finetune = { precision = "fp32" }
"""
TIMED = {"run_id", "latency_dense_ms", "latency_pruned_ms", "dense_seconds", "search_seconds", "recovery_seconds"}
OUT = ("--out", "reports/tiny")
"""Where `results` looks, whatever was changed of the suite."""
PROGRAM = "from bench.cli.program import main; main()"


def prunebench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of a call, in this process."""
    monkeypatch.setattr(sys, "argv", ["prunebench", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "reports" / "tiny" / "results.csv").open() as file:
        return list(csv.DictReader(file))


def figures(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, str]]:
    """What must not depend on when and how often a suite was run."""
    return {row["cell_id"]: {k: v for k, v in row.items() if k not in TIMED} for row in rows}


def records(folder: Path) -> list[Record]:
    lines = (folder / "reports" / "tiny" / "cells.jsonl").read_text().splitlines()
    return [Record.model_validate_json(line) for line in lines]


def call(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = python("-c", PROGRAM, *arguments, drawn=False)
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
