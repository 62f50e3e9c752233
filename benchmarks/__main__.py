"""Runs the parts of the benchmark, each in a process of its own, and writes what they print as one JSON file.

    python -m benchmarks                        # all quick parts, a few minutes on an idle machine
    python -m benchmarks startup searches       # only these; the others keep their figures in the file
    python -m benchmarks --list

Every part prints one JSON object and measures the sides of a ratio in turn, in one run; ratios are of medians over
rounds. Figures count only from a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARTS: Mapping[str, str] = {
    "startup": "the command line: --help, plan, and their imports",
    "large": "plan, scheduling and report of 1,000 and 10,000 cells",
    "searches": "each search's step against a dense step: time and memory kept for the backward pass",
    "cell": "a cell's wall time by stage, and cells an hour with one and two jobs",
    "training": "the training loop against the common one and a bare one, on three tasks",
    "accuracy": "quality of the fast path against fp32, three seeds",
    "roofline": "where a training step's time goes, and its convolutions against the processor's peak",
    "structure": "trace and prune against Torch-Pruning driven directly",
}
"""Run by default, in this order."""
LONG: Mapping[str, str] = {
    "stream": "streamed images against plain DataLoader code",
    "chaos": "the results of a matrix whose processes are killed",
}
"""Take longer, and are run where they are named."""
ARGUMENTS: Mapping[str, list[str]] = {"chaos": ["processes"]}
OUT = Path("reports/benchmarks.json")


def main() -> int:
    """Run what was asked for; 1 where a part failed."""
    there = {
        **PARTS,
        **{name: words for name, words in LONG.items() if Path(__file__).with_name(f"{name}.py").exists()},
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(there))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--list", action="store_true", help="name the parts")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(f"{name:<10} {words}" for name, words in there.items()))
        return 0
    if wrong := [name for name in asked.parts if name not in there]:
        parser.error(f"unknown part {wrong[0]!r}; available: {', '.join(there)}")
    failed = False
    for name in asked.parts or PARTS:
        print(f"{name}: {there[name]} …", file=sys.stderr, flush=True)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *ARGUMENTS.get(name, [])], stdout=subprocess.PIPE, text=True
        )
        seconds = round(time.perf_counter() - start, 1)
        if done.returncode:
            print(f"{name}: failed with exit code {done.returncode} after {seconds} s", file=sys.stderr)
            failed = True
            continue
        print(f"{name}: {seconds} s", file=sys.stderr, flush=True)
        merge(asked.out, name, {"seconds": seconds, "machine": machine(), "figures": json.loads(done.stdout)})
    return int(failed)


def machine() -> dict[str, Any]:
    """What figures hold for."""
    from bench.runs.environment import git_commit, processor

    facts = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {**facts, "git_commit": git_commit(), "load_before": [round(load, 2) for load in os.getloadavg()]}


def merge(file: Path, name: str, found: Mapping[str, Any]) -> None:
    """Put the figures of one part into the file, and leave those of the others."""
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**known, name: found}, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
