"""The store on an MLflow server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.app import main
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from tests.bench.tracking.ended import end


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on this machine."""
    import socket

    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'db.sqlite'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    # Its job runners, eight processes that load MLflow, have nothing to do here.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(720):
            try:
                with urllib.request.urlopen(address + "/health", timeout=1):
                    break
            except OSError:
                assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
                time.sleep(0.25)
        else:
            pytest.fail("the MLflow server did not start: " + (folder / "log.txt").read_text()[-2000:])
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def test_a_server_works_the_same_way(server: str, tmp_path: Path) -> None:
    assert read_states(server, "s") == {}
    tracker = Tracker(server, "s")
    run_id = end(tracker, "aaa", text='{"über": 1}')
    end(tracker, "bbb", "failed")
    assert {i: s.status for i, s in read_states(server, "s").items()} == {"aaa": "finished", "bbb": "failed"}
    assert tracker.read_text(run_id, "record.json") == '{"über": 1}'
    assert Tracker.suites(server) == ["s", "Default"] or set(Tracker.suites(server)) == {"s", "Default"}


def test_runs_whose_files_a_server_has_lost_are_marked(server: str, tmp_path: Path) -> None:
    tracker = Tracker(server, "lost")
    kept, gone = end(tracker, "aaa"), end(tracker, "bbb")
    dense = tracker.claim("ddd", kind="dense", label="d")
    dense.finish("{}")
    next(tmp_path.parent.glob(f"server0/artifacts/*/{gone}/artifacts/record.json")).unlink()
    tracker.mark_lost(tracker.best().values())
    states = read_states(server, "lost")
    assert {i: s.status for i, s in states.items()} == {"aaa": "finished", "bbb": "lost", "ddd": "lost"}
    assert states["bbb"].problem == f"run {gone} has no record.json"
    assert states["ddd"].problem == f"run {dense.run_id} has no model/model.safetensors"
    found = tracker.records([states["aaa"], states["bbb"]])
    assert [str(error).partition(":")[0] for error in found] == [f"record.json of run {kept}", states["bbb"].problem]
    # Where nothing marked it, reading it tells.
    (error,) = tracker.records([replace(states["bbb"], problem="")])
    assert str(error) == f"record.json of run {gone} is gone"
    again = end(tracker, "bbb")
    assert read_states(server, "lost")["bbb"].run_id == again


SERVED = """
name = "served"
methods = ["l1"]
controls = ["dense-longer"]
budgets = [0.5]
seeds = [0]

[[workloads]]
task = "super_resolution"
dataset = "photographs"
model = "edsr-tiny"
patch = 16
crops = 2
epochs = { dense = 1, recovery = 1 }
"""


@pytest.mark.usefixtures("undrawn")
def test_a_suite_runs_on_a_server_and_its_page_leads_back_there(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("served.toml").write_text(SERVED)
    for command in ("run", "report"):
        monkeypatch.setattr(
            sys, "argv", ["prunebench", command, "served.toml", "--tracking-uri", server, "--out", command]
        )
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
    page = Path("report/index.html").read_text("utf-8")
    assert page == Path("run/index.html").read_text("utf-8")
    assert re.search(r'"thumbnails":\{"[0-9a-f]{12}"', page)  # The pictures came from the server.
    (base,) = re.findall(r'"runs":"([^"]*)"', page)
    experiment = re.fullmatch(re.escape(server) + r"/#/experiments/(\d+)/runs/", base)
    assert experiment
    for line in Path("report/cells.jsonl").read_text("utf-8").splitlines():
        run_id = json.loads(line)["run_id"]
        with urllib.request.urlopen(f"{server}/api/2.0/mlflow/runs/get?run_id={run_id}") as answer:
            info = json.load(answer)["run"]["info"]
        assert (info["experiment_id"], info["status"]) == (experiment[1], "FINISHED")


def test_a_password_is_not_passed_on_with_a_page(server: str) -> None:
    plain = Tracker(server, "s")
    assert Tracker(server.replace("//", "//user:secret@"), "s").runs_page == plain.runs_page
    assert plain.runs_page.startswith(server)
