"""MLflow: states of runs, the store, and quick reads. Nothing is imported here: MLflow reads its settings as it is."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# One that is away is waited for by `connect.retry`, which knows when to give up.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
# Beside a live display, lines of MLflow's own would be in the way.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
