"""MLflow's REST interface, called without MLflow."""

from __future__ import annotations

import base64
import http.server
import threading
import time

import pytest

from bench.errors import RequestError
from bench.tracking.mlflow_store import Tracker
from bench.tracking.quick_read import read_states
from bench.tracking.rest import ask_server


def test_an_unreachable_server_is_named_within_seconds_and_without_its_password() -> None:
    start = time.monotonic()
    with pytest.raises(RequestError, match=r"tracking server http://\*\*\*@127\.0\.0\.1:9 cannot be used") as error:
        read_states("http://me:secret@127.0.0.1:9", "s")
    assert time.monotonic() - start < 5
    assert "secret" not in str(error.value)
    with pytest.raises(RequestError, match="cannot be used"):
        Tracker("http://127.0.0.1:9", "s")


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
