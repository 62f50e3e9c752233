"""What a server loads once that forks processes to run jobs: nothing of it is looked at again for garbage."""

from __future__ import annotations

from bench.processes import importing, keep

with importing():
    # Drawing a cell's picture and making the first optimiser would import these in every process.
    import matplotlib.backends.backend_agg  # noqa: F401
    import torch._dynamo  # noqa: F401

    from bench.runs import run_job as run_job

keep()
