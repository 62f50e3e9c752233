"""Image files for tests, some of them awkward."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth random pixels, uint8 [H, W, C]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    planes = [
        Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)
    ]
    return np.stack([np.asarray(plane) for plane in planes], 2)


def save(path: Path, pixels: np.ndarray) -> Path:
    """uint8 [H, W] or [H, W, 1, 3 or 4] as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels).save(path)
    return path


def save_png16(path: Path, pixels: np.ndarray) -> Path:
    """A 16-bit PNG of uint16 [H, W, 1 or 3]; Pillow writes none with colours."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(_png(width, height, 16, {1: 0, 3: 2}[channels], rows))
    return path


def huge_png(width: int, height: int) -> bytes:
    """A small file whose header claims this size."""
    return _png(width, height, 8, 2, bytes(1000))


def _png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def cut_short(path: Path) -> Path:
    """The file without its second half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path
