"""The coverage table of docs/structure.md, from what tracing says of every network in `networks.py`.

python -m tests.bench.structure.coverage    # writes it anew
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.structure.networks import FAMILIES, graph

PAGE = Path(__file__).parents[3] / "docs" / "structure.md"
BEGIN, END = "<!-- table: python -m tests.bench.structure.coverage -->", "<!-- end of table -->"


def summary(name: str) -> tuple[str, str, str, str, str]:
    """(groups, bundles, blocks, smallest share of the MACs, what is left whole besides the head)."""
    structure = graph(name)
    bundles = sorted({g.bundle for g in structure.groups} - {1})
    reasons: dict[str, list[str]] = {}
    for entry, reason in structure.skipped:
        if reason != "output of the network":
            # Without names of layers and sizes, so that like reasons meet.
            kind = " ".join(word for word in reason.split(":")[0].split() if "." not in word)
            reasons.setdefault(kind, []).append(entry)
    left: list[str] = []
    for kind, entries in reasons.items():
        named = ", ".join(f"`{entry}`" for entry in entries[:2])
        left.append(f"{kind} ({named}{f' and {len(entries) - 2} more' if len(entries) > 2 else ''})")
    share = 100 * structure.minimum_macs() / structure.macs()
    return (
        str(len(structure.groups)),
        ", ".join(map(str, bundles)) or "–",
        str(len(structure.blocks)),
        f"{share:.1f} %",
        "; ".join(left) or "the head only",
    )


COLUMNS = ("family", "network", "groups", "bundles of", "removable blocks", "MACs at the smallest widths")
HEAD = f"| {' | '.join(COLUMNS)} | left whole, and why |\n|---|---|--:|--:|--:|--:|---|"
FAMILY = {name: family for family, networks in FAMILIES.items() for name in networks}


def row(name: str) -> str:
    return f"| {FAMILY[name]} | {name} | {' | '.join(summary(name))} |"


def documented() -> list[str]:
    """The lines of the table in the page."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()


def page_with(text: str, rows: str) -> str:
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{rows}\n{rest[rest.index(END) :]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(), "\n".join((HEAD, *map(row, FAMILY)))))
