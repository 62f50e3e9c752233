"""How figures look: one place for colours, markers and sizes, and for saving them the same every time.

Methods are told apart by colour, marker and dash together: the colours are Okabe and Ito's, which the colour-blind can
tell, ordered so that neighbours differ in lightness, and markers and dashes carry the difference in grey. Controls are
grey with open markers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#8C564B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (6, 2, 1, 2, 1, 2)), (0, (3, 1)))
CONTROL_COLOURS = ("#6f6f6f", "#9a9a9a", "#444444", "#b5b5b5")
CONTROL_MARKERS = ("o", "s", "^", "D")
INK = "#222222"
HEAT = "cividis"
"""Even in lightness, so that it prints in grey."""
FORMATS = ("png", "svg", "pdf")
DPI = 200
"""Of the PNGs; figures wider than two panels get three quarters of it."""

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "prunebench",
    "pdf.fonttype": 42,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class MethodStyle:
    """How one method is drawn, in every figure."""

    colour: str
    marker: str
    dash: Any
    filled: bool

    def line(self) -> dict[str, Any]:
        """Keywords for `plot` and `errorbar`."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "markerfacecolor": self.colour if self.filled else "white",
            "markeredgecolor": self.colour,
        }


def styles(methods: Sequence[str], controls: set[str]) -> dict[str, MethodStyle]:
    """The style of each method, by its place in `methods`."""
    found: dict[str, MethodStyle] = {}
    for i, name in enumerate(name for name in methods if name not in controls):
        # The ninth method has the first colour again, but not the first marker.
        marker = MARKERS[i * 3 % 8 if i >= 8 else i]
        found[name] = MethodStyle(COLOURS[i % 8], marker, DASHES[i % 6], filled=True)
    for i, name in enumerate(name for name in methods if name in controls):
        found[name] = MethodStyle(CONTROL_COLOURS[i % 4], CONTROL_MARKERS[i % 4], DASHES[(i + 2) % 6], filled=False)
    return found


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that lays itself out. Call under `matplotlib.rc_context(RC)`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.05)  # type: ignore[union-attr]
    return figure


def render(figure: Figure, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """The figure's bytes by format: the same for the same figure, without dates."""
    import matplotlib

    # A figure takes its style when it is drawn and again when it is written.
    with matplotlib.rc_context(RC):
        return _rendered(figure, formats)


def _rendered(figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": "prunebench"},
        "pdf": {"CreationDate": None, "Creator": "prunebench", "Producer": None},
    }
    dpi = DPI if figure.get_figwidth() <= 8 else DPI * 3 // 4
    # Laid out once, not once a format: with many panels the layout takes longer than the drawing.
    engine = figure.get_layout_engine()
    if engine is not None:
        figure.set_dpi(dpi)
        engine.execute(figure)
        figure.set_layout_engine(None)  # "none" would leave a placeholder, for which savefig draws twice
    found = {}
    with _fonts_without_layout_tables():
        for name in formats:
            stream = io.BytesIO()
            figure.savefig(stream, format=name, dpi=dpi, metadata=metadata[name])
            found[name] = stream.getvalue()
    return found


LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB")
"""Tables of a font that say how its glyphs are chosen and placed. A PDF names each glyph and its place itself."""


@contextmanager
def _fonts_without_layout_tables() -> Iterator[None]:
    """Embed fonts without their layout tables: to reduce these to a figure's glyphs is half the work of a PDF."""
    from fontTools import subset

    original = subset.Options

    class Options(original):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.drop_tables = [*self.drop_tables, *LAYOUT_TABLES]

    subset.Options = Options
    try:
        yield
    finally:
        subset.Options = original


_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


def label(text: str, limit: int = 42) -> str:
    """A name without control characters, cut to `limit` characters in its middle: swept values stand at its end."""
    text = _CONTROL.sub(" ", text)
    head = limit // 2
    return text if len(text) <= limit else text[:head] + "…" + text[len(text) - (limit - 1 - head) :]
