from bench.interface.record import Record
from bench.report.matrix import build
from bench.report.tables.data import Table
from bench.report.tables.ledger import ledger_table
from tests.bench.report import synthetic


def ledger_of(records: list[Record]) -> tuple[Table, dict[str, dict[str, str]]]:
    """The table, and its texts by method and column."""
    table = ledger_table(build(records, suite="s"))
    assert table is not None
    (section,) = table.sections
    titles = [column.title for column in section.columns]
    rows = [dict(zip(titles, [value.text for value in row.values], strict=True)) for row in section.rows]
    return table, {row["Method"]: row for row in rows}


def test_every_phase_has_its_epochs_samples_steps_and_rate():
    """12 + 6 + 8 epochs of 1,000 samples in batches of 128; a bi-level search takes its steps on halves of 500."""
    records = synthetic.matrix(
        methods=("dcss", "l1", "uniform-scratch"), budgets=(0.5,), ablations=("blind", "scratch")
    )
    _, rows = ledger_of(records)
    dcss = rows["dcss"]
    assert dcss["Epochs"] == "12 + 6 + 8 = 26"
    assert dcss["Samples, thousands"] == "12.0 + 6.0 + 8.0 = 26.0"
    assert dcss["Weight steps"] == "84 + 18 + 56 = 158"
    assert (dcss["Architecture steps"], dcss["Peak rate"]) == ("18", "0.1, 0.1, 0.1")
    assert rows["dcss blind"]["Weight steps"] == dcss["Weight steps"]
    assert rows["dcss scratch"]["Epochs"] == "12 + – + 26 = 38"
    assert rows["l1"]["Epochs"] == "12 + – + 14 = 26"
    assert rows["l1"]["Architecture steps"] == "–"
    assert rows["uniform-scratch"]["Epochs"] == "– + – + 26 = 26"
    assert rows["uniform-scratch"]["Peak rate"] == "–, –, 0.1"


def test_the_csv_has_a_row_a_phase():
    table, _ = ledger_of(synthetic.matrix(methods=("dcss", "uniform-scratch"), budgets=(0.5,)))
    assert [(row["method"], row["phase"]) for row in table.raw] == [
        ("dcss", "dense"), ("dcss", "search"), ("dcss", "recovery"), ("uniform-scratch", "recovery")
    ]  # fmt: skip
    search = table.raw[1]
    assert (search["epochs_mean"], search["samples_mean"], search["weight_steps_mean"]) == (6, 6000, 18)
    assert (search["architecture_steps_mean"], search["peak_lr"], search["n"]) == (18, "0.1", 3)


def test_a_finetuning_has_its_lower_rate_and_several_recoveries_are_told_apart():
    records = synthetic.results({"l1": [92.0]}) + synthetic.results({"l1": [91.0]}, recovery="finetune")
    _, rows = ledger_of(records)
    assert rows["l1, rewind"]["Peak rate"] == "0.1, –, 0.1"
    assert rows["l1, finetune"]["Peak rate"] == "0.1, –, 0.01"


def test_a_ledger_without_phases_states_epochs_and_seconds_alone():
    records = synthetic.results({"l1": [92.0, 92.1]})
    for record in records:
        assert record.ledger is not None
        record.ledger.phases = []
    _, rows = ledger_of(records)
    row = rows["l1"]
    assert row["Epochs"] == "12 + – + 14 = 26"
    assert (row["Samples, thousands"], row["Weight steps"], row["Peak rate"]) == ("–", "–", "–")


def test_what_tuning_cost_stands_beside_the_phases_and_in_the_csv():
    records = synthetic.results({"dais": [92.0, 92.1], "l1": [91.0, 91.2]})
    assert "Tuning" not in ledger_of(records)[1]["dais"]
    for record in records:
        if record.cell["method"] == "dais":
            record.cell["tuning"] = {"trials": 20, "epochs": 1_200, "seconds": 345.67}
    table, rows = ledger_of(records)
    assert rows["dais"]["Tuning"] == "20 trials, 1,200 epochs, 345.7 s" and rows["l1"]["Tuning"] == "–"
    assert rows["dais"]["Epochs"] == "12 + 6 + 8 = 26"
    (row,) = [row for row in table.raw if row["phase"] == "tuning"]
    assert (row["method"], row["n"], row["epochs_mean"], row["seconds_mean"]) == ("dais", 20, 1_200.0, 345.67)
    assert "Tuning is what it cost to find a method's settings" in table.caption
