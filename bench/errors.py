"""Errors whose message is the whole answer: one sentence with what was wrong and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable


class RequestError(ValueError):
    """The request itself is wrong: the command line prints the sentence and exits with code 2."""


class DataError(RequestError):
    """A data folder or file that is missing, truncated or of another kind; the message names the path."""


class ArchitectureError(RequestError):
    """A saved network that cannot be loaded: damaged, altered, or made for another architecture."""


class CellError(RuntimeError):
    """A cell cannot be finished (its loss became infinite, say); the matrix goes on without it."""


def unknown(kind: str, given: str, available: Iterable[str]) -> RequestError:
    """`unknown method 'dias'; available: dais, dcss, gdp, l1, tas`"""
    return RequestError(f"unknown {kind} {given!r}; available: {', '.join(sorted(available))}")
