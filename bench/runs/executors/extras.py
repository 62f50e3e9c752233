"""Optional dependencies."""

from __future__ import annotations

import importlib.util

from bench.errors import RequestError


def require_extra(extra: str, *, module: str) -> None:
    """Refuse where an extra of the package is not installed.

    Args:
        module: what the extra brings.

    Raises:
        RequestError: with the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise RequestError(f"executor {extra!r} needs the extra of that name: pip install 'prunebench[{extra}]'")
