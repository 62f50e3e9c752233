"""This project's packages of common names, taken from where this file lies and not from whatever is on the path.

A folder in which somebody works may hold a `tasks.py` of its own, and Python looks there first.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from bench.errors import RequestError

ROOT = Path(__file__).resolve().parent.parent


def claim(*names: str) -> None:
    """Import these packages from beside `bench`; imports of them by name find them from then on.

    Raises:
        RequestError: another module of such a name is imported already.
    """
    for name in names:
        known = sys.modules.get(name)
        if known is None:
            spec = PathFinder.find_spec(name, [str(ROOT)])
            if spec is None or spec.loader is None:
                raise RequestError(f"prunebench is not whole: {ROOT} has no package {name!r}")
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        elif Path(known.__file__ or "").resolve() != ROOT / name / "__init__.py":
            raise RequestError(
                f"prunebench has a package {name!r}, and {known.__file__} is imported under that name already; rename "
                "that file, or import it in another process"
            )
