"""The report's README: what came of it in sentences, what was run and is missing, the main tables and figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.interface.cell import BUDGET_WORDS, BudgetKind
from bench.interface.record import METHOD_SOURCE
from bench.report.figures.drawing import Written
from bench.report.formats.markdown import md_escape, to_markdown
from bench.report.matrix import Matrix
from bench.report.opening import Paragraph, opening
from bench.report.records import CELLS, missing_label
from bench.report.tables.data import Table
from bench.report.tables.main import about

MAIN_TABLE, MAIN_FIGURES = "main", ("metric_vs_macs", "metric_vs_params")
"""Figures of the kinds of budgets that a report has."""
LISTED = 50
"""Missing or failed cells and contradictions that the README names; the rest is counted."""


def overview(matrix: Matrix) -> list[tuple[str, str]]:
    """What was run, in names and values."""
    cells = list(matrix.configs.values()) + matrix.missing
    controls = matrix.controls()
    versions = sorted({record.protocol_version for record in matrix.records})
    rows = [
        ("Cells", f"{len(matrix.finished)} finished, {len(matrix.failed)} failed, {len(matrix.missing)} missing"),
        ("Methods", ", ".join(name for name in matrix.methods() if name not in controls) or "none"),
        ("Controls", ", ".join(name for name in matrix.methods() if name in controls) or "none"),
        ("Budgets", _budgets(matrix)),
        ("Tolerance", ", ".join(f"± {t:g}" for t in sorted({c.tolerance for c in cells}))),
        ("Seeds", ", ".join(str(s) for s in sorted({c.seed for c in cells}))),
        ("Protocol", ", ".join(sorted({c.protocol for c in cells}))),
        ("Protocol version", ", ".join(str(v) for v in versions)),
        *_environment(matrix),
    ]
    return [(name, value) for name, value in rows if value]


def _budgets(matrix: Matrix) -> str:
    """All budgets, and of what they are fractions where that is not the MACs alone."""
    found: dict[BudgetKind, set[float]] = {}
    for entry in matrix.entries:
        if entry.prunes:
            found.setdefault(entry.budget_kind, set()).add(entry.budget)
    parts = [
        ", ".join(f"{budget:g}" for budget in sorted(found[kind], reverse=True))
        + (f" of the {words}" if set(found) != {"macs"} else "")
        for kind, words in BUDGET_WORDS.items()
        if kind in found
    ]
    return "; ".join(parts)


def _environment(matrix: Matrix) -> Iterator[tuple[str, str]]:
    """Versions and machines, the most frequent values first."""
    # A method's source is its cells' own, not the machine's.
    for key in sorted({key for record in matrix.records for key in record.environment} - {METHOD_SOURCE}):
        counts = Counter(record.environment.get(key, "not recorded") for record in matrix.records)
        values = [value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        more = f" and {len(values) - 4} more" if len(values) > 4 else ""
        yield key.replace("_", " ").capitalize(), ", ".join(values[:4]) + more


def readme_text(
    matrix: Matrix, tables: Sequence[Table], figures: Sequence[Written], findings: Sequence[str] = (), *, when: str
) -> str:
    """The whole README.

    Args:
        findings: contradictions in the records.
        when: the state that the report shows.
    """
    main = [table for table in tables if table.name == MAIN_TABLE]
    others = [table for table in tables if table.on_front_page and table.name != MAIN_TABLE]
    lines = [f"# {md_escape(matrix.suite)}", ""]
    if when:
        lines += [f"State of {md_escape(when)}. ", ""]
    lines += ["[The page](index.html) has the same figures to sort and filter, and every cell's details.", ""]
    lines += [_status(matrix), ""]
    lines += _contradictions(findings)
    lines += _in_short(opening(matrix))
    lines += _what_was_run(matrix)
    lines += [part for table in main for part in (to_markdown(table), "")]
    for figure in figures:
        if figure.name in MAIN_FIGURES:
            lines += [f"![{md_escape(figure.title)}](figures/{figure.name}.png)", "", figure.caption, ""]
    lines += [part for table in others for part in (to_markdown(table), "")]
    lines += _problems(matrix)
    lines += _files("Figures", "figures", [(md_escape(f.title), f.name) for f in figures], ("png", "svg", "pdf"))
    lines += _files("Tables", "tables", [(table.title, table.name) for table in tables], ("md", "csv", "tex"))
    lines += [f"All cells: [results.csv](results.csv), one row a cell; [{CELLS}]({CELLS}), the full records.", ""]
    return "\n".join(lines)


def _status(matrix: Matrix) -> str:
    """What is not there, before any result is read."""
    if not matrix.records:
        return "**No cell is recorded yet.**"
    parts = []
    if matrix.failed:
        parts.append(f"{len(matrix.failed)} cells failed" if len(matrix.failed) > 1 else "1 cell failed")
    if matrix.missing:
        parts.append(f"{len(matrix.missing)} are missing" if len(matrix.missing) > 1 else "1 is missing")
    misses = sum(entry.budget_misses for entry in matrix.entries)
    if misses:
        parts.append(f"{misses} missed the budget, and the rows they belong to are not ranked")
    idle = sum(entry.ailments.total() for entry in matrix.entries)
    if idle:
        parts.append(
            f"{idle} learned nothing (no better than the majority class, or diverged), and their rows are not ranked"
        )
    total = len(matrix.records) + len(matrix.missing)
    if not parts:
        return f"The matrix is complete: all {total} cells finished, within their budgets."
    return f"**Of {total} cells, {', '.join(parts)}**: [see below](#failed-and-missing)."


def _contradictions(findings: Sequence[str]) -> list[str]:
    if not findings:
        return []
    head = f"**{len(findings)} contradictions in the records**; figures that rest on them are not to be trusted:"
    more = [f"- … and {len(findings) - LISTED} more"] if len(findings) > LISTED else []
    return [head, "", *(f"- {md_escape(finding)}" for finding in findings[:LISTED]), *more, ""]


def _in_short(paragraphs: Sequence[Paragraph]) -> list[str]:
    if not paragraphs:
        return []
    lines = ["## In short", ""]
    for paragraph in paragraphs:
        if paragraph.title:
            lines += [f"**{md_escape(paragraph.title)}**", ""]
        lines += [*(f"- {md_escape(point)}" for point in paragraph.points), ""]
    return lines


def _what_was_run(matrix: Matrix) -> list[str]:
    lines = ["## What was run", "", "| | |", "| :--- | :--- |"]
    lines += [f"| {name} | {md_escape(value)} |" for name, value in overview(matrix)]
    lines += [""]
    for workload in matrix.workloads.values():
        if workload.metric:
            lines += [f"**{md_escape(workload.name)}**: {md_escape(about(workload))}", ""]
    return lines


def _problems(matrix: Matrix) -> list[str]:
    lines = ["## Failed and missing", ""]
    if not matrix.failed and not matrix.missing:
        return [*lines, "None.", ""]
    for record in matrix.failed[:LISTED]:
        label = md_escape(matrix.configs[record.cell_id].label)
        error = md_escape(record.error or "no reason was recorded")
        lines.append(f"- failed: {label} (`{record.cell_id}`): {error}")
    if len(matrix.failed) > LISTED:
        lines.append(f"- … and {len(matrix.failed) - LISTED} more failed cells, in results.csv")
    for cell in matrix.missing[:LISTED]:
        lines.append(f"- missing: {md_escape(missing_label(cell))}")
    if len(matrix.missing) > LISTED:
        lines.append(f"- … and {len(matrix.missing) - LISTED} more missing cells, in the page")
    return [*lines, ""]


def _files(heading: str, folder: str, named: Sequence[tuple[str, str]], suffixes: Sequence[str]) -> list[str]:
    """Links to files, one line a title, under a heading."""
    if not named:
        return []
    lines = [f"## {heading}", ""]
    for title, name in named:
        lines.append(f"- {title}: " + " · ".join(f"[{suffix}]({folder}/{name}.{suffix})" for suffix in suffixes))
    return [*lines, ""]
