"""prunebench from Python: the whole benchmark, the pruning of one network, and the structural engine.

    import prunebench

    result = prunebench.run("suite.toml", only=["method=l1"])
    print(result.table())

Everything is defined in `bench`; names resolve on first use, so that importing this loads neither torch nor MLflow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import *  # noqa: F403
    from bench import __version__ as __version__
    from bench.errors import RequestError as RequestError
    from bench.interface.record import Record as Record
    from bench.report import merge_records as merge_records
    from bench.report import read_records as read_records
    from bench.report import write_report as write_report
    from bench.runs.api import Result as Result
    from bench.runs.api import read as read
    from bench.runs.api import run as run
    from prunebench import budget as budget

_HOME = {
    "Record": "bench.interface.record",
    "RequestError": "bench.errors",
    "Result": "bench.runs.api",
    "merge_records": "bench.report",
    "read": "bench.runs.api",
    "read_records": "bench.report",
    "run": "bench.runs.api",
    "write_report": "bench.report",
}
"""What is not in `bench` itself, whose names are all here too."""
_MODULES = ("budget",)


def _names() -> list[str]:
    return sorted({*_HOME, *_MODULES, *importlib.import_module("bench").__all__})


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"prunebench.{name}")
    if name == "__all__":
        return _names()
    engine = importlib.import_module("bench")
    if name == "__version__" or name in engine.__all__:
        return getattr(engine, name)
    raise AttributeError(f"module 'prunebench' has no attribute {name!r}; available: {', '.join(_names())}")


def __dir__() -> list[str]:
    return _names()
