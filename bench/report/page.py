"""The page: one HTML file that needs nothing else, with every cell's details in it.

Names come from suite files and third parties, so nothing is trusted: markup is escaped by Jinja, data travels as JSON
whose angle brackets are escaped, scripts write text and never markup, and a content security policy lets run only the
page's own scripts, by their hashes, and nothing load from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.report.entry import Entry, drop, final_of, metric_value, seed_of, speedup_of, within
from bench.report.figures.panels import method_styles
from bench.report.formats.html import section_html
from bench.report.matrix import Matrix
from bench.report.records import missing_label
from bench.report.statistics import t_quantile
from bench.report.tables.data import Table
from bench.report.tables.shared import entry_id
from bench.report.workload import dense_of

HERE = Path(__file__).parent
VENDOR = ("d3.min.js", "plot.umd.min.js", "tabulator.min.js")
CURVE_NUMBERS = 250_000
"""Figures of training curves that a page holds; more cells get coarser curves, then none."""
CURVE_POINTS = (12, 60)
"""Fewest points that are worth drawing, and most."""
TRACE_CHARACTERS = 6_000
SYMBOLS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "wye", "P": "cross", "X": "star"}
DARK = {
    "#0072B2": "#5ab4f0",
    "#D55E00": "#ff8f4a",
    "#009E73": "#3fce9f",
    "#CC79A7": "#e79cc6",
    "#E69F00": "#f5b942",
    "#56B4E9": "#9ad5f7",
    "#6A3D9A": "#b794e0",
    "#8C564B": "#c79a90",
    "#6f6f6f": "#a8a8a8",
    "#9a9a9a": "#8a8a8a",
    "#444444": "#c9c9c9",
    "#b5b5b5": "#6f6f6f",
}
"""The figures' colours on a dark ground."""


@dataclass(frozen=True)
class Image:
    """A figure that the page shows as it was drawn."""

    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(shrink(self.png)).decode()


def shrink(png: bytes, width: int = 1500) -> bytes:
    """A figure's PNG at a page's size, in 128 colours."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Pillow.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.quantize(128, method=Pillow.Quantize.MEDIANCUT, dither=Pillow.Dither.NONE).save(
        stream, "PNG", optimize=True
    )
    return stream.getvalue()


def embed(value: Any) -> str:
    """JSON that no script element can be left from: `<`, `>` and `&` are written as escapes."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def short(value: float | None, digits: int = 6) -> float | None:
    """A figure to some significant digits: what a page shows, at a third of the size."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


class Pool:
    """Values that many cells share, kept once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._index: dict[str, int] = {}

    def add(self, value: Any) -> int:
        key = json.dumps(value, sort_keys=True, default=str)
        if key not in self._index:
            self._index[key] = len(self.values)
            self.values.append(value)
        return self._index[key]


def page_data(matrix: Matrix, *, runs: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the page's tables and figures are drawn from, and every cell's details."""
    looks = method_styles(matrix)
    methods = matrix.methods() + sorted({e.method for e in matrix.entries} - set(matrix.methods()))
    workloads = list(dict.fromkeys(e.workload for e in matrix.entries))
    numbers = {name: index for index, name in enumerate(workloads)}
    places = {name: index for index, name in enumerate(methods)}
    main = {id(entry) for entry in matrix.main}
    ids = entry_ids(matrix)
    entry_of = {entry.key: entry for entry in matrix.entries}

    def find(cell: Cell) -> int:
        return ids[entry_id(entry_of[matrix.entry_key(cell)])]

    cells: list[list[Any]] = []
    for record in matrix.records:
        workload, _ = matrix.labels[record.cell_id]
        ledger = record.ledger
        seconds = (ledger.dense_seconds + ledger.search_seconds + ledger.recovery_seconds) if ledger else None
        done = record.status == "finished" and final_of(record) is not None
        dense = dense_of(record, matrix.workloads[workload]) if done else None
        cells.append(
            [
                record.cell_id,
                find(matrix.configs[record.cell_id]),
                seed_of(record),
                0 if done else 1,
                short(dense),
                short(metric_value(record, record.pruned_metrics)),
                short(final_of(record)),
                short(
                    100 * record.macs_pruned / record.macs_dense if record.macs_dense and record.macs_pruned else None
                ),
                short(drop(record.params_pruned, record.params_dense) if record.params_pruned else None),
                short(record.latency_pruned.median_ms if record.latency_pruned else None, 5),
                short(speedup_of(record), 5),
                short(ledger.search_seconds if ledger else None, 5),
                short(seconds, 5),
                int(within(record)) if done else None,
                record.error[:300],
            ]
        )
    for cell in matrix.missing:
        cells.append([cell.id, find(cell), cell.seed, 2, *[None] * 10, ""])
    data = {
        "suite": matrix.suite,
        "runs": runs if re.match(r"https?://", runs) else "",
        "methods": [
            {"name": name, "control": name in {e.method for e in matrix.entries if e.control}}
            | {"symbol": SYMBOLS.get(looks[name].marker, "plus") if name in looks else "plus"}
            for name in methods
        ],
        "workloads": [_workload(matrix, name) for name in workloads],
        "entries": [_entry(e, numbers, places, id(e) in main) for e in matrix.entries],
        "cells": cells,
        "t": [None, *(round(t_quantile(n), 4) for n in range(1, 31))],
    }
    return data, details(matrix)


def entry_ids(matrix: Matrix) -> dict[str, int]:
    """Number of each entry in the page."""
    return {entry_id(entry): index for index, entry in enumerate(matrix.entries)}


def _workload(matrix: Matrix, name: str) -> dict[str, Any]:
    shared = matrix.workloads.get(name)
    if shared is None:
        source = next(e for e in matrix.entries if e.workload == name)
        return {"name": name, "task": source.task, "dataset": source.dataset, "model": source.model}
    dense = shared.dense
    return {
        "name": name,
        "task": shared.task,
        "dataset": shared.dataset,
        "model": shared.model,
        "metric": shared.metric,
        "unit": shared.unit,
        "higher": shared.higher_is_better,
        "digits": shared.digits,
        "dense": short(dense.mean),
        "interval": short(dense.interval),
        "latency": short(shared.latency_dense.mean),
    }


def _entry(entry: Entry, workloads: Mapping[str, int], methods: Mapping[str, int], main: bool) -> dict[str, Any]:
    return {
        "w": workloads[entry.workload],
        "m": methods[entry.method],
        "p": entry.protocol,
        "b": entry.budget,
        "r": entry.recovery,
        "s": entry.searched_on,
        "main": main,
        "rank": entry.rank,
        "verdict": entry.verdict,
        "pBest": short(entry.p_best, 3),
        "misses": entry.budget_misses,
    }


def details(matrix: Matrix) -> dict[str, Any]:
    """What a cell's own view shows, values that cells share kept once."""
    configs, environments, texts, names, metrics = Pool(), Pool(), Pool(), Pool(), Pool()
    points = curve_points(matrix)
    cells: dict[str, Any] = {}
    for record in matrix.records:
        plain = record.cell
        keys = sorted({*record.dense_metrics, *record.pruned_metrics, *record.final_metrics})
        item: dict[str, Any] = {
            "run": record.run_id,
            "w": configs.add(plain.get("workload", {})),
            "c": configs.add({k: v for k, v in plain.items() if k not in ("workload", "seed")}),
            "e": environments.add(record.environment),
            "at": [record.started_at, record.finished_at],
        }
        if record.notes or record.left_whole or record.dropped_blocks:
            item["n"] = texts.add([record.notes, record.left_whole, record.dropped_blocks])
        if keys:
            columns = (record.dense_metrics, record.pruned_metrics, record.final_metrics)
            item["k"] = metrics.add(keys)
            item["v"] = [[short(column.get(key)) for key in keys] for column in columns]
        if record.audit:
            a = record.audit
            item["a"] = [a.requested, a.tolerance, short(a.native_macs_ratio), a.fitted_channels]
            item["a"] += [short(a.macs_ratio), a.note]
            item["x"] = [record.macs_dense, record.macs_pruned, record.params_dense, record.params_pruned]
        if record.groups:
            item["g"] = names.add([[group.name, group.size] for group in record.groups])
            item["gw"] = [group.width for group in record.groups]
            native = [group.native_width for group in record.groups]
            if native != item["gw"]:
                item["gn"] = native
        if record.ledger:
            ledger = record.ledger
            seconds = (ledger.dense_seconds, ledger.search_seconds, ledger.recovery_seconds)
            spent = [ledger.dense_epochs, ledger.search_epochs, ledger.recovery_epochs]
            item["l"] = [*spent, *(short(s, 5) for s in seconds), ledger.device]
        if record.latency_dense and record.latency_pruned:
            item["t"] = [texts.add(record.latency_dense.model_dump()), texts.add(record.latency_pruned.model_dump())]
        if record.error:
            item["err"] = record.error[:TRACE_CHARACTERS]
        if record.traceback:
            item["tb"] = record.traceback[-TRACE_CHARACTERS:]
        if points and record.trajectory:
            item["tr"] = curves(record, points)
        cells[record.cell_id] = item
    for cell in matrix.missing:
        plain = cell.model_dump(mode="json")
        cells[cell.id] = {
            "w": configs.add(plain["workload"]),
            "c": configs.add({k: v for k, v in plain.items() if k not in ("workload", "seed")}),
        }
    return {
        "cells": cells,
        "configs": configs.values,
        "environments": environments.values,
        "texts": texts.values,
        "groups": names.values,
        "metrics": metrics.values,
        "points": points,
    }


def curve_points(matrix: Matrix) -> int:
    """Points to a training curve that fit into the page; 0 where curves are left out."""
    columns = sum(len(_curve_keys(record.trajectory)) for record in matrix.records)
    if not columns:
        return 0
    points = min(CURVE_POINTS[1], CURVE_NUMBERS // columns)
    return points if points >= CURVE_POINTS[0] else 0


def _curve_keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    seen = {key: None for row in (*rows[:1], *rows[-1:], *rows[len(rows) // 2 :][:1]) for key in row}
    return [key for key in seen if key not in ("phase", "epoch", "seconds", "lr")]


def curves(record: Record, points: int) -> dict[str, Any]:
    """Training curves by column, thinned evenly within each phase; the last epoch of a phase is always there."""
    rows = record.trajectory
    keys = sorted({key for row in rows for key in row if key not in ("phase", "epoch", "seconds", "lr")})
    phases: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        phases.setdefault(str(row.get("phase", "")), []).append(row)
    kept: list[dict[str, Any]] = []
    for phase in phases.values():
        share = max(2, round(points * len(phase) / len(rows)))
        step = max(1, math.ceil(len(phase) / share))
        kept += phase[::-1][::step][::-1]

    def value(item: Any) -> float | None:
        return short(float(item), 4) if isinstance(item, (int, float)) and not isinstance(item, bool) else None

    return {
        "phase": [str(row.get("phase", "")) for row in kept],
        "epoch": [value(row.get("epoch")) for row in kept],
        "y": {key: [value(row.get(key)) for row in kept] for key in keys},
    }


@cache
def _asset(name: str) -> str:
    text = (HERE / "static" / name).read_text(encoding="utf-8")
    # The map is not embedded; developer tools would go looking for it.
    return re.sub(r"\n//# sourceMappingURL=.*\s*$", "\n", text)


def _hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def page_html(
    matrix: Matrix,
    made: Sequence[Table],
    images: Sequence[Image],
    *,
    overview: Sequence[tuple[str, str]],
    findings: Sequence[str] = (),
    when: str,
    runs: str,
    thumbnails: Mapping[str, list[tuple[str, str]]] | None = None,
) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    data, more = page_data(matrix, runs=runs)
    data["thumbnails"] = thumbnails or {}
    ids = entry_ids(matrix)
    scripts = [_asset(f"vendor/{name}") for name in VENDOR] + [_asset("page.js")]
    licences = [
        (HERE / "static" / "vendor" / f"LICENSE-{n}.txt").read_text("utf-8") for n in ("d3", "plot", "tabulator")
    ]
    looks = method_styles(matrix)
    colours = [looks[m["name"]].colour if m["name"] in looks else "#6f6f6f" for m in data["methods"]]
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rich"] = lambda text: Markup(_rich(str(text)))
    return environment.get_template("page.html").render(
        suite=matrix.suite,
        when=when,
        overview=overview,
        findings=findings,
        counts={
            "finished": sum(row[3] == 0 for row in data["cells"]),
            "failed": len(matrix.failed),
            "missing": len(matrix.missing),
            "misses": sum(entry.budget_misses for entry in matrix.entries),
        },
        problems=" and ".join(
            name
            for name, here in (("Failed", matrix.failed), ("missing", matrix.missing), ("contradictory", findings))
            if here
        ).capitalize(),
        failed=[
            (r.cell_id, *matrix.labels[r.cell_id], matrix.configs[r.cell_id], r.error) for r in matrix.failed[:500]
        ],
        more_failed=max(0, len(matrix.failed) - 500),
        missing=[(cell.id, missing_label(cell)) for cell in matrix.missing[:500]],
        more_missing=max(0, len(matrix.missing) - 500),
        tables=[(t, [(s, Markup(section_html(s, lambda key: ids.get(key)))) for s in t.sections]) for t in made],
        images=images,
        curve_points=more["points"],
        total=len(matrix.records),
        version=", ".join(str(v) for v in sorted({r.protocol_version for r in matrix.records})),
        css=Markup(_asset("vendor/tabulator_simple.min.css") + _asset("page.css") + _colour_css(colours)),
        data=Markup(embed(data)),
        details=Markup(embed(more)),
        scripts=[Markup(script) for script in scripts],
        hashes=Markup(" ".join(_hash(script) for script in scripts)),
        licences=licences,
    )


def _rich(text: str) -> str:
    from markupsafe import escape

    body = str(escape(text))
    body = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", body)
    return re.sub(r"\*([^*]+)\*", r"<i>\1</i>", body)


def _colour_css(colours: Sequence[str]) -> str:
    light = "".join(f"--m{i}:{colour};" for i, colour in enumerate(colours))
    dark = "".join(f"--m{i}:{DARK.get(colour, colour)};" for i, colour in enumerate(colours))
    return (
        f":root{{{light}}}\n@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
    )
