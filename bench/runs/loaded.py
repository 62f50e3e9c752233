"""What a server loads once that forks processes to run jobs: nothing of it is looked at again for garbage."""

from __future__ import annotations

import atexit
import gc

from bench.processes import importing

with importing():
    # Drawing a cell's picture and making the first optimiser would import these in every process.
    import matplotlib.backends.backend_agg  # noqa: F401
    import torch._dynamo  # noqa: F401

    from bench.runs import run_job as run_job

gc.freeze()
atexit.register(gc.unfreeze)  # extensions that count what is left at the end would call it leaked
