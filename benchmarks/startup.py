"""How soon the command line answers, in seconds and in starts of a Python that does nothing.

python -m benchmarks.startup
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from benchmarks.measure import in_turn, medians, ratio, timed

PROGRAM = "from bench.cli.program import main; main()"
CALLS = {"python": ["pass"], "help": [PROGRAM, "--help"], "plan": [PROGRAM, "plan", "demo"]}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:

        def call(*arguments: str) -> float:
            command = [sys.executable, "-c", *arguments]
            return timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=folder))

        found = in_turn({name: lambda a=arguments: call(*a) for name, arguments in CALLS.items()}, rounds=7)
    over = {f"{name}_over_python": ratio(found, name, "python") for name in ("help", "plan")}
    print(json.dumps({"seconds": medians(found), **over}))


if __name__ == "__main__":
    main()
