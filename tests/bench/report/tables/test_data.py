from bench.report.tables.data import Num


def test_figures_as_a_reader_sees_them():
    assert Num(93.456, 0.123).text == "93.46 ± 0.12"
    assert Num(-0.5, 0.25, signed=True).text == "−0.50 ± 0.25"
    assert Num(0.5, digits=1, signed=True).text == "+0.5"
    assert Num(-0.001, signed=True).text == "0.00"
    assert Num(None).text == "–"
    assert Num(float("nan")).text == "–"
