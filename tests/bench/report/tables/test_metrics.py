from bench.report.formats.markdown import section_markdown
from bench.report.matrix import build
from bench.report.tables.metrics import MAX_COLUMNS, metrics_table
from tests.bench.report import synthetic


def test_every_metric_has_a_column():
    records = synthetic.matrix(methods=("gdp", "random"), budgets=(0.5,), trajectory=False)
    names = [f"iou.class {i}" for i in range(14)]
    for record in records:
        record.final_metrics |= {name: 10.0 + i for i, name in enumerate(names)}
    table = metrics_table(build(records, suite="s"))
    assert table is not None
    shown = [column.title for section in table.sections for column in section.columns[3:]]
    assert shown == ["loss", *sorted(names)]
    assert [len(section.columns) - 3 for section in table.sections] == [5, 5, 5] and MAX_COLUMNS == 6
    assert [section.title[-6:] for section in table.sections] == ["1 of 3", "2 of 3", "3 of 3"]
    assert {row["metric"] for row in table.raw} == {"loss", *names}


def test_a_column_has_one_precision():
    records = synthetic.matrix(methods=("gdp", "l1"), budgets=(0.5,), seeds=(0,), trajectory=False)
    for record, value in zip(records, (52.0, 8.0), strict=True):
        record.final_metrics["pixel_accuracy"] = value
    table = metrics_table(build(records, suite="s"))
    assert table is not None
    lines = section_markdown(table.sections[0], 2)
    assert "| 0.50 | gdp | 1 | 0.5000 | 52.00 |" in lines and "| 0.50 | l1 | 1 | 0.5000 | 8.00 |" in lines
