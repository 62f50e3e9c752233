"""A method and a task for prunebench, registered by the entry points in `pyproject.toml`."""
