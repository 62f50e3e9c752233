"""Data that come inside the wheels of other packages: no network needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from bench.errors import DataError


def shipped(package: str, name: str, *place: str) -> Path:
    """A file that a package ships; the package itself, which may take a second, is not imported.

    Args:
        package: as it is imported.
        name: as it is installed.
        place: folders and file below the package.

    Raises:
        DataError: the package is not installed, or does not ship the file.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{place[-1]} comes with {name}, which is not installed")
    path = Path(spec.submodule_search_locations[0], *place)
    if not path.is_file():
        raise DataError(f"{path} does not exist: this version of {name} does not ship {place[-1]}")
    return path
