"""Puts the figures of `reports/benchmarks.json` into the tables of `docs/performance.md`.

    python -m benchmarks.page

A table stands between `<!-- figures: PART -->` and `<!-- end of figures -->`, and is written anew; all else of the page
is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "reports" / "benchmarks.json"
PAGE = ROOT / "docs" / "performance.md"
PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
TASKS = {
    "classification": "ResNet-20 on 32×32",
    "segmentation": "U-Net with ResNet-18 on 96×128",
    "super_resolution": "EDSR with 4 blocks of 16 on 48×48",
}
Row = Sequence[Any]


def training(found: Mapping[str, Any]) -> Iterator[Row]:
    yield "network", "threads", "samples a second", "over the common loop", "in fp32", "over the bare loop"
    for task, by_threads in found.items():
        for threads, figures in by_threads.items():
            own, common = figures["own_over_common"], figures["own_fp32_over_common"]
            speed = f"{figures['samples_a_second']['own']:.0f} ({figures['precision']})"
            yield TASKS[task], threads.removeprefix("threads_"), speed, own, common, figures["own_over_bare"]


def accuracy(found: Mapping[str, Any]) -> Iterator[Row]:
    yield "workload", "bf16, seed by seed", "fp32", "bf16 less fp32", "standard deviation", "the recipe's"
    for workload, of in found.items():
        values = (", ".join(f"{value:.4g}" for value in of[name]) for name in ("bf16", "fp32"))
        yield workload, *values, f"{of['bf16_less_fp32']:+.4g}", f"{of['standard_deviation']:.2g}", of["recipe"]


def roofline(found: Mapping[str, Any]) -> Iterator[Row]:
    yield "network", "convolutions", "their GFLOP/s", "of a matrix product's", "what else takes most"
    for task, figures in found.items():
        most = sorted(figures["others"].items(), key=lambda other: -other[1])[:3]
        others = ", ".join(f"`{name}` {100 * share:.0f} %" for name, share in most)
        speed = f"{figures['gflops']:.0f} ({figures['precision']})"
        share = f"{100 * figures['convolutions_share']:.0f} % of the step"
        yield TASKS[task], share, speed, f"{100 * figures['of_peak']:.0f} %", others


def searches(found: Mapping[str, Any]) -> Iterator[Row]:
    yield "search", "time", "memory kept for the backward pass"
    for method, cost in found["over_a_dense_step"].items():
        yield method, cost["time"], cost["memory"]


def cell(found: Mapping[str, Any]) -> Iterator[Row]:
    stages = ["set-up", "search", "recovery", "test", "latency", "store"]
    yield "cells", "jobs", *stages, "whole", "overhead", "cells an hour"
    for length, figures in found.items():
        for jobs in ("jobs_1", "jobs_2"):
            of = figures[jobs]
            took = [f"{of['seconds'].get(stage, 0.0):.2f}" for stage in stages]
            overhead = f"{of['overhead']:.2f} s, {100 * of['share_overhead']:.0f} %"
            yield length, jobs[-1], *took, f"{of['whole']:.2f}", overhead, f"{of['cells_an_hour']:.0f}"


def jobs(found: Mapping[str, Any]) -> Iterator[Row]:
    yield "cells", "seconds of one, alone", "cells an hour with two jobs over one"
    for length, figures in found.items():
        yield length, f"{figures['jobs_1']['whole']:.1f}", figures["two_jobs_over_one"]


def large(found: Mapping[str, Any]) -> Iterator[Row]:
    yield (
        "recorded cells",
        "`plan`",
        "`plan`, none recorded",
        "handing out a cell",
        "report",
        "memory of `plan`, report",
    )
    for count in sorted((name for name in found if name.isdigit()), key=int):
        of = found[count]
        seconds = (f"{of[f'{name}_seconds']:.1f} s" for name in ("plan", "plan_of_missing"))
        memory = f"{of['plan_mib']} and {of['report_mib']} MiB"
        yield f"{int(count):,}", *seconds, f"{of['schedule_ms_a_cell']:.2f} ms", f"{of['report_seconds']:.1f} s", memory


def startup(found: Mapping[str, Any]) -> Iterator[Row]:
    yield "call", "seconds"
    for name, words in (("help", "`prunebench --help`"), ("plan", "`prunebench plan demo`")):
        yield words, f"{found['seconds'][name]:.2f}"


def structure(found: Mapping[str, Any]) -> Iterator[Row]:
    yield "network", "Torch-Pruning, s", "this engine over it", "with its check of every layer"
    for network, of in found.items():
        yield network, of["torch-pruning"], of["plain_over_torch_pruning"], of["checked_over_torch_pruning"]


TABLES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Iterator[Row]]]] = {
    "training": ("training", training),
    "accuracy": ("accuracy", accuracy),
    "roofline": ("roofline", roofline),
    "searches": ("searches", searches),
    "cell": ("cell", cell),
    "jobs": ("cell", jobs),
    "large": ("large", large),
    "startup": ("startup", startup),
    "structure": ("structure", structure),
}
"""Name in the page -> part of the benchmark, and the rows of its table, the head first."""


def table(name: str, known: Mapping[str, Any]) -> str:
    """A table of the page, and on what it was measured."""
    part, rows_of = TABLES[name]
    head, *rows = [[str(value) for value in row] for row in rows_of(known[part]["figures"])]
    lines = [head, ["---"] * len(head), *rows]
    machine = known[part]["machine"]
    said = f"{machine['processor']}, {machine['cores']} cores, commit {machine['git_commit'][:7]}."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n*{said}*\n"


def filled(page: str, known: Mapping[str, Any]) -> str:
    """The page with its tables written anew."""
    return PLACE.sub(lambda place: f"{place[1]}{table(place[2], known)}{place[3]}", page)


def main() -> None:
    known = json.loads(FIGURES.read_text("utf-8"))
    PAGE.write_text(filled(PAGE.read_text("utf-8"), known), "utf-8")


if __name__ == "__main__":
    main()
