"""Reports: tables, figures and a page from records. Reads records, never trains.

Names resolve on first use, so that what reads records alone does not load what draws them. Importing this loads neither
torch nor pandas, matplotlib or mlflow; writing a report loads what it draws with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.report.pictures import PictureSource as PictureSource
    from bench.report.records import ReportError as ReportError
    from bench.report.records import merge_records as merge_records
    from bench.report.records import read_records as read_records
    from bench.report.records import relabelled as relabelled
    from bench.report.records import suite_of as suite_of
    from bench.report.write import write_report as write_report

_HOME = {
    "PictureSource": "bench.report.pictures",
    "ReportError": "bench.report.records",
    "merge_records": "bench.report.records",
    "read_records": "bench.report.records",
    "relabelled": "bench.report.records",
    "suite_of": "bench.report.records",
    "write_report": "bench.report.write",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'bench.report' has no attribute {name!r}; available: {', '.join(sorted(_HOME))}")
