"""Reports: tables, figures and a page from records. Reads records, never trains.

Importing this loads neither torch nor pandas, matplotlib or mlflow; writing a report loads what it draws with.
"""

from bench.report.pictures import PictureSource
from bench.report.records import ReportError, merge_records, read_records, relabelled, suite_of
from bench.report.write import write_report

__all__ = ["PictureSource", "ReportError", "merge_records", "read_records", "relabelled", "suite_of", "write_report"]
