"""Errors whose message is the whole answer: one sentence with what was wrong and what is allowed."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of the system that say that a disk, or a share of it, is full."""


class RequestError(ValueError):
    """The request itself is wrong: the command line prints the sentence and exits with code 2."""


class DataError(RequestError):
    """A data folder or file that is missing, truncated or of another kind; the message names the path."""


class ArchitectureError(RequestError):
    """A saved network that cannot be loaded: damaged, altered, or made for another architecture."""


class CellError(RuntimeError):
    """A cell cannot be finished (its loss became infinite, say); the matrix goes on without it."""


def unknown(kind: str, given: str, available: Iterable[str]) -> RequestError:
    """`unknown method 'dias'; did you mean 'dais'? available: dais, dcss, gdp, l1, tas`"""
    return RequestError(f"unknown {kind} {given!r}{choices(given, available)}")


def choices(given: str, available: Iterable[str], *, word: str = "available") -> str:
    """`; did you mean 'dais'? available: dais, dcss`: what follows a name that is none of these."""
    names = sorted(available)
    near = did_you_mean(given, names)
    return f"{near} {word}: {', '.join(names) or 'none'}" if near else f"; {word}: {', '.join(names) or 'none'}"


def did_you_mean(given: str, available: Iterable[str]) -> str:
    """`; did you mean 'resnet18' or 'resnet34'?`: the names that are most like `given`, or nothing."""
    by_lower: dict[str, str] = {}
    for name in available:
        by_lower.setdefault(name.lower(), name)
    wanted = given.strip().lower()
    near = list(dict.fromkeys(_one_letter_off(wanted, by_lower) + difflib.get_close_matches(wanted, by_lower, 3)))
    if not near or len(wanted) <= 2:  # so few letters are like too few others
        near = list(dict.fromkeys(near + _holding(wanted, by_lower)))
    shown = [repr(by_lower[name]) for name in near[:3]]
    return f"; did you mean {' or '.join(shown)}?" if shown else ""


def _one_letter_off(wanted: str, names: Iterable[str]) -> list[str]:
    return sorted(n for n in names if len(n) == len(wanted) and sum(a != b for a, b in zip(n, wanted, strict=True)) < 2)


def _holding(wanted: str, names: Iterable[str]) -> list[str]:
    """Names that hold `wanted`, or that it holds."""
    return sorted(n for n in names if wanted and n != wanted and (wanted in n or (len(n) > 2 and n in wanted)))


def message_of(error: BaseException) -> str:
    """A foreign error's message on one line, that can be written as UTF-8; "" where it has none."""
    try:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    except Exception as second:
        text = f"its message cannot be shown ({type(second).__name__})"
    return encodable(" ".join(text.split()))


def encodable(text: str) -> str:
    """The text with characters that UTF-8 cannot hold (lone surrogates) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut after 200 characters; its type where it says nothing.

    For libraries whose messages go on with what nobody asked for, such as a statement in SQL.
    """
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= 200 else text[:200] + "…"


def reason_of(error: BaseException) -> str:
    """What a foreign error says, in one line of at most 200 characters; its type where it says nothing."""
    words = message_of(error) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:199]}…"
