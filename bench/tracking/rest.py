"""MLflow's REST interface, called without importing MLflow."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from bench.errors import RequestError
from bench.tracking.address import redacted, server_address


def ask_server(uri: str, call: str, body: Any = None, timeout: float = 10.0) -> Any:
    """One call of MLflow's REST interface.

    Raises:
        FileNotFoundError: the server says that there is no such thing.
        RequestError: the server cannot be reached, or does not speak MLflow.
    """
    request = urllib.request.Request(
        f"{server_address(uri)}/api/2.0/mlflow/{call}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **_authorization(urllib.parse.urlsplit(uri))},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        try:
            code = json.load(error).get("error_code", "")
        except (ValueError, AttributeError):
            code = ""
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise FileNotFoundError(call) from None
        reason = code or f"HTTP status {error.code}"
    except (urllib.error.URLError, OSError) as error:
        reason = str(getattr(error, "reason", error))
    except ValueError:
        reason = "its answer is no JSON"
    raise RequestError(
        f"tracking server {redacted(uri)} cannot be used ({reason}); give a running MLflow server or a sqlite:/// file "
        "with --tracking-uri"
    )


def _authorization(uri: urllib.parse.SplitResult) -> dict[str, str]:
    """The header that MLflow's own client would send: a user name and password of the address or of the environment,
    or the environment's token."""
    user = urllib.parse.unquote(uri.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = urllib.parse.unquote(uri.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}
