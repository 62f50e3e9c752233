"""Puts a report's files into its folder, each whole or not at all."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.report import figures, tables
from bench.report.audit import contradictions
from bench.report.frames import CONTROLS, Matrix, build
from bench.report.latex import to_latex
from bench.report.page import page_html
from bench.report.page_pictures import FigurePicture
from bench.report.records import CELLS, dump_line, missing_label, write_bytes, write_lines, write_text

if TYPE_CHECKING:
    from bench.report import PictureSource

LISTED = 50
"""Missing or failed cells that the README names; the rest is counted."""
MAX_PICTURE = 32 * 2**20
"""Bytes; a larger file is not taken for a sample picture."""
MAX_THUMBNAILS = 120
"""Pictures that the page holds."""


def write(
    records: Sequence[Record],
    out: Path,
    *,
    suite: str,
    missing: Sequence[Cell],
    now: str | None,
    runs: str,
    controls: Collection[str] | None,
    pictures: PictureSource | None,
) -> Path:
    """See `bench.report.write_report`."""
    out = Path(out)
    matrix = build(records, missing, suite=suite, controls=CONTROLS if controls is None else controls)
    findings = contradictions(matrix.records)
    when = now or max((record.finished_at for record in matrix.records), default="")

    write_lines(out / CELLS, (dump_line(record) for record in matrix.records))
    write_text(out / "results.csv", tables.csv_text([record.row() for record in matrix.records]))

    made = tables.all_tables(matrix)
    for table in made:
        write_text(out / "tables" / f"{table.name}.md", tables.to_markdown(table, level=1))
        write_text(out / "tables" / f"{table.name}.csv", tables.csv_text(table.raw))
        write_text(out / "tables" / f"{table.name}.tex", to_latex(table))
    load = loader(pictures) if pictures is not None and any(record.pictures for record in matrix.records) else None
    drawn: list[tuple[str, str, str]] = []
    images: list[FigurePicture] = []
    for drawing in figures.all_figures(matrix, load):
        rendered = figures.style.render(drawing.figure)
        for suffix, data in rendered.items():
            write_bytes(out / "figures" / f"{drawing.name}.{suffix}", data)
        drawn.append((drawing.name, drawing.title, drawing.caption))
        if not drawing.interactive:
            images.append(FigurePicture(drawing.title, drawing.caption, rendered["png"]))
    _remove_stale(out, {table.name for table in made}, {name for name, _, _ in drawn})

    page = page_html(
        matrix,
        made,
        images,
        overview=overview(matrix),
        findings=findings[:LISTED],
        when=when,
        runs=runs,
        thumbnails=thumbnails(matrix, load) if load else None,
    )
    write_text(out / "index.html", page)
    readme = out / "README.md"
    write_text(readme, readme_text(matrix, made, drawn, findings, when=when))
    return readme


def loader(source: PictureSource) -> Callable[[Record, str], bytes | None]:
    """A function that reads a record's picture, or gives None where it is not there or too large to be one."""

    def load(record: Record, path: str) -> bytes | None:
        if callable(source):
            found = source(record, path)
        else:
            # A path from a record must not lead out of the folder.
            places = [Path(source) / record.run_id / path, Path(source) / path]
            inside = [p for p in places if p.resolve().is_relative_to(Path(source).resolve())]
            found = next((p for p in inside if p.is_file()), None)
        if isinstance(found, Path):
            found = found.read_bytes() if found.is_file() and found.stat().st_size <= MAX_PICTURE else None
        return found

    return load


def thumbnails(matrix: Matrix, load: Callable[[Record, str], bytes | None]) -> dict[str, list[tuple[str, str]]]:
    """Small versions of cells' pictures for the page, as data addresses; the first cells' where there are many."""
    from PIL import Image as Pillow

    found: dict[str, list[tuple[str, str]]] = {}
    left = MAX_THUMBNAILS
    for record in matrix.finished:
        for path in record.pictures[:8]:
            data = load(record, path) if left > 0 else None
            if data is None:
                continue
            try:
                with Pillow.open(io.BytesIO(data)) as opened:
                    picture = opened.convert("RGB")
            except (OSError, ValueError, Pillow.DecompressionBombError):
                continue
            picture.thumbnail((900 if picture.width > 2 * picture.height else 240, 240))
            stream = io.BytesIO()
            picture.save(stream, "WEBP", quality=80, method=6)
            uri = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
            found.setdefault(record.cell_id, []).append((path, uri))
            left -= 1
    return found


def _remove_stale(out: Path, made: set[str], drawn: set[str]) -> None:
    """A table or figure of an earlier report that this one does not have would be read as its own."""
    for folder, names, suffixes in (("tables", made, ("md", "tex", "csv")), ("figures", drawn, ("png", "svg", "pdf"))):
        for file in (out / folder).glob("*"):
            if file.suffix[1:] in suffixes and file.stem not in names:
                file.unlink()


def overview(matrix: Matrix) -> list[tuple[str, str]]:
    """What was run, in names and values."""
    configs = list(matrix.configs.values()) + matrix.missing
    versions = sorted({record.protocol_version for record in matrix.records})
    rows = [
        ("Cells", f"{len(matrix.finished)} finished, {len(matrix.failed)} failed, {len(matrix.missing)} missing"),
        ("Methods", ", ".join(name for name in matrix.methods() if name not in _control_labels(matrix)) or "none"),
        ("Controls", ", ".join(name for name in matrix.methods() if name in _control_labels(matrix)) or "none"),
        ("Budgets", ", ".join(f"{b:g}" for b in sorted({c.budget for c in configs}, reverse=True))),
        ("Tolerance", ", ".join(f"± {t:g}" for t in sorted({c.tolerance for c in configs}))),
        ("Seeds", ", ".join(str(s) for s in sorted({c.seed for c in configs}))),
        ("Protocol", ", ".join(sorted({c.protocol for c in configs}))),
        ("Protocol version", ", ".join(str(v) for v in versions)),
    ]
    for key in sorted({key for record in matrix.records for key in record.environment}):
        counts = Counter(record.environment.get(key, "not recorded") for record in matrix.records)
        values = [value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        shown = ", ".join(values[:4]) + (f" and {len(values) - 4} more" if len(values) > 4 else "")
        rows.append((key.replace("_", " ").capitalize(), shown))
    return [(name, value) for name, value in rows if value]


def _control_labels(matrix: Matrix) -> set[str]:
    return {entry.method for entry in matrix.main if entry.control}


def readme_text(
    matrix: Matrix,
    made: Sequence[tables.Table],
    drawn: Sequence[tuple[str, str, str]],
    findings: Sequence[str] = (),
    *,
    when: str,
) -> str:
    """The report's front page."""
    by_name = {table.name: table for table in made}
    lines = [f"# {tables.md_escape(matrix.suite)}", ""]
    if when:
        lines += [f"State of {tables.md_escape(when)}. ", ""]
    lines += ["[The page](index.html) has the same figures to sort and filter, and every cell's details.", ""]
    lines += status_lines(matrix)
    if findings:
        lines += [
            f"**{len(findings)} contradictions in the records**; figures that rest on them are not to be trusted:",
            "",
        ]
        lines += [f"- {tables.md_escape(finding)}" for finding in findings[:LISTED]]
        lines += [f"- … and {len(findings) - LISTED} more"] * (len(findings) > LISTED) + [""]
    lines += ["## What was run", "", "| | |", "| :--- | :--- |"]
    lines += [f"| {name} | {tables.md_escape(value)} |" for name, value in overview(matrix)]
    lines += [""]
    for workload in matrix.workloads.values():
        if workload.metric:
            lines += [f"**{tables.md_escape(workload.name)}**: {tables.md_escape(tables.about(workload))}", ""]
    if "main" in by_name:
        lines += [tables.to_markdown(by_name["main"]), ""]
    for name, title, caption in drawn:
        if name == "metric_vs_macs":
            lines += [f"![{tables.md_escape(title)}](figures/{name}.png)", "", caption, ""]
    for name in ("ranks", "recovery", "transfer", "published", "budget_audit", "ledger"):
        if name in by_name:
            lines += [tables.to_markdown(by_name[name]), ""]
    lines += _problems(matrix)
    if drawn:
        lines += ["## Figures", ""]
        for name, title, _ in drawn:
            formats = " · ".join(f"[{suffix}](figures/{name}.{suffix})" for suffix in ("png", "svg", "pdf"))
            lines.append(f"- {tables.md_escape(title)}: {formats}")
        lines.append("")
    if made:
        lines += ["## Tables", ""]
        for table in made:
            formats = " · ".join(f"[{suffix}](tables/{table.name}.{suffix})" for suffix in ("md", "csv", "tex"))
            lines.append(f"- {table.title}: {formats}")
        lines.append("")
    lines += [f"All cells: [results.csv](results.csv), one row a cell; [{CELLS}]({CELLS}), the full records.", ""]
    return "\n".join(lines)


def status_lines(matrix: Matrix) -> list[str]:
    """What is not there, before any figure is read."""
    if not matrix.records:
        return ["**No cell is recorded yet.**", ""]
    parts = []
    if matrix.failed:
        parts.append(f"{len(matrix.failed)} cells failed" if len(matrix.failed) > 1 else "1 cell failed")
    if matrix.missing:
        parts.append(f"{len(matrix.missing)} are missing" if len(matrix.missing) > 1 else "1 is missing")
    misses = sum(entry.budget_misses for entry in matrix.entries)
    if misses:
        parts.append(f"{misses} missed the budget, and the rows they belong to are not ranked")
    total = len(matrix.records) + len(matrix.missing)
    if not parts:
        return [f"The matrix is complete: all {total} cells finished, within their budgets.", ""]
    return [f"**Of {total} cells, {', '.join(parts)}**: [see below](#failed-and-missing).", ""]


def _problems(matrix: Matrix) -> list[str]:
    lines = ["## Failed and missing", ""]
    if not matrix.failed and not matrix.missing:
        return [*lines, "None.", ""]
    for record in matrix.failed[:LISTED]:
        label = tables.md_escape(matrix.configs[record.cell_id].label)
        error = tables.md_escape(record.error or "no reason was recorded")
        lines.append(f"- failed: {label} (`{record.cell_id}`): {error}")
    if len(matrix.failed) > LISTED:
        lines.append(f"- … and {len(matrix.failed) - LISTED} more failed cells, in results.csv")
    for cell in matrix.missing[:LISTED]:
        lines.append(f"- missing: {tables.md_escape(missing_label(cell))}")
    if len(matrix.missing) > LISTED:
        lines.append(f"- … and {len(matrix.missing) - LISTED} more missing cells, in the page")
    return [*lines, ""]
