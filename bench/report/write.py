"""Puts a report's files into its folder, each whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.processes import settled
from bench.report.audit import contradictions
from bench.report.figures.fingerprint import line_digest
from bench.report.figures.samples import LoadPicture
from bench.report.figures.style import FORMATS as FIGURE_FORMATS
from bench.report.figures.write import writing_figures
from bench.report.formats.csv import to_csv
from bench.report.formats.latex import to_latex
from bench.report.formats.markdown import to_markdown
from bench.report.front_page import LISTED, overview, readme_text
from bench.report.matrix import Matrix, build
from bench.report.page import page_html
from bench.report.pictures import PictureSource, loader, thumbnails
from bench.report.records import CELLS, dump_line, write_lines, write_text
from bench.report.tables.catalogue import all_tables
from bench.report.tables.data import Table

TABLE_FORMATS = ("md", "csv", "tex")


def write_report(
    records: Sequence[Record],
    out: Path,
    *,
    suite: str,
    missing: Sequence[Cell] = (),
    now: str | None = None,
    runs: str = "",
    controls: Collection[str] | None = None,
    pictures: PictureSource | None = None,
) -> Path:
    """Write the report of `records` into `out`, and return the path of its README.

    The same records give the same bytes: the only date is `now`, or else that of the latest record.

    Args:
        suite: title of the report.
        missing: cells of the suite that have no record yet; named as missing.
        runs: http address of the MLflow runs' pages, up to a run's id (`Tracker.runs_page`); without one, run ids are
            shown and not linked.
        controls: names of the adapters that are baselines; by default those of the catalogue.
        pictures: where `Record.pictures` are: a folder that holds them by run id or directly, or a function from
            record and path to a file or its bytes.

    Raises:
        ReportError: records of several protocol versions, a cell twice, a configuration that cannot be read.
    """
    out = Path(out)
    matrix = build(records, missing, suite=suite, controls=controls)
    when = now or max((record.finished_at for record in matrix.records), default="")
    load = loader(pictures) if pictures is not None and any(record.pictures for record in matrix.records) else None

    with settled():
        return _written(matrix, out, load, when, runs)


def _written(matrix: Matrix, out: Path, load: LoadPicture | None, when: str, runs: str) -> Path:
    lines: dict[str, bytes] = {}
    write_lines(out / CELLS, _dumped(matrix.records, lines))
    with writing_figures(matrix, load, out / "figures", lines) as written:
        write_text(out / "results.csv", to_csv([r.row(matrix.configs[r.cell_id]) for r in matrix.records]))
        tables = all_tables(matrix)
        _write_tables(tables, out / "tables")
        findings = contradictions(matrix.records)
        small = thumbnails(matrix, load) if load else None
        figures, images = written()
    _remove_stale(out / "figures", {figure.name for figure in figures}, FIGURE_FORMATS)
    page = page_html(
        matrix,
        tables,
        images,
        overview=overview(matrix),
        findings=findings[:LISTED],
        when=when,
        runs=runs,
        thumbnails=small,
    )
    write_text(out / "index.html", page)
    readme = out / "README.md"
    write_text(readme, readme_text(matrix, tables, figures, findings, when=when))
    return readme


def _dumped(records: Sequence[Record], digests: dict[str, bytes]) -> Iterator[str]:
    """Lines of records, whose digests are kept by cell id."""
    for record in records:
        line = dump_line(record)
        digests[record.cell_id] = line_digest(line)
        yield line


def _write_tables(tables: Sequence[Table], folder: Path) -> None:
    for table in tables:
        write_text(folder / f"{table.name}.md", to_markdown(table, level=1))
        write_text(folder / f"{table.name}.csv", to_csv(table.raw))
        write_text(folder / f"{table.name}.tex", to_latex(table))
    _remove_stale(folder, {table.name for table in tables}, TABLE_FORMATS)


def _remove_stale(folder: Path, names: Collection[str], suffixes: Collection[str]) -> None:
    """A table or figure of an earlier report that this one does not have would be read as its own."""
    for file in folder.glob("*"):
        if file.suffix[1:] in suffixes and file.stem not in names:
            file.unlink(missing_ok=True)  # another process may write the same report
