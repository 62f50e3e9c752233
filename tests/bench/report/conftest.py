"""One report of an incomplete matrix, and one of hostile names, written once for all tests that read them."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from bench.interface.cell import Cell
from bench.interface.record import Record
from bench.report import write_report
from tests.bench.report import synthetic
from tests.conftest import OnceForAll
from tests.undrawn import draw_here


@pytest.fixture(scope="session")
def cells() -> tuple[list[Record], list[Cell]]:
    """Two tasks, one failed cell, one missing, one off budget; a transfer, a recovery ablation and all controls."""
    digits = synthetic.workload("cifar10-resnet56", dataset="cifar10", model="resnet56")
    edsr = synthetic.workload("textures-edsr", "super_resolution", "textures", "edsr")
    methods = ("gdp", "l1", "random", "uniform-scratch")
    records = synthetic.matrix([digits, edsr], methods=methods, budgets=(0.5, 0.25), samples=200)
    records[1] = synthetic.record(records[1].config, fail="the loss became inf in epoch 3 of search")
    records[6] = synthetic.record(records[6].config, miss=0.02)
    missing = [records.pop(20).config]
    for seed in (0, 1, 2):
        source = synthetic.cell(digits, "gdp", 0.25, seed)
        records.append(synthetic.record(synthetic.cell(edsr, "gdp", 0.25, seed, transfer=source.id)))
        records.append(synthetic.record(synthetic.cell(digits, "l1", 0.25, seed, recovery="distil")))
        controls = [synthetic.ablated(source, name) for name in synthetic.ABLATIONS]
        controls.append(synthetic.cell(digits, "random-widths", 0.25, seed))
        controls.append(synthetic.cell(digits, "dense-longer", 1.0, seed))
        records += [synthetic.record(cell, samples=200) for cell in controls]
    for record in records:
        if record.status == "finished" and record.cell["workload"]["task"] == "super_resolution":
            record.pictures = ["target_0.png", "output_0.png"]
    return records, missing


def picture(record: Record, path: str) -> bytes | None:
    from PIL import Image

    shade = 200 if path.startswith("target") else 20 * (len(record.cell["method"]) % 10)
    stream = io.BytesIO()
    Image.new("RGB", (24, 24), (shade, 90, 90)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def report(cells: tuple[list[Record], list[Cell]], once_for_all: OnceForAll) -> Path:
    records, missing = cells

    def write(out: Path) -> None:
        with pytest.MonkeyPatch.context() as patched:
            draw_here(patched.setattr)
            write_report(
                records,
                out,
                suite="demo",
                missing=missing,
                pictures=picture,
                runs="http://127.0.0.1:5000/#/experiments/7/runs/",
            )

    return once_for_all("report", write)


@pytest.fixture(scope="session")
def hostile_report(once_for_all: OnceForAll) -> Path:
    return once_for_all(
        "hostile",
        lambda out: write_report(synthetic.hostile(), out, suite=synthetic.HOSTILE[1], runs="javascript:alert(1)"),
    )


@pytest.fixture(scope="session")
def thousand(once_for_all: OnceForAll) -> tuple[Path, float]:
    """The report of 1040 cells, and the processor seconds it took."""

    def write(out: Path) -> None:
        workloads = [synthetic.workload(f"w{i}", dataset=f"d{i}") for i in range(10)]
        methods = ("gdp", "l1", "tas", "random")
        records = synthetic.matrix(workloads, methods=methods, budgets=(0.75, 0.5), seeds=range(13))
        start = time.process_time()
        write_report(records, out / "report", suite="thousand")
        (out / "seconds").write_text(str(time.process_time() - start))

    made = once_for_all("thousand", write)
    return made / "report", float((made / "seconds").read_text())
