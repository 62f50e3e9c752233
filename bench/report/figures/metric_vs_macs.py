"""The main figure: the metric after recovery against measured MACs, or parameters where budgets are of those."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bench.interface.cell import BUDGET_WORDS, BudgetKind
from bench.report.entry import Entry
from bench.report.figures import style
from bench.report.figures.axes import draw_unpruned, unpruned_lines
from bench.report.figures.dots import dot_panels
from bench.report.figures.drawing import Drawing, numbered
from bench.report.figures.panels import MAX_PAGES, PanelKey, beyond, panels, scatter, several_protocols
from bench.report.matrix import Matrix
from bench.report.ranking import pareto
from bench.report.statistics import Sample
from bench.report.workload import WorkloadSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = (
    "Test metric after recovery against measured {unit}: means over seeds, joined by method. Bands: 95 % intervals "
    "over seeds, cut at the panel (bars for two seeds, none for one). Broken lines and their grey bands: networks that "
    "are not pruned. Ringed: the Pareto front of ranked entries. Red crosses: off budget, not ranked."
)
DOTS = (
    "Test metric after recovery at one budget of {unit}, best mean first, controls below. Large marks: means over "
    "seeds; bars: 95 % intervals over seeds (none for one seed), with an arrow where the panel cuts them; small dots: "
    "single seeds. Broken lines and their grey bands: networks that are not pruned. Red crosses: off budget, not "
    "ranked."
)


def metric_vs_macs(matrix: Matrix) -> Iterator[Drawing]:
    """One panel a workload: a curve a method, or, where there is one budget and so no curve, a dot plot.

    Budgets of parameters have figures of their own, `metric_vs_params`.
    """
    for kind in BUDGET_WORDS:
        yield from _of_kind(matrix, kind)


def _of_kind(matrix: Matrix, kind: BudgetKind) -> Iterator[Drawing]:
    several, single = _by_budgets(matrix, kind)
    number = 0

    def drawing(caption: str, groups: _Groups, page: Callable[[], Figure], shown: list[Entry]) -> Drawing:
        unit = BUDGET_WORDS[kind]
        text = caption.format(unit=unit) + beyond(len(groups), MAX_PAGES)
        name = numbered(f"metric_vs_{kind}", number)
        return Drawing(name, f"Metric against {unit}", text, page, shown, interactive=True)

    for page, shown in _curves(matrix, several, kind):
        yield drawing(CURVES, several, page, shown)
        number += 1
    pages = MAX_PAGES - number
    for page, shown in dot_panels(matrix, single, lambda key: _title(matrix, key, single[key]), pages=pages):
        yield drawing(DOTS, single, page, shown)
        number += 1


_Groups = dict[tuple[str, str], list[Entry]]


def _by_budgets(matrix: Matrix, kind: BudgetKind) -> tuple[_Groups, _Groups]:
    """Entries with a result by workload and protocol: those of several budgets of a kind, and those of one."""
    several: _Groups = {}
    single: _Groups = {}
    for key, entries in matrix.groups().items():
        found = [e for e in entries if e.n and e.budget_kind == kind and (not e.prunes or e.kept_ratio.n)]
        budgets = {e.budget for e in found if e.prunes}
        if budgets and key[0] in matrix.workloads:
            (several if len(budgets) > 1 else single)[key] = found
    return several, single


def _title(matrix: Matrix, key: tuple[str, str], entries: list[Entry]) -> str:
    workload, protocol = key
    budget = next(e.budget_text for e in entries if e.prunes)
    return f"{workload}, {budget}" + (f" · {protocol}" if several_protocols(matrix) else "")


def _curves(matrix: Matrix, groups: _Groups, kind: BudgetKind) -> Iterator[tuple[Callable[[], Figure], list[Entry]]]:
    def across(entry: Entry) -> Sample:
        return entry.macs_percent if kind == "macs" else entry.params_percent

    def draw(axis: Axes, entries: list[Entry], workload: WorkloadSummary, key: PanelKey) -> None:
        pruned = [e for e in entries if e.prunes]
        lines = unpruned_lines(workload, entries)
        draw_unpruned(axis, lines)
        scatter(axis, matrix, pruned, workload, across, bands=True, lines=lines)
        _ring(axis, pareto(pruned), across)
        axis.set_xlabel(f"{BUDGET_WORDS[kind]}, % of dense")

    drawn = panels(matrix, f"metric_vs_{kind}", draw, groups, pages=MAX_PAGES, unpruned_as_lines=True)
    yield from ((page, shown) for _, page, shown in drawn)


def _ring(axis: Axes, front: list[Entry], across: Callable[[Entry], Sample]) -> None:
    """Rings around the entries of the Pareto front."""
    axis.plot(
        [across(e).mean or 0 for e in front],
        [e.final.mean or 0 for e in front],
        linestyle="none",
        marker="o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=style.INK,
        markeredgewidth=0.8,
        zorder=5,
    )
