"""`prunebench doctor`."""

from __future__ import annotations

import json
import platform
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from bench import __version__
from bench.cli import doctor
from tests.bench.cli.calling import call


def findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, tuple[str, str]]]:
    code = call(monkeypatch, "doctor", "--json", *arguments)
    return code, {row["what"]: (row["state"], row["detail"]) for row in json.loads(capsys.readouterr().out)}


def test_it_says_what_there_is(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/cifar-10-batches-py", "data/sr/BSD400", "data/oxford-iiit-pet", "tools"):
        Path(name).mkdir(parents=True)
    Path("tools/tectonic").write_text("")
    Path("tools/tectonic").chmod(0o755)
    monkeypatch.setenv("PATH", "tools")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", "none")
    code, found = findings(monkeypatch, capsys, "--data", "data", "--tracking-uri", store)
    assert code == 0
    assert found["prunebench"] == ("ok", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    assert found["torch"] == ("ok", version("torch"))
    assert found["bf16 on the processor"][0] in ("ok", "absent")
    assert found["data set cifar10"] == ("ok", "cifar-10-batches-py (by name; not read)")
    assert found["data set cifar100"] == ("absent", "no folder of that name")
    assert found["data set bsd400"] == ("ok", "sr/BSD400 (by name; not read)")
    assert found["data set oxford-pet"] == ("ok", "oxford-iiit-pet (by name; not read)")
    assert found["data set digits"] == ("ok", "comes with the packages")
    assert found["tracking store"] == ("ok", f"{store} answers")
    assert found["optuna"] == ("ok", f"{version('optuna')}; tune chooses values with it")
    assert found["onnxruntime"][1].endswith("; export runs model.onnx with it before it is kept")
    assert found["LaTeX"] == ("ok", "tectonic") and found["Chromium"][0] == "absent"
    assert found["disk"][0] == "ok" and found["disk"][1].endswith(" GiB free in the working folder")


def test_what_a_run_cannot_do_without_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNEBENCH_DATA", raising=False)
    monkeypatch.setattr(doctor, "_devices", list)
    code, found = findings(monkeypatch, capsys)
    assert code == 0 and found["data folder"][0] == "absent"
    assert found["tracking store"] == (
        "ok",
        f"sqlite:///{tmp_path.resolve() / 'mlflow.db'} is not there yet; the first run makes it",
    )
    monkeypatch.setattr(doctor, "NEEDED", ("a-package-that-is-not-there",))
    monkeypatch.setattr(doctor, "EXTRAS", {"another-one": ("tune", "tune chooses values with it")})
    code, found = findings(monkeypatch, capsys, "--data", "absent", "--tracking-uri", "http://127.0.0.1:9")
    assert code == 1
    assert found["a-package-that-is-not-there"] == ("FAIL", "not installed (needed; install prunebench again)")
    assert found["another-one"] == (
        "absent",
        "not installed (pip install 'prunebench[tune]'); tune chooses values with it",
    )
    assert found["data folder"] == ("FAIL", "absent does not exist")
    state, detail = found["tracking store"]
    assert state == "FAIL" and "http://127.0.0.1:9" in detail
    assert call(monkeypatch, "doctor") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["what", "state", "found"] and any(" FAIL " in line for line in lines)


def test_it_lists_what_every_extra_brings() -> None:
    """`docs` and `test` are for working on the project itself."""
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    extras = {e: packages for e, packages in project["optional-dependencies"].items() if e not in ("docs", "test")}
    listed = {(extra, package) for package, (extra, _) in doctor.EXTRAS.items()}
    assert listed == {(extra, package.partition(">=")[0]) for extra in extras for package in extras[extra]}
