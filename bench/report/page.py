"""The page: one HTML file that needs nothing else, with every cell's details in it.

Names come from suite files and third parties, so nothing is trusted. Jinja escapes the markup. Data travels as JSON
whose angle brackets are escaped. Scripts write text and never markup. A content security policy allows the page's own
scripts alone, by their hashes, and forbids the page to load anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report.figures.panels import method_styles
from bench.report.formats.html import section_html
from bench.report.matrix import Matrix
from bench.report.opening import opening
from bench.report.page_data import page_data
from bench.report.page_details import curve_points, page_details
from bench.report.page_pictures import FigurePicture
from bench.report.records import missing_label
from bench.report.tables.data import Table
from bench.report.tables.shared import entry_id, kinds_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HERE = Path(__file__).parent
LIBRARIES = ("d3.min.js", "plot.umd.min.js", "tabulator.min.js")
LICENCES = ("LICENSE-d3.txt", "LICENSE-plot.txt", "LICENSE-tabulator.txt")
OWN_SCRIPTS = ("base.js", "data.js", "filters.js", "tables.js", "figures.js", "widths.js", "cell.js", "main.js")
"""In the order in which they run: each takes what it needs from those before it."""
LISTED = 500
"""Failed or missing cells that the page lists before its figures; the rest is counted."""
UNKNOWN_COLOUR = "#6f6f6f"
"""Of a method that is in none of the figures."""
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


def page_html(
    matrix: Matrix,
    made: Sequence[Table],
    pictures: Sequence[FigurePicture],
    *,
    overview: Sequence[tuple[str, str]],
    findings: Sequence[str] = (),
    when: str,
    runs: str,
    thumbnails: Mapping[str, list[tuple[str, str]]] | None = None,
) -> str:
    """The whole page.

    Args:
        made: the report's tables, which stand in the page as they are.
        pictures: figures that the page shows as they were drawn.
        overview: what was run, in names and values.
        findings: contradictions in the records, in sentences.
        when: the state that the page shows, as a date; may be empty.
        runs: http address of the MLflow runs' pages, up to a run's id.
        thumbnails: small pictures by cell id, each a name and a data address.
    """
    from markupsafe import Markup

    data = page_data(matrix, runs=runs, thumbnails=thumbnails)
    points = curve_points(matrix)
    scripts = page_scripts()
    return (
        _environment()
        .get_template("page.html")
        .render(
            suite=matrix.suite,
            when=when,
            version=", ".join(str(v) for v in sorted({record.protocol_version for record in matrix.records})),
            budgets=kinds_text(matrix, short=True),
            opening=opening(matrix),
            overview=overview,
            total=len(matrix.records),
            curve_points=points,
            tables=_static_tables(matrix, made),
            pictures=pictures,
            css=Markup(_style(matrix, [method.name for method in data["methods"]["rows"]])),
            data=Markup(embed(data)),
            details=Markup(embed(page_details(matrix, points=points))),
            scripts=[Markup(script) for script in scripts],
            hashes=Markup(" ".join(_hash(script) for script in scripts)),
            licences=[_asset(f"vendor/{name}") for name in LICENCES],
            **_problems(matrix, findings),
            counts={
                "finished": sum(cell.status == "finished" for cell in data["cells"]["rows"]),
                "failed": len(matrix.failed),
                "missing": len(matrix.missing),
                "misses": sum(entry.budget_misses for entry in matrix.entries),
            },
        )
    )


def page_scripts() -> list[str]:
    """The text of each script of the page, in the order in which they run."""
    return [_asset(name) for name in (*(f"vendor/{library}" for library in LIBRARIES), *OWN_SCRIPTS)]


def embed(value: Any) -> str:
    """JSON that cannot end the script element around it: `<`, `>` and `&` are written as escapes."""
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


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rich"] = _rich
    return environment


def _rich(text: str) -> Markup:
    """Text whose `**` and `*` are bold and italic, and all else escaped."""
    from markupsafe import Markup, escape

    body = str(escape(text))
    body = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", body)
    return Markup(re.sub(r"\*([^*]+)\*", r"<i>\1</i>", body))


@cache
def _asset(name: str) -> str:
    text = (HERE / "static" / name).read_text(encoding="utf-8")
    # The map is not embedded, and developer tools would ask the network for it.
    return re.sub(r"\n//# sourceMappingURL=.*\s*$", "\n", text)


def _hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def _static_tables(matrix: Matrix, made: Sequence[Table]) -> list[tuple[Table, list[tuple[Any, Markup]]]]:
    """Each table with its sections and their markup; rows lead to their entry by its number in the page."""
    from markupsafe import Markup

    numbers = {entry_id(entry): number for number, entry in enumerate(matrix.entries)}
    return [
        (table, [(section, Markup(section_html(section, numbers.get))) for section in table.sections]) for table in made
    ]


def _problems(matrix: Matrix, findings: Sequence[str]) -> dict[str, Any]:
    """What the page says before any figure: failed and missing cells, contradictions."""
    kinds = {"failed": matrix.failed, "missing": matrix.missing, "contradictory": findings}
    return {
        "problems": " and ".join(name for name, found in kinds.items() if found).capitalize(),
        "findings": findings,
        "failed": [
            (record.cell_id, *matrix.labels[record.cell_id], matrix.configs[record.cell_id], record.error)
            for record in matrix.failed[:LISTED]
        ],
        "more_failed": max(0, len(matrix.failed) - LISTED),
        "missing": [missing_label(cell) for cell in matrix.missing[:LISTED]],
        "more_missing": max(0, len(matrix.missing) - LISTED),
    }


def _style(matrix: Matrix, methods: Sequence[str]) -> str:
    styles = method_styles(matrix)
    colours = [styles[name].colour if name in styles else UNKNOWN_COLOUR for name in methods]
    return _asset("vendor/tabulator_simple.min.css") + _asset("page.css") + _colour_css(colours)


def _colour_css(colours: Sequence[str]) -> str:
    """The methods' colours as variables, `--method-0` the first's, on light ground and on dark."""
    light = "".join(f"--method-{index}:{colour};" for index, colour in enumerate(colours))
    dark = "".join(f"--method-{index}:{DARK.get(colour, colour)};" for index, colour in enumerate(colours))
    return (
        f":root{{{light}}}\n@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
    )
