import csv
from pathlib import Path

import pytest


def test_transfer_is_compared_with_the_own_search(report: Path):
    with (report / "tables" / "transfer.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["cifar10-resnet56 at 0.25"]
    gap = float(rows[0]["own_mean"]) - float(rows[0]["final_mean"])
    assert float(rows[0]["gap_mean"]) == pytest.approx(gap)
