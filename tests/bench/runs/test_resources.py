"""What a cell is computed on: read from a suite or the command line, refused in a sentence, part of no identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import RequestError
from bench.runs.resources import Resources
from bench.runs.suite import load_suite
from tests.bench.runs.tiny import SUITE, prunebench


def test_a_suite_says_what_its_cells_get_and_their_identities_do_not_change(tmp_path: Path) -> None:
    plain, rich = tmp_path / "plain.toml", tmp_path / "rich.toml"
    plain.write_text(SUITE)
    table = '[resources]\ndevices_per_cell = 2\ngpus = 2\ncpus = 8\nmemory = "1.5G"\ntime = "1-02:30:01"\n'
    rich.write_text(SUITE.replace("[[workloads]]", table + 'partition = "long"\n\n[[workloads]]'))
    loaded = load_suite(str(rich))
    assert [cell.id for cell in loaded.cells] == [cell.id for cell in load_suite(str(plain)).cells]
    assert loaded.resources == Resources(
        devices_per_cell=2, gpus=2, cpus=8, memory="1.5G", time="1-02:30:01", partition="long"
    )
    assert loaded.resources.memory_bytes == 1610612736
    assert loaded.resources.minutes == 26 * 60 + 31
    assert load_suite(str(plain)).resources == Resources()


def test_the_command_line_goes_before_the_suite() -> None:
    suite = Resources(gpus=1, cpus=4, time="2d")
    changed = suite.changed(["gpus=0.5", "time = 90m", "account=team-7"])
    assert changed == Resources(gpus=0.5, cpus=4, time="90m", account="team-7")
    assert (suite.minutes, changed.minutes) == (2 * 24 * 60, 90)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("gpu=1", "--resource 'gpu=1' is not allowed; did you mean 'gpus'"),
        ("gpus", "--resource 'gpus' is not allowed"),
        ("gpus=1.5", "--resource gpus=1.5 is not allowed: use a whole number, or a fraction below 1"),
        ("gpus=many", "--resource gpus=many is not allowed"),
        ("memory=16", "use a number with K, M, G or T, as 16G"),
        ("time=8", "use 90m, 8h, 2d, HH:MM:SS or D-HH:MM:SS"),
        ("devices_per_cell=0", "--resource devices_per_cell=0 is not allowed"),
        ("partition=a b; rm", "--resource partition=a b; rm is not allowed"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(item: str, words: str) -> None:
    with pytest.raises(RequestError) as error:
        Resources().changed([item])
    assert words in str(error.value)


def test_gpus_go_with_the_devices_of_a_cell() -> None:
    assert Resources().gpus_for("auto") is None
    assert Resources(gpus=0.25).gpus_for("cuda") == 0.25
    assert Resources(devices_per_cell=4).gpus_for("auto") == 4
    assert Resources(devices_per_cell=4, gpus=4).gpus_for("cuda") == 4
    assert Resources(devices_per_cell=4).gpus_for("cpu") == 0
    with pytest.raises(RequestError, match="gpus = 1 does not go with devices_per_cell = 4"):
        Resources(devices_per_cell=4, gpus=1).gpus_for("auto")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--device", "cuda:7"), "device 'cuda:7' was asked for, but torch sees"),
        (("--device", "cuda:x"), "unknown device 'cuda:x'"),
        (("--resource", "devices_per_cell=2", "--device", "cuda:1"), "devices_per_cell = 2 does not go with"),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_anything_runs(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(SUITE)
    if "cuda:1" in arguments:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert prunebench(monkeypatch, "run", "tiny.toml", *arguments) == 2
    *steps, error = capsys.readouterr().err.strip().splitlines()
    assert words in error and all(step.endswith(" …") for step in steps)
    assert not Path("mlflow.db").exists() and not Path("reports").exists()
