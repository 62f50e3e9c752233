"""The contract suite: what every adapter must hold, tried by `prunebench check NAME` and by the tests."""

from __future__ import annotations

from collections.abc import Iterator

from bench.contract.method import METHOD_PROPERTIES, MethodTrial
from bench.contract.task import TASK_PROPERTIES, TaskTrial
from bench.contract.verdict import Verdict, verdicts
from bench.errors import unknown
from bench.interface import registry


def check(name: str) -> Iterator[Verdict]:
    """Try every property of the adapter `name`, one verdict each.

    Raises:
        RequestError: there is no adapter of that name.
    """
    methods, tasks = registry.method_names(), registry.task_names()
    if name not in methods and name not in tasks:
        raise unknown("adapter", name, [*methods, *tasks])
    try:
        if name in methods:
            yield from verdicts(MethodTrial(name), METHOD_PROPERTIES)
        else:
            yield from verdicts(TaskTrial(name), TASK_PROPERTIES)
    except AssertionError as error:  # of the trial itself: properties' own are verdicts
        yield Verdict("can be tried", False, str(error))


__all__ = ["METHOD_PROPERTIES", "TASK_PROPERTIES", "MethodTrial", "TaskTrial", "Verdict", "check"]
