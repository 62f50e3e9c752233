"""Executors whose jobs run on several machines, which must reach one tracking store."""

from __future__ import annotations

import socket
from typing import Protocol, runtime_checkable

from bench.errors import RequestError
from bench.interface.devices import index_of
from bench.runs.job import Settings
from bench.tracking.address import redacted, scheme


@runtime_checkable
class OnMachines(Protocol):
    """An executor that may run jobs on other machines than this one."""

    def machines(self) -> int | None:
        """How many there are; None where that cannot be told."""
        ...


def require_any_device(executor: str, settings: Settings) -> None:
    """Refuse a device by its number where the cluster says which one a job gets.

    Raises:
        RequestError: with what is allowed.
    """
    if index_of(settings.device) is not None:
        raise RequestError(
            f"--device {settings.device} is not allowed with executor {executor!r}, which chooses among the devices of "
            "its nodes; use cuda, cpu or auto"
        )


def require_common_store(executor: object, settings: Settings) -> None:
    """Refuse a store that is a file of this machine where jobs run on several: each would write one of its own.

    Raises:
        RequestError: with the command that starts a server.
    """
    if scheme(settings.tracking_uri) not in ("sqlite", "file", "") or not isinstance(executor, OnMachines):
        return
    machines = executor.machines()
    if machines == 1:
        return
    number = "an unknown number of" if machines is None else str(machines)
    host = socket.gethostname()
    raise RequestError(
        f"{number} machines cannot share the tracking store {redacted(settings.tracking_uri)}, since each would write "
        "a file of its own; start a server here with `mlflow server --host 0.0.0.0 --port 5000 --allowed-hosts '*' "
        "--backend-store-uri sqlite:///server.db --artifacts-destination server-artifacts` and give --tracking-uri "
        f"http://{host}:5000"
    )
