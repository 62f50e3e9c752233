"""Tables as LaTeX: booktabs rules, siunitx columns.

A file compiles as it stands (`pdflatex main.tex`), and is `\\input` by a paper unchanged: its preamble is skipped
where a document has already begun. The paper then needs booktabs, longtable and siunitx.
"""

from __future__ import annotations

import re
import unicodedata

from bench.report.tables.data import DASH, Column, Num, Section, Table, Text, Value, rounded

PACKAGES = r"""\usepackage[utf8]{inputenc}
\IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}
\usepackage{textcomp}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs,longtable,amsmath}
\usepackage{siunitx}"""

# \documentclass is an error macro once a document has begun: only a file compiled by itself gets a preamble.
HEAD = rf"""\makeatletter
\ifx\documentclass\@notprerr\else
  \let\prunebenchalone=1
  \documentclass[10pt]{{article}}
\fi
\ifx\prunebenchalone\@undefined\else
{PACKAGES}
\begin{{document}}
\pagestyle{{empty}}
\fi
\makeatother
"""
FOOT = r"""
\makeatletter\ifx\prunebenchalone\@undefined\let\prunebenchend=\relax\else\def\prunebenchend{\end{document}}\fi
\makeatother
\prunebenchend
"""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "-": "-",
    "–": "--",
    "—": "---",
    "−": r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "Δ": r"\ensuremath{\Delta}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "≈": r"\ensuremath{\approx}",
    "↑": r"\ensuremath{\uparrow}",
    "↓": r"\ensuremath{\downarrow}",
    "→": r"\ensuremath{\rightarrow}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "…": r"\ldots{}",
    "µ": r"\textmu{}",
    "⚠": "!",
    "α": r"\ensuremath{\alpha}",
    "β": r"\ensuremath{\beta}",
    "γ": r"\ensuremath{\gamma}",
    "ε": r"\ensuremath{\varepsilon}",
    "λ": r"\ensuremath{\lambda}",
    "μ": r"\ensuremath{\mu}",
    "τ": r"\ensuremath{\tau}",
    "φ": r"\ensuremath{\varphi}",
    "²": r"\ensuremath{^2}",
    "‖": r"\ensuremath{\|}",
    "\N{NO-BREAK SPACE}": "~",
}


def tex_escape(text: str) -> str:
    """Text that LaTeX sets as it is; a character that its fonts lack is named by its code point."""
    found = []
    for sign in unicodedata.normalize("NFC", " ".join(str(text).split())):
        if sign in _SPECIAL:
            found.append(_SPECIAL[sign])
        elif (sign.isascii() and sign.isprintable()) or (0xC0 <= ord(sign) <= 0xFF and unicodedata.decomposition(sign)):
            found.append(sign)
        else:
            found.append(rf"{{\ttfamily U+{ord(sign):04X}}}")
    return "".join(found)


def tex_rich(text: str) -> str:
    """A caption: `**bold**` and `*italics*`, the rest as it is."""
    parts = re.split(r"(\*\*[^*]+\*\*|\*[^*]+\*)", text)
    found = []
    for part in parts:
        if part.startswith("**"):
            found.append(rf"\textbf{{{tex_escape(part[2:-2])}}}")
        elif part.startswith("*"):
            found.append(rf"\textit{{{tex_escape(part[1:-1])}}}")
        else:
            spaced = tex_escape(part)
            found.append((" " if part[:1] == " " else "") + spaced + (" " if part[-1:] == " " and spaced else ""))
    return "".join(found)


def _column_format(column: Column, values: list[Value]) -> tuple[str, bool]:
    """The column's specification, and whether it is two: a figure and its ±.

    The ± has a column of its own because siunitx sets it with uneven space, and not in bold throughout.
    """
    if not column.numeric:
        return "l", False
    numbers = [value for value in values if isinstance(value, Num) and value.value is not None]
    if not numbers:
        return "c", False
    texts = [rounded(abs(value.value or 0.0), value.digits) for value in numbers]
    whole = max(len(text.partition(".")[0]) for text in texts)
    digits = max(value.digits for value in numbers)
    sign = "+" if any(value.signed for value in numbers) else "-" if any((n.value or 0) < 0 for n in numbers) else ""
    spec = f"S[table-format={sign}{whole}" + (f".{digits}]" if digits else "]")
    spread = any(value.std is not None for value in numbers)
    return (spec + r"@{\,}l" if spread else spec), spread


def _tex_value(value: Value, column: Column, *, spread: bool) -> str:
    if isinstance(value, Num) and value.value is not None and value.text != DASH:
        body = rounded(value.value, value.digits, signed=value.signed)
        std = rounded(value.std, value.digits) if value.std is not None else ""
        if not spread:
            return rf"\bfseries {body}" if value.bold else body
        if not std:
            return body + " &"
        return rf"\bfseries {body} & $\pm$\,\textbf{{{std}}}" if value.bold else rf"{body} & $\pm$\,{std}"
    body = "--" if isinstance(value, Num) else tex_escape(value.text)
    if isinstance(value, Text) and value.kind == "control":
        body = rf"\textit{{{body}}}"
    if spread:
        return rf"\multicolumn{{2}}{{c}}{{{body}}}"
    return f"{{{body}}}" if column.numeric else body


def section_latex(table: Table, section: Section, *, explained: bool) -> str:
    """One table, which may run over pages; `explained` has the table's caption, which holds for all its sections."""
    columns = section.columns
    formats = [_column_format(column, [row.values[i] for row in section.rows]) for i, column in enumerate(columns)]
    heads = []
    for column, (_, spread) in zip(columns, formats, strict=True):
        text = column.tex or tex_escape(column.title)
        heads.append(rf"\multicolumn{{2}}{{c}}{{{text}}}" if spread else f"{{{text}}}" if column.numeric else text)
    head = " & ".join(heads)
    caption = tex_escape(table.title) + (f": {tex_escape(section.title)}. " if section.title else ". ")
    caption += tex_rich(table.caption) if explained else ""
    lines = [
        r"\begingroup\footnotesize\setlength{\tabcolsep}{4.5pt}\setlength{\LTcapwidth}{0.9\linewidth}",
        r"\sisetup{detect-weight=true,retain-explicit-plus=true}",
        r"\begin{longtable}{@{}" + "".join(spec for spec, _ in formats) + "@{}}",
        rf"\caption{{{caption.strip()}}}\\",
        rf"\toprule {head} \\ \midrule \endfirsthead",
        rf"\toprule {head} \\ \midrule \endhead",
        r"\bottomrule \endfoot",
    ]
    for row, ruled in section.ruled():
        if ruled:
            lines.append(r"\addlinespace")
        parts = zip(row.values, columns, formats, strict=True)
        values = [_tex_value(value, column, spread=spread) for value, column, (_, spread) in parts]
        lines.append(" & ".join(values) + r" \\")
    lines.append(r"\end{longtable}")
    if section.notes:
        lines.append(r"\vspace{-1ex}")
        lines += [rf"{{\noindent {tex_escape(note)}\par}}" for note in section.notes]
    lines.append(r"\endgroup")
    return "\n".join(lines)


def to_latex(table: Table) -> str:
    """The whole table as a file."""
    comment = f"% {table.title}. Compiles as it stands; \\input in a document, it needs booktabs, longtable, siunitx."
    sections = [section_latex(table, section, explained=i == 0) for i, section in enumerate(table.sections)]
    body = "\n\n".join(sections)
    return f"{comment}\n{HEAD}\n{body}\n{FOOT}"
