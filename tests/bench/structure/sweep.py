"""Every network that is at hand, held to what the engine promises: patterns, torchvision, timm, smp.

    python -m tests.bench.structure.sweep                      # what is new or was made with another engine
    python -m tests.bench.structure.sweep --only 'timm-*' --jobs 2
    python -m tests.bench.structure.sweep --table              # the table of docs/structure.md from what is recorded

Each network runs in a process that may crash or hang; that is an outcome, and the sweep goes on. What is done is kept
in reports/structure/sweep.json, so that a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import json
import logging
import multiprocessing
import os
import queue
import threading
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.bench.structure.members import Member

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "reports" / "structure" / "sweep.json"
PAGE = ROOT / "docs" / "structure.md"
BEGIN, END = "<!-- sweep: python -m tests.bench.structure.sweep -->", "<!-- end of sweep -->"
LIMIT = 600
"""Seconds that one network may take."""
RECYCLED = 50
"""Networks after which a process makes room for a new one, with the memory that it gathered."""
NAMED = 2
"""Layers that the table names for one reason."""

Entry = dict[str, Any]


def engine() -> str:
    """A digest of the engine's source and of this examination: records made with another one are made anew."""
    files = sorted((ROOT / "bench" / "structure").glob("*.py"))
    files += [ROOT / "bench" / "search" / "gates.py", Path(__file__).parent / "examine.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


# -- one network -----------------------------------------------------------------------------------------------


def quiet() -> None:
    """No warnings and no advice: what networks say while they are built is not about the engine."""
    warnings.filterwarnings("ignore")
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("torch._dynamo", "torch.utils.cpp_extension", "timm"):
        logging.getLogger(name).setLevel(logging.ERROR)


def entry_of(member: Member) -> Entry:
    """Examine one network: what the record keeps of it."""
    from tests.bench.structure.examine import Invalid, examine

    try:
        found = asdict(examine(member.make, member.example()))
    except Invalid as error:
        found = {"kind": "invalid", "detail": str(error), "share": 0.0, "seconds": 0.0, "reasons": {}}
    found["reasons"] = {
        reason: names[:NAMED] + ["…"] * (len(names) > NAMED) for reason, names in found["reasons"].items()
    }
    return {"family": member.family, "outcome": found.pop("kind"), **found}


def work(connection: Connection, threads: int) -> None:
    """The process of a worker: takes names, gives entries."""
    quiet()
    import torch

    from tests.bench.structure.members import MEMBERS

    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError):  # the sweep was stopped
        while (name := connection.recv()) is not None:
            try:
                connection.send(entry_of(MEMBERS[name]))
            except MemoryError:
                connection.send(failed(name, "it takes more memory than there is"))


def failed(name: str, detail: str) -> Entry:
    from tests.bench.structure.members import MEMBERS

    family = MEMBERS[name].family
    return {"family": family, "outcome": "error", "detail": detail, "share": 0.0, "seconds": 0.0, "reasons": {}}


class Worker:
    """A process that examines networks, replaced when it dies, hangs or has done enough."""

    def __init__(self, limit: float = LIMIT, target: Any = work) -> None:
        self.limit, self.target, self.done = limit, target, 0
        self.process: Any = None
        self.connection: Any = None

    def examine(self, name: str) -> Entry:
        if self.process is None or not self.process.is_alive() or self.done >= RECYCLED:
            self.stop()
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self.process = context.Process(target=self.target, args=(theirs, 1), daemon=True)
            self.process.start()
            theirs.close()
            self.done = 0
        self.done += 1
        try:
            self.connection.send(name)
            if self.connection.poll(self.limit):
                return self.connection.recv()
            self.process.kill()
            self.process.join()
            return failed(name, f"no answer within {self.limit:g} seconds")
        except (EOFError, OSError):
            self.process.join()
            return failed(name, f"the process died with exit code {self.process.exitcode}")

    def stop(self) -> None:
        if self.process is not None and self.process.is_alive():
            self.connection.send(None)
            self.process.join(10)
            self.process.kill()


# -- all of them -----------------------------------------------------------------------------------------------


def recorded(path: Path = RECORD) -> dict[str, Entry]:
    return json.loads(path.read_text()) if path.exists() else {}


def keep(entries: Mapping[str, Entry], path: Path = RECORD) -> None:
    """Write all entries, one a line, at once."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in entries.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    temporary.replace(path)


def chosen(only: Iterable[str]) -> list[str]:
    """Names of networks that match one of the patterns, or all of them."""
    from tests.bench.structure.members import MEMBERS

    patterns = list(only) or ["*"]
    return [name for name in MEMBERS if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def sweep(names: Iterable[str], jobs: int, path: Path = RECORD) -> None:
    """Examine the networks that have no entry of this engine, and record each at once."""
    from tests.bench.structure.members import MEMBERS

    entries, version = recorded(path), engine()
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        if entries.get(name, {}).get("engine") != version:
            waiting.put(name)
    lock = threading.Lock()

    def run() -> None:
        worker = Worker()
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                break
            entry = {**worker.examine(name), "engine": version}
            with lock:
                entries[name] = entry
                keep({n: entries[n] for n in MEMBERS if n in entries}, path)
                print(f"{name}: {entry['outcome']} {entry['share']:.3f} {entry['detail'][:300]}", flush=True)
        worker.stop()

    threads = [threading.Thread(target=run) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- the table -------------------------------------------------------------------------------------------------


def left_whole(entry: Entry) -> str:
    """What is left whole and why, for readers: like reasons together, without names of layers and sizes."""
    if entry["outcome"] in ("refused", "wrong", "error", "invalid"):
        return cell(entry["detail"].split(". ")[0][:240])
    alike: dict[str, list[str]] = {}
    for reason, names in entry["reasons"].items():
        kind = " ".join(word for word in reason.split(":")[0].split() if "." not in word)
        alike.setdefault(kind, []).extend(name for name in names if name != "…")
    told = [f"{kind} ({', '.join(f'`{n}`' for n in names[:NAMED])})" for kind, names in alike.items()]
    more = f" and {len(told) - 3} more reasons" if len(told) > 3 else ""
    return cell("; ".join(told[:3]) + more) or "the head only"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table(entries: Mapping[str, Entry], listed: int) -> str:
    """How many of the `listed` networks are recorded, and how they came out; then a row for those of one family that
    came out alike."""
    kinds = ("exact", "part", "whole", "refused", "wrong", "error", "invalid")
    origins: dict[str, dict[str, int]] = {}
    for name, entry in entries.items():
        count = origins.setdefault(name.split("-")[0], dict.fromkeys(kinds, 0))
        count[entry["outcome"]] += 1
    lines = [f"Recorded: {len(entries)} of {listed} networks.", ""]
    lines += [f"| networks | {' | '.join(kinds)} |", "|---" + "|--:" * len(kinds) + "|"]
    lines += [f"| {origin} | {' | '.join(str(count[kind]) for kind in kinds)} |" for origin, count in origins.items()]
    lines += [
        "",
        "| family | networks | outcome | MACs that can go, at least | left whole, and why |",
        "|---|---|---|--:|---|",
    ]
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, entry in entries.items():
        if not name.startswith("pattern-"):
            alike.setdefault((entry["family"], entry["outcome"], left_whole(entry)), []).append(name)
    for (family, outcome, told), names in alike.items():
        least = min(entries[name]["share"] for name in names)
        share = f"{100 * least:.1f} %" if outcome in ("exact", "part", "whole", "wrong") else "–"
        short = ", ".join(name.partition("-")[2].removeprefix(family.removeprefix("smp ") + "-") for name in names)
        lines.append(f"| {family} | {short} | {outcome} | {share} | {told} |")
    return "\n".join(lines)


def page_with(text: str, rows: str) -> str:
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{rows}\n{rest[rest.index(END) :]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="names, as in file names")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    parser.add_argument("--table", action="store_true", help="examine nothing, write the table")
    options = parser.parse_args()
    quiet()
    if not options.table:
        names = chosen(options.only)
        if not names:
            parser.error(f"no network has a name like {' or '.join(options.only)}")
        sweep(names, options.jobs)
    from tests.bench.structure.members import MEMBERS

    PAGE.write_text(page_with(PAGE.read_text(), table(recorded(), len(MEMBERS))))


if __name__ == "__main__":
    main()
