"""Published figures: what papers state for the data sets and networks that were run here, beside what was measured."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report.entry import Entry
from bench.report.matrix import Matrix
from bench.report.tables.data import Num, Row, Section, Table, Text, numbers, words
from bench.report.tables.shared import DELTA, MACS_DROP, METHOD, Shown, columns_of, entry_id, mean, spread, values_of


@dataclass(frozen=True)
class _Comparison:
    """One figure of a paper, and our entry at the nearest MACs."""

    paper: dict[str, Any]
    result: dict[str, Any]
    ours: Entry
    digits: int

    @property
    def method(self) -> str:
        """The paper's method and variant, and the label of ours where it is a variant too."""
        name = self.paper["method"]
        paper = f"{name} {self.result['variant']}" if "variant" in self.result else name
        return paper if self.ours.method == name else f"{paper}; ours: {self.ours.method}"

    @property
    def delta(self) -> float | None:
        pruned, dense = self.result.get("pruned"), self.result.get("dense")
        return pruned - dense if pruned is not None and dense is not None else None


COLUMNS: list[Shown[_Comparison]] = [
    (words("Network"), lambda c: Text(f"{c.result['model']}, {c.result['dataset']}")),
    (METHOD, lambda c: Text(c.method, link=entry_id(c.ours))),
    (numbers("Published"), lambda c: Num(c.result.get("pruned"))),
    (DELTA, lambda c: Num(c.delta, signed=True)),
    (MACS_DROP, lambda c: _macs_drop_value(c.result)),
    (numbers("Ours"), lambda c: spread(c.ours.final, c.digits)),
    (numbers("Δ ours"), lambda c: spread(c.ours.delta, c.digits, signed=True)),
    (numbers("MACs ↓ % ours", tex=r"MACs $\downarrow$ \% ours"), lambda c: mean(c.ours.macs_drop, 1)),
    (words("Source"), lambda c: Text(c.paper["id"])),
]


def published_table(matrix: Matrix) -> Table | None:
    """Every published figure for which there is an entry of the same method, network and data set."""
    found = list(_comparisons(matrix))
    if not found:
        return None
    rows = [Row(values_of(COLUMNS, comparison), entry_id(comparison.ours)) for comparison in found]
    papers = {comparison.paper["id"]: comparison.paper for comparison in found}
    notes = [f"{p['id']}: {p['cite']}. Protocol: {p['protocol']}. Caveat: {p['caveat']}." for p in papers.values()]
    caption = (
        "Figures that the papers state, beside ours at the nearest MACs. Recipes differ, so that the two are not a "
        "comparison: the protocol and caveat of each source are below."
    )
    sections = [Section("", columns_of(COLUMNS), rows, notes)]
    return Table("published", "Published figures", caption, sections, [_fields(comparison) for comparison in found])


def _comparisons(matrix: Matrix) -> Iterator[_Comparison]:
    for paper in published_papers():
        for result in paper["results"]:
            ours = _nearest(matrix, paper["method"], result)
            if ours is not None:
                yield _Comparison(paper, result, ours, matrix.workloads[ours.workload].digits)


def _nearest(matrix: Matrix, method: str, result: dict[str, Any]) -> Entry | None:
    """The entry of the same method, network and data set whose MACs are nearest; a variant only for want of another."""
    where = (plain(result["dataset"]), plain(result["model"]))
    same = [e for e in matrix.main if (plain(e.dataset), plain(e.model)) == where and e.adapter == method and e.n]
    return min(
        same, key=lambda e: (e.method != method, abs((e.macs_drop.mean or 0) - _macs_drop(result))), default=None
    )


def _macs_drop(result: dict[str, Any]) -> float:
    """What the paper removed of the MACs, in percent, or the bound that it gives."""
    return result["macs_drop"] if "macs_drop" in result else result["macs_drop_at_least"]


def _macs_drop_value(result: dict[str, Any]) -> Num | Text:
    drop = _macs_drop(result)
    return Num(drop, digits=1) if "macs_drop" in result else Text(f"over {drop:g}")


def _fields(comparison: _Comparison) -> dict[str, Any]:
    paper, result, ours = comparison.paper, comparison.result, comparison.ours
    return {
        "dataset": result["dataset"],
        "model": result["model"],
        "method": paper["method"],
        "variant": result.get("variant", ""),
        "published_dense": result.get("dense"),
        "published_pruned": result.get("pruned"),
        "published_delta": comparison.delta,
        "published_macs_drop_percent": _macs_drop(result),
        "ours_final_mean": ours.final.mean,
        "ours_delta_mean": ours.delta.mean,
        "ours_n": ours.n,
        "ours_macs_drop_percent": ours.macs_drop.mean,
        "ours_workload": ours.workload,
        "ours_protocol": ours.protocol,
        "source": paper["cite"],
        "caveat": paper["caveat"],
        "ours_method": ours.method,
    }


def plain(name: str) -> str:
    """A data set's or network's name without case and punctuation: `ResNet-56` is `resnet56`."""
    return "".join(sign for sign in name.lower() if sign.isalnum())


def published_papers() -> list[dict[str, Any]]:
    """What `published.toml` holds: beside the committed reports, or in the installed package."""
    here = Path(__file__)
    for path in (here.parents[3] / "reports" / "published.toml", here.parents[1] / "published.toml"):
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))["source"]
    return []
