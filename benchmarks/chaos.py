"""Runs many tiny cells while processes, nodes or the tracking server are killed, and compares with an undisturbed run.

    python benchmarks/chaos.py processes --cells 60 --kills 100
    python benchmarks/chaos.py ray --cells 60 --kills 10
    python benchmarks/chaos.py server --cells 60 --kills 10
    python benchmarks/chaos.py together --cells 60

Prints a JSON object. Exit code 0 where all of this holds: the table is that of the undisturbed run but for times; each
cell and dense network has one run that counts; no run is left RUNNING; no metric has two points at one step, and each
has the points of the undisturbed run; commands ended with the code that they should end with.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "from bench.cli.program import main; main()"
SUITE = """
name = "chaos"
methods = ["l1", "dais"]
controls = ["random"]
budgets = {budgets}
seeds = {seeds}

[[workloads]]
task = "classification"
dataset = "digits"
model = "resnet8"
train_size = 64
epochs = {{ dense = 1, search = 2, recovery = 1 }}
train = {{ batch_size = 32, precision = "fp32" }}
finetune = {{ precision = "fp32" }}
"""
TIMED = {"run_id", "latency_dense_ms", "latency_pruned_ms", "dense_seconds", "search_seconds", "recovery_seconds"}
UNEQUAL = ("seconds", "latency", "run_id", "ms")
"""Parts of the names of metrics that differ from run to run."""


class Place:
    """A folder in which the suite is run.

    Args:
        store: address of the tracking store; by default a SQLite file in the folder.
        database: the SQLite file behind it.
    """

    def __init__(self, folder: Path, cells: int, store: str = "", database: Path | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder, self.store = folder, store or "sqlite:///mlflow.db"
        self.database = database or folder / "mlflow.db"
        seeds = max(1, cells // 15)
        text = SUITE.format(budgets="[0.8, 0.7, 0.6, 0.5, 0.4]", seeds=list(range(seeds)))
        (folder / "chaos.toml").write_text(text)
        self.cells = 15 * seeds

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """`prunebench run` in a session of its own, with its output in `out.txt`."""
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PRUNEBENCH_WORK": str(self.folder / ".prunebench")}
        command = [sys.executable, "-c", PROGRAM, "run", "chaos.toml", "--tracking-uri", self.store, *arguments]
        with (self.folder / "out.txt").open("ab") as out:
            return subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **own, **(environment or {})}, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def table(self) -> dict[str, dict[str, str]]:
        """The rows of the report by cell, without times."""
        (file,) = (self.folder / "reports").glob("*/results.csv")
        with file.open() as lines:
            rows = list(csv.DictReader(lines))
        return {row["cell_id"]: {k: v for k, v in row.items() if k not in TIMED} for row in rows}

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the tracking store's database."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=60)) as database:
            return database.execute(query).fetchall()

    def points(self) -> Counter[tuple[str, str, int, str]]:
        """Every point of a metric of a finished run: cell, name, step and value."""
        rows = self.ask(
            "SELECT t.value, m.key, m.step, m.value FROM metrics m JOIN runs r USING (run_uuid) JOIN tags t USING "
            "(run_uuid) WHERE r.lifecycle_stage = 'active' AND r.status = 'FINISHED' AND t.key = 'prunebench.cell_id'"
        )
        return Counter(
            (cell, key, step, "" if any(part in key for part in UNEQUAL) else repr(value))
            for cell, key, step, value in rows
        )


def faults(place: Place, straight: Place) -> dict[str, Any]:
    """What is wrong with the end of a disturbed run: all values are 0 or False where nothing is."""
    runs = place.ask(
        "SELECT k.value, c.value, r.status, r.lifecycle_stage FROM runs r JOIN tags k ON k.run_uuid = r.run_uuid AND "
        "k.key = 'prunebench.kind' JOIN tags c ON c.run_uuid = r.run_uuid AND c.key = 'prunebench.cell_id'"
    )
    active = [(kind, cell, status) for kind, cell, status, stage in runs if stage == "active"]
    finished = Counter(cell for kind, cell, status in active if kind != "invocation" and status == "FINISHED")
    expected = {cell for cell, *_ in straight.points()}
    points, same = place.points(), straight.points()
    steps = Counter((cell, key, step) for (cell, key, step, _), times in points.items() for _ in range(times))
    return {
        "table_differs": place.table() != straight.table(),
        "cells_not_recorded": len(expected - finished.keys()),
        "cells_recorded_twice": sum(count > 1 for count in finished.values()),
        "runs_neither_finished": sum(kind != "invocation" and status != "FINISHED" for kind, _, status in active),
        "runs_left_running": sum(status == "RUNNING" for _, _, status in active),
        "deleted_runs_left_running": sum(s == "RUNNING" and stage != "active" for _, _, s, stage in runs),
        "doubled_points": sum(count > 1 for count in steps.values()),
        "points_that_differ": sum(((points - same) + (same - points)).values()),
    }


def descendants(pid: int) -> list[int]:
    """Process numbers of a process's children, their children, and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, todo = list[int](), [pid]
    while todo:
        mine = children.get(todo.pop(), [])
        found += mine
        todo += mine
    return found


def what(pid: int) -> str:
    """What a process of an invocation does."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return "gone"
    for word, name in {"heart": "heart", "resource_tracker": "resource tracker"}.items():
        if word in line:
            return name
    return "forkserver or worker"


def undisturbed(folder: Path, cells: int) -> tuple[Place, float]:
    """The suite, run once without faults, and how long that took."""
    place, begin = Place(folder / "straight", cells), time.monotonic()
    code = place.start("--jobs", "2", "--quiet").wait()
    if code != 0:
        raise SystemExit((place.folder / "out.txt").read_text())
    return place, time.monotonic() - begin


def begun(place: Place, process: subprocess.Popen[bytes]) -> None:
    """Wait until this command has a job at work, or has ended."""
    since, work = time.time(), place.folder / ".prunebench" / "chaos"
    while process.poll() is None and not any(written(file) > since for file in work.glob("*/log.txt")):
        time.sleep(0.02)


def written(file: Path) -> float:
    """When a file was changed last; 0 where it is gone."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def processes(folder: Path, cells: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill the main process or one of its workers at random moments, over and over."""
    straight, seconds = undisturbed(folder, cells)
    place, killed, codes = Place(folder / "struck", cells), Counter[str](), list[int]()
    process = place.start("--jobs", "2", "--max-retries", "1000")
    pause = max(0.05, 0.5 * seconds / max(1, kills))
    while sum(killed.values()) < kills:
        begun(place, process)
        time.sleep(rng.uniform(0.0, 2 * pause))
        if process.poll() is not None:
            codes.append(process.returncode)
            if process.returncode == 0:
                break  # all is recorded before the last kill
            process = place.start("--jobs", "2", "--max-retries", "1000")
            continue
        workers = descendants(process.pid)
        victim = process.pid if rng.random() < 0.3 or not workers else rng.choice(workers)
        killed["main" if victim == process.pid else what(victim)] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if victim == process.pid:
            process.wait()
            process = place.start("--jobs", "2", "--max-retries", "1000")
    codes.append(process.wait())
    while codes[-1] != 0 and len(codes) < kills + 5:
        codes.append(place.start("--jobs", "2", "--max-retries", "1000").wait())
    found = faults(place, straight)
    return {"cells": place.cells, "kills": dict(killed), "codes": codes, "faults": found, "ok": _fine(found, codes)}


def _fine(found: Mapping[str, Any], codes: Sequence[int]) -> bool:
    return not any(found.values()) and codes[-1] == 0


class Server:
    """An MLflow server on a SQLite file, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, self.database = folder, folder / "server.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination", str(self.folder / "files"),
        ]  # fmt: skip
        # Its job runners, eight processes that load MLflow, have nothing to do here.
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log.txt").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        while True:
            try:
                with urllib.request.urlopen(self.address + "/health", timeout=1):
                    return
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit((self.folder / "log.txt").read_text()[-2000:]) from None
                time.sleep(0.25)

    def kill(self) -> None:
        """Kill it and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server that runs."""
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def server(folder: Path, cells: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill the tracking server at random moments, and start it again some seconds later."""
    straight, seconds = undisturbed(folder, cells)
    with served(folder / "server") as tracking:
        place = Place(folder / "struck", cells, tracking.address, tracking.database)
        process, killed = place.start("--jobs", "2"), 0
        while killed < kills and process.poll() is None:
            begun(place, process)
            time.sleep(rng.uniform(0.0, seconds / kills))
            if process.poll() is None:
                tracking.kill()
                time.sleep(rng.uniform(0.0, 4.0))
                tracking.start()
                killed += 1
        codes = [process.wait()]
        found = faults(place, straight)
    return {"cells": place.cells, "kills": killed, "codes": codes, "faults": found, "ok": _fine(found, codes)}


def ray(folder: Path, cells: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill one node of a cluster of two at random moments, and put another in its place."""
    from ray.cluster_utils import Cluster

    straight, seconds = undisturbed(folder, cells)
    with served(folder / "server") as tracking:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            node = cluster.add_node(num_cpus=1)
            place = Place(folder / "struck", cells, tracking.address, tracking.database)
            where = {"RAY_ADDRESS": cluster.address, "RAY_USAGE_STATS_ENABLED": "0"}
            arguments = ("--executor", "ray", "--jobs", "2", "--device", "cpu")
            process, killed = place.start(*arguments, environment=where), 0
            while killed < kills and process.poll() is None:
                begun(place, process)
                time.sleep(rng.uniform(1.0, 1.0 + seconds / kills))
                if process.poll() is None:
                    cluster.remove_node(node, allow_graceful=False)
                    node = cluster.add_node(num_cpus=1)
                    killed += 1
            codes = [process.wait()]
        finally:
            cluster.shutdown()
        found = faults(place, straight)
    return {"cells": place.cells, "kills": killed, "codes": codes, "faults": found, "ok": _fine(found, codes)}


def together(folder: Path, cells: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Two invocations at once, on one SQLite file and on one server; `kills` is not used."""
    straight, _ = undisturbed(folder, cells)

    def both(place: Place) -> dict[str, Any]:
        at_once = [place.start("--wait"), place.start("--wait", "--jobs", "2", "--out", "other")]
        codes = [process.wait() for process in at_once]
        shares = place.ask(
            "SELECT p.value, count(*) FROM runs r JOIN tags p ON p.run_uuid = r.run_uuid AND p.key = "
            "'mlflow.parentRunId' WHERE r.status = 'FINISHED' AND r.lifecycle_stage = 'active' GROUP BY p.value"
        )
        found = faults(place, straight)
        fine = not any(found.values()) and not any(codes)
        return {"codes": codes, "shares": [count for _, count in shares], "faults": found, "ok": fine}

    ended = {"file": both(Place(folder / "file", cells))}
    with served(folder / "server") as tracking:
        ended["server"] = both(Place(folder / "served", cells, tracking.address, tracking.database))
    return {"cells": straight.cells, **ended, "ok": all(end["ok"] for end in ended.values())}


SCENARIOS: Mapping[str, Callable[[Path, int, int, random.Random], dict[str, Any]]] = {
    "processes": processes,
    "server": server,
    "ray": ray,
    "together": together,
}


def main() -> int:
    """Run one scenario; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--cells", type=int, default=60, help="rounded down to a multiple of 15")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep the folder, and name it on stderr")
    chosen = parser.parse_args()
    folder, begin = Path(tempfile.mkdtemp(prefix="chaos-")), time.monotonic()
    try:
        ended = SCENARIOS[chosen.scenario](folder, chosen.cells, chosen.kills, random.Random(chosen.seed))
    finally:
        if chosen.keep:
            print(folder, file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"scenario": chosen.scenario, "seconds": round(time.monotonic() - begin, 1), **ended}, indent=1))
    return 0 if ended["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
