"""Whether a property holds, and why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Trial = TypeVar("Trial")


@dataclass(frozen=True)
class Verdict:
    """Whether one property holds."""

    name: str
    passed: bool
    reason: str = ""


def verdicts(trial: Trial, properties: Iterable[Callable[[Trial], None]]) -> Iterator[Verdict]:
    """Try each property, one verdict each; a property that raises has failed, and its docstring is its name."""
    for holds in properties:
        name = (holds.__doc__ or holds.__name__).strip()
        try:
            holds(trial)
            yield Verdict(name, True)
        except Exception as error:
            reason = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            yield Verdict(name, False, " ".join(reason.split())[:600])
