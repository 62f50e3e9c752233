"""Processes in the place of the sweep's workers: one dies, one hangs."""

from __future__ import annotations

import os
import time
from typing import Any


def dies(connection: Any, threads: int) -> None:
    connection.recv()
    os._exit(3)


def hangs(connection: Any, threads: int) -> None:
    connection.recv()
    time.sleep(60)
