from bench.report.matrix import build
from bench.report.power import seeds_needed
from bench.report.tables.power import power_table
from tests.bench.report import synthetic


def test_what_a_study_can_tell_by_workload():
    psnr = synthetic.workload("textures-edsr", "super_resolution", "textures", "edsr")
    records = synthetic.matrix([synthetic.workload(), psnr], methods=("gdp", "l1"), budgets=(0.5,), trajectory=False)
    table = power_table(build(records, suite="s"))
    assert table is not None
    assert [row["workload"] for row in table.raw] == ["digits-resnet8", "textures-edsr"]
    assert [(row["unit"], row["step"], row["n"]) for row in table.raw] == [("%", 1.0, 3), ("dB", 0.1, 3)]
    for row in table.raw:
        assert abs(row["smallest_difference"] - 3.26404 * row["spread"]) < 1e-3
        assert row["seeds_for_step"] == seeds_needed(row["spread"], row["step"])
    assert table.sections[0].rows[1].values[-1].text == f"{table.raw[1]['seeds_for_step']} for 0.1 dB"


def test_one_seed_has_no_table():
    records = synthetic.matrix(methods=("gdp", "l1"), budgets=(0.5,), seeds=(0,), trajectory=False)
    assert power_table(build(records, suite="s")) is None
