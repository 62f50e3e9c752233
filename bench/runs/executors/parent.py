"""What a process that runs a job has to do with the one that started it. Imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import threading


class RankLostError(Exception):
    """One of several processes of a job is gone, or failed while the others went on."""


def end_with_parent() -> None:
    """End this process when the one that asked for it is gone, so that its job can be taken up again."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
