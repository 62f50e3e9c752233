from pathlib import Path

from bench.report.pictures import loader
from tests.bench.report import synthetic


def test_a_picture_outside_its_folder_is_not_read(tmp_path: Path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "runs" / "abc").mkdir(parents=True)
    (tmp_path / "runs" / "abc" / "own.png").write_bytes(b"own")
    record = synthetic.matrix(methods=("l1",), budgets=(0.5,), seeds=(0,))[0].model_copy(update={"run_id": "abc"})
    load = loader(tmp_path / "runs")
    assert load(record, "own.png") == b"own"
    assert load(record, "../secret.png") is None
    assert load(record, "../../secret.png") is None
    assert load(record, str(tmp_path / "secret.png")) is None
