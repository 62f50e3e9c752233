"""The contract suite: what every adapter must hold, tried by `prunebench check NAME` and by the tests."""

from __future__ import annotations

from collections.abc import Iterator

from bench.contract.conduct import ELSEWHERE_PROPERTIES
from bench.contract.method import METHOD_PROPERTIES
from bench.contract.offered import OFFERED_PROPERTIES
from bench.contract.places import MAIN, chosen_place
from bench.contract.task import TASK_PROPERTIES as REQUIRED_PROPERTIES
from bench.contract.task import TaskTrial
from bench.contract.trial import MethodTrial
from bench.contract.verdict import Verdict, verdicts
from bench.errors import RequestError, unknown
from bench.interface import registry

TASK_PROPERTIES = (*REQUIRED_PROPERTIES, *OFFERED_PROPERTIES)


def check(name: str, *, task: str | None = None, model: str | None = None, quick: bool = False) -> Iterator[Verdict]:
    """Try every property of the adapter `name`, one verdict each.

    Args:
        task: for a method, the task on whose small embedded data it is tried, in place of several networks.
        model: the network, in place of the one of the task's trial; a method is then tried on that alone.
        quick: leave out what a method does on other networks than the trial's.

    Raises:
        RequestError: there is no adapter, task or network of that name.
    """
    methods, tasks = registry.method_names(), registry.task_names()
    if name not in methods and name not in tasks:
        raise unknown("adapter", name, [*methods, *tasks])
    if name in tasks and task is not None:
        raise RequestError(f"--task {task} is not allowed: {name!r} is a task itself; --model chooses its network")
    try:
        if name in tasks:
            yield from verdicts(TaskTrial(name, model), TASK_PROPERTIES)
        elif task or model:
            yield from verdicts(MethodTrial(name, chosen_place(task, model)), METHOD_PROPERTIES)
        else:
            properties = METHOD_PROPERTIES if quick else (*METHOD_PROPERTIES, *ELSEWHERE_PROPERTIES)
            yield from verdicts(MethodTrial(name, MAIN), properties)
    except AssertionError as error:  # of the trial itself: properties' own are verdicts
        yield Verdict("can be tried", False, str(error))


__all__ = [
    "ELSEWHERE_PROPERTIES",
    "METHOD_PROPERTIES",
    "TASK_PROPERTIES",
    "MethodTrial",
    "TaskTrial",
    "Verdict",
    "check",
]
