"""Folders that are about to be made. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def can_be_written(folder: Path) -> bool:
    """Whether files can be written in a folder that is there."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
