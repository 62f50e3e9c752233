"""The part of a README that a report fills: its main figure and its main tables, between two markers.

python -m bench.report.readme README.md reports/studies/demo
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import RequestError
from bench.interface.cell import BUDGET_KINDS, BUDGET_WORDS, BudgetKind

BEGIN, END = "<!-- from a report: begin -->", "<!-- from a report: end -->"
SHOWN = ("Budget", "Method", "n", "After pruning", "After recovery", "Δ", "Speedup", "Rank")
DROPPED: Mapping[BudgetKind, str] = {"macs": "MACs ↓ %", "params": "Params ↓ %"}
"""The column of what a report's budgets count."""


def excerpt(report: Path, base: Path) -> str:
    """The main figure and the main tables of `report`, with links from the folder `base`.

    Raises:
        RequestError: the folder holds no report with a main table.
    """
    table = report / "tables" / "main.md"
    if not table.is_file():
        raise RequestError(f"{report} holds no report with a main table (tables/main.md)")
    _, caption, *blocks = table.read_text(encoding="utf-8").split("\n\n")
    where = Path(os.path.relpath(report, base)).as_posix()
    folder = report / "figures"
    drawn: list[BudgetKind] = [k for k in BUDGET_KINDS if (folder / f"metric_vs_{k}.png").is_file()] or ["macs"]
    parts = [
        f"![{report.name}: metric against {BUDGET_WORDS[kind]}]({where}/figures/metric_vs_{kind}.png)" for kind in drawn
    ]
    titles = [*SHOWN[:-2], *(DROPPED[kind] for kind in drawn), *SHOWN[-2:]]
    for block in blocks:
        if block.startswith("|"):
            rows = [line.strip("| \n").split(" | ") for line in block.strip().split("\n")]
            rows[1] = block.split("\n")[1].strip("|").split("|")  # the rule that says how columns are aligned
            columns = [rows[0].index(title) for title in titles if title in rows[0]]
            parts.append("\n".join("| " + " | ".join(row[i].strip() for i in columns) + " |" for row in rows))
        else:
            parts.append(block.strip().replace("## ", "**", 1) + "**" if block.startswith("## ") else block.strip())
    return "\n\n".join([*parts, f"{caption} All tables, figures and records: [{where}]({where}/README.md)."])


def filled(text: str, part: str) -> str:
    """`text` with what stands between the markers replaced.

    Raises:
        RequestError: there is not one marker of each kind, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise RequestError(f"the text must have {BEGIN} and {END}, once each and in this order")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m bench.report.readme README.md REPORT", file=sys.stderr)
        return 2
    target, report = Path(arguments[0]), Path(arguments[1])
    try:
        text = filled(target.read_text(encoding="utf-8"), excerpt(report, target.parent))
    except (RequestError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
