"""The names of devices, as users write them. Imports no torch."""

from __future__ import annotations

import re

from bench.errors import unknown

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")
"""What can be asked for; N is the number of a GPU, from 0."""


def require_device_name(name: str) -> None:
    """Refuse a name that no device can have; whether the device is there is another question.

    Raises:
        RequestError: with the names that are allowed.
    """
    if name == "cuda:N" or (name not in DEVICES and not re.fullmatch(r"cuda:\d{1,3}", name)):
        raise unknown("device", name, DEVICES)


def index_of(name: str) -> int | None:
    """The number of the GPU that a device's name gives; None where it gives none."""
    kind, _, number = name.partition(":")
    return int(number) if kind == "cuda" and number else None
