from bench.interface.record import Record
from bench.report.figures.catalogue import all_figures
from bench.report.figures.drawing import Written
from bench.report.figures.samples import picture_name
from bench.report.matrix import build
from tests.bench.report import synthetic
from tests.bench.report.conftest import picture


def drawn(records: list[Record]) -> dict[str, Written]:
    matrix = build(records, suite="s")
    return {d.name: Written(d.name, d.title, d.caption) for d in all_figures(matrix, picture)}


def test_the_title_is_the_workloads_and_not_that_of_a_column():
    records = synthetic.matrix(methods=("gdp", "random"), budgets=(0.5,), seeds=(0,), trajectory=False)
    for record in records:
        record.pictures = ["target_0.png", "output_0.png"]
    assert drawn(records)["samples"].title == "Samples: digits-resnet8, protocol matched, budget 0.5"


def test_a_picture_is_named_by_what_it_shows_and_its_sample():
    assert picture_name("pictures/target_0.png") == ("target", "0")
    assert picture_name("12-mask.png") == ("mask", "12")
    assert picture_name("3.png") == ("picture", "3")
    assert picture_name("overview.png") == ("overview", "")
