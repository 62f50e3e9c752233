"""`prunebench doctor`."""


def doctor() -> None:
    """What this machine has: versions, devices, data sets found, the tracking store, disk, LaTeX and Chromium."""
