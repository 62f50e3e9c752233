from bench.report.formats.csv import to_csv


def test_a_spreadsheet_runs_no_formula():
    assert to_csv([{"a": "=1+1", "b": -1.5}]) == "a,b\n'=1+1,-1.5\n"
