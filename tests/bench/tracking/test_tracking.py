"""MLflow as the system of record: claims, replacement of dead runs, and two ways of reading that agree."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cli.app import main
from bench.errors import RequestError
from bench.tracking.address import redacted, sqlite_path
from bench.tracking.mlflow_store import TAG, Taken, Tracker
from bench.tracking.quick_read import read_states
from bench.tracking.rest import ask_server
from bench.tracking.states import RunState, best_of


@pytest.fixture
def uri(store: str) -> str:
    return store


def end(tracker: Tracker, cell_id: str, status: str = "finished", text: str = "{}") -> str:
    run = tracker.claim(cell_id, "cell", cell_id, None, {})
    (run.finish if status == "finished" else run.fail)(text)
    return run.run_id


def make_dead(tracker: Tracker, run_id: str) -> None:
    """As a killed process leaves it: RUNNING, with a process number that is nobody's."""
    tracker.client.set_tag(run_id, TAG + "pid", "999999999")


def test_a_finished_cell_is_found_by_its_id(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run_id = end(tracker, "aaa", text='{"x": 1}')
    state = tracker.best()["aaa"]
    assert (state.run_id, state.status, state.kind) == (run_id, "finished", "cell")
    assert tracker.read_text(run_id, "record.json") == '{"x": 1}'


def test_both_ways_of_reading_agree(uri: str) -> None:
    tracker = Tracker(uri, "s")
    end(tracker, "aaa")
    end(tracker, "bbb", "failed")
    tracker.claim("ccc", "dense", "c", None, {})
    Tracker(uri, "other")
    quick, slow = read_states(uri, "s"), tracker.best()
    assert {i: (s.run_id, s.status, s.kind) for i, s in quick.items()} == {
        i: (s.run_id, s.status, s.kind) for i, s in slow.items()
    }
    assert {i: s.status for i, s in quick.items()} == {"aaa": "finished", "bbb": "failed", "ccc": "running"}
    assert read_states(uri, "other") == {}


def test_reading_creates_nothing(tmp_path: Path) -> None:
    assert read_states(f"sqlite:///{tmp_path / 'mlflow.db'}", "s") == {}
    assert list(tmp_path.iterdir()) == []


def test_a_live_cell_is_not_taken_over(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", "cell", "a", None, {})
    with pytest.raises(Taken, match=run.run_id):
        tracker.claim("aaa", "cell", "a", None, {})


def test_a_dead_run_is_replaced_and_counts_once(uri: str) -> None:
    tracker = Tracker(uri, "s")
    dead = tracker.claim("aaa", "cell", "a", None, {})
    make_dead(tracker, dead.run_id)
    run_id = end(tracker, "aaa")
    states = [s for s in tracker.states() if s.cell_id == "aaa"]
    assert [(s.run_id, s.status) for s in states] == [(run_id, "finished")]
    assert read_states(uri, "s")["aaa"].run_id == run_id


def test_a_run_on_another_machine_is_dead_only_when_silent(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", "cell", "a", None, {})
    tracker.client.set_tag(run.run_id, TAG + "host", "elsewhere")
    with pytest.raises(Taken, match="elsewhere"):
        tracker.claim("aaa", "cell", "a", None, {})
    tracker.client.set_tag(run.run_id, TAG + "heartbeat", f"{time.time() - 3600:.0f}")
    assert tracker.claim("aaa", "cell", "a", None, {}).run_id != run.run_id


def test_a_reused_process_number_is_not_mistaken_for_life(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", "cell", "a", None, {})
    tracker.client.set_tag(run.run_id, TAG + "process_start", "1")
    assert tracker.claim("aaa", "cell", "a", None, {}).run_id != run.run_id


def test_finished_beats_running_beats_failed_and_the_first_finish_stays() -> None:
    def state(run_id: str, status: str, started: int) -> RunState:
        return RunState(run_id, "x", "cell", status, started)

    runs = [state("f1", "failed", 1), state("f2", "failed", 2)]
    assert best_of(runs)["x"].run_id == "f2"
    runs.append(state("r", "running", 3))
    assert best_of(runs)["x"].run_id == "r"
    runs += [state("d2", "finished", 9), state("d1", "finished", 4)]
    assert best_of(runs)["x"].run_id == "d1"


def test_epochs_and_parameters_are_logged_once_each(uri: str) -> None:
    tracker = Tracker(uri, "s")
    run = tracker.claim("aaa", "cell", "a", None, {})
    run.parameters({"a": {"b": 1, "c": [2]}, "d": "x" * 9000})
    run.rows([{"phase": "dense", "epoch": e, "loss": 1.0 / e, "note": "text"} for e in (1, 2)])
    run.epoch("dense", 3, {"loss": 0.1, "epoch": 3, "phase": "dense"})
    data = tracker.client.get_run(run.run_id).data
    assert data.params["a.b"] == "1" and data.params["a.c"] == "[2]" and len(data.params["d"]) == 500
    history = tracker.client.get_metric_history(run.run_id, "dense.loss")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [(1, 1.0), (2, 0.5), (3, 0.1)]


def test_an_abandoned_invocation_is_closed_by_the_next(uri: str) -> None:
    tracker = Tracker(uri, "s")
    first = tracker.begin_invocation("one", {})
    make_dead(tracker, first)
    second = tracker.begin_invocation("two", {})
    tracker.end_invocation(second)
    assert tracker.client.get_run(first).info.status == "KILLED"
    assert tracker.client.get_run(second).info.status == "FINISHED"


def test_stores_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"absent/mlflow\.db cannot be written"):
        Tracker(f"sqlite:///{tmp_path / 'absent' / 'mlflow.db'}", "s")
    with pytest.raises(RequestError, match="is not allowed; use sqlite:///FILE"):
        Tracker("ftp://x", "s")
    junk = tmp_path / "junk.db"
    junk.write_text("this is no database, whatever its name says")
    with pytest.raises(RequestError, match="cannot be read as an MLflow database"):
        read_states(f"sqlite:///{junk}", "s")
    with pytest.raises(RequestError, match="cannot be used"):
        Tracker(f"sqlite:///{junk}", "s")


def test_an_unreachable_server_is_named_within_seconds_and_without_its_password() -> None:
    start = time.monotonic()
    with pytest.raises(RequestError, match=r"tracking server http://\*\*\*@127\.0\.0\.1:9 cannot be used") as error:
        read_states("http://me:secret@127.0.0.1:9", "s")
    assert time.monotonic() - start < 5
    assert "secret" not in str(error.value)
    with pytest.raises(RequestError, match="cannot be used"):
        Tracker("http://127.0.0.1:9", "s")


def test_addresses() -> None:
    assert sqlite_path("sqlite:///mlflow.db") == Path("mlflow.db")
    assert sqlite_path("sqlite:////a/b%20c.db") == Path("/a/b c.db")
    assert redacted("http://u:p@h:1/x") == "http://***@h:1/x"
    assert redacted("http://h:1/x") == "http://h:1/x"


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
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
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


def test_plan_signs_in_as_mlflow_does(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{listener.server_port}"
        ask_server(f"http://{here}", "x")
        ask_server(f"http://user:p%40ss@{here}", "x")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0")
        ask_server(f"http://{here}", "x")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "user")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@ss")
        ask_server(f"http://{here}", "x")
        listener.shutdown()
    basic = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert sent == [None, basic, "Bearer t0", basic]
