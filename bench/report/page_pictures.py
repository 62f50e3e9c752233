"""Figures that the page shows as they were drawn, small enough to travel inside it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

FIGURE_WIDTH = 1500
"""Pixels; a wider figure is reduced to it."""
FIGURE_COLOURS = 128


@dataclass(frozen=True)
class FigurePicture:
    """A figure as a picture, with what stands below it."""

    title: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """The picture as a data address."""
        return "data:image/png;base64," + base64.b64encode(shrink(self.png)).decode()


def shrink(png: bytes, width: int = FIGURE_WIDTH) -> bytes:
    """A figure's PNG at a page's size and in few colours."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture = picture.quantize(FIGURE_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()
