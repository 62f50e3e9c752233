"""All tables, in the order in which a report shows them. A new one is a file beside this and a line in the list."""

from __future__ import annotations

from collections.abc import Callable

from bench.report.matrix import Matrix
from bench.report.tables.budget import budget_table
from bench.report.tables.contribution import contribution_table
from bench.report.tables.data import Table
from bench.report.tables.latency import latency_table
from bench.report.tables.ledger import ledger_table
from bench.report.tables.main import main_table
from bench.report.tables.metrics import metrics_table
from bench.report.tables.power import power_table
from bench.report.tables.published import published_table
from bench.report.tables.ranks import rank_table
from bench.report.tables.recovery import recovery_table
from bench.report.tables.transfer import transfer_table

TABLES: tuple[Callable[[Matrix], Table | None], ...] = (
    main_table,
    contribution_table,
    power_table,
    rank_table,
    recovery_table,
    transfer_table,
    latency_table,
    published_table,
    budget_table,
    ledger_table,
    metrics_table,
)


def all_tables(matrix: Matrix) -> list[Table]:
    """Every table that has something to say."""
    return [table for make in TABLES if (table := make(matrix)) is not None]
