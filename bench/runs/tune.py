"""Looks for hyper-parameters by the metric on the validation split, with Optuna, in a stated number of trials.

Each trial is a cell like any other: recorded, resumed, and not run again where it is known. The sampler's seed follows
from what is tuned, so that the same call asks for the same trials and goes on where it stopped. The first trial has the
settings of the suite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import RequestError
from bench.interface import registry
from bench.interface.cell import Cell, Tuning, digest
from bench.interface.fields import AdapterField, fields_of
from bench.interface.record import Record

SPAN = {"number": 10.0, "whole number": 4.0}
"""By what a number is divided and multiplied for the ends of what is tried, where its range is wider."""
EDGE = 1e-3
"""How far from an end that is not allowed itself a value may be, as a share of the interval."""


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`."""

    low: float
    high: float
    log: bool
    whole: bool = False


Space = Mapping[str, Interval | list[Any]]
"""What is tried of each field: an interval or a list of choices."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial and what came of it."""

    number: int
    values: dict[str, Any]
    """Of the fields that are tuned."""
    cell: Cell | None
    """None where the method refuses the values."""
    metric: float | None
    """On the validation split after recovery; None where the trial failed."""
    seconds: float
    """Of the search and the recovery."""
    error: str = ""


@dataclass(frozen=True)
class Tuned:
    """All trials of one method."""

    trials: list[Trial]
    higher_is_better: bool

    @property
    def best(self) -> Trial:
        """The trial with the best metric, the earliest of equals.

        Raises:
            RequestError: no trial came to an end.
        """
        done = [trial for trial in self.trials if trial.metric is not None]
        if not done:
            raise RequestError(
                f"none of {len(self.trials)} trials came to an end; the last said: {self.trials[-1].error}"
            )
        sign = -1 if self.higher_is_better else 1
        return min(done, key=lambda trial: (sign * (trial.metric or 0.0), trial.number))

    @property
    def cost(self) -> Tuning:
        """Of search and recovery; a cell that several trials ask for counts once. The dense network is not in it."""
        cells = {trial.cell.id: trial for trial in self.trials if trial.cell is not None}
        return Tuning(
            trials=len(self.trials),
            epochs=sum(t.cell.search_epochs + t.cell.recovery_epochs for t in cells.values() if t.cell is not None),
            seconds=round(math.fsum(trial.seconds for trial in cells.values()), 1),
        )


def space_of(adapter: str, chosen: Collection[str] = ()) -> Space:
    """What can be tried of a method's fields; text, lists and numbers without a default are left as they are.

    Args:
        chosen: the fields to tune; all that can be where none is named.

    Raises:
        RequestError: a chosen field that is not there or cannot be tuned, or nothing can be.
    """
    spaces = {field.name: _space(field) for field in fields_of(registry.declared_method(adapter))}
    found = {name: space for name, space in spaces.items() if space is not None}
    for name in chosen:
        if name not in found:
            raise RequestError(f"{name!r} of {adapter} cannot be tuned; available: {', '.join(found) or 'none'}")
    if not found:
        raise RequestError(f"{adapter} has no field that can be tuned")
    return {name: space for name, space in found.items() if not chosen or name in chosen}


def _space(field: AdapterField) -> Interval | list[Any] | None:
    if field.kind == "yes or no":
        return [False, True]
    if field.kind == "choice":
        return list(field.choices)
    if field.kind not in SPAN or not isinstance(field.default, int | float):
        return None
    return _interval(field, float(field.default))


def _interval(field: AdapterField, default: float) -> Interval:
    """Around the default as far as `SPAN` and the range allow; on a logarithmic scale where that is wide."""
    span = SPAN[field.kind]
    low, high = sorted((default / span, default * span)) if default else (0.0, 1.0)
    low, high = max(low, field.low), min(high, field.high)
    edge = EDGE * (high - low)
    low += edge * (field.open_ends[0] and low == field.low)
    high -= edge * (field.open_ends[1] and high == field.high)
    if field.kind == "whole number":
        low, high = math.ceil(low), math.floor(high)
    return Interval(low, high, log=low > 0 and high >= 10 * low, whole=field.kind == "whole number")


def tune(
    cell: Cell,
    space: Space,
    trials: int,
    run: Callable[[Cell], Record],
    told: Callable[[Trial], None] = lambda trial: None,
) -> Tuned:
    """Try values of one method in place of those of `cell`, which is the first trial's.

    Args:
        run: runs a cell, or gives what is recorded of it.
        told: is handed each trial that has ended.

    Raises:
        RequestError: Optuna is not installed.
    """
    optuna = _optuna()
    higher = bool(registry.task_class(cell.workload.task).higher_is_better)
    seed = int(digest({"cell": cell.identity(), "space": json.loads(json.dumps(space, default=vars))}), 16) % 2**32
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
    study.enqueue_trial({name: cell.hyper[name] for name in space}, skip_if_exists=False)
    distributions = {name: _distribution(optuna, values) for name, values in space.items()}
    found: list[Trial] = []
    for number in range(trials):
        asked = study.ask(distributions)
        values = {name: cell.hyper[name] if not number else _rounded(v) for name, v in asked.params.items()}
        trial = _tried(number, cell, values, run)
        told(trial)
        failed = optuna.trial.TrialState.FAIL if trial.metric is None else None
        study.tell(asked, trial.metric, state=failed)
        found.append(trial)
    return Tuned(found, higher)


def _rounded(value: Any) -> Any:
    """A number to four digits, so that what is written into a suite is what was tried."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _tried(number: int, template: Cell, values: dict[str, Any], run: Callable[[Cell], Record]) -> Trial:
    hyper = {**template.hyper, **values}
    try:
        registry.make_method(template.adapter, hyper)
    except RequestError as error:
        return Trial(number=number, values=values, cell=None, metric=None, seconds=0.0, error=str(error))
    label = f"{template.plain_method}(trial {number})"
    cell = template.model_copy(update={"hyper": hyper, "method": label, "base": template.adapter})
    record = run(cell)
    ledger = record.ledger
    return Trial(
        number=number,
        values=values,
        cell=cell,
        metric=validation_metric(record),
        seconds=ledger.search_seconds + ledger.recovery_seconds if ledger else 0.0,
        error=record.error,
    )


def validation_metric(record: Record) -> float | None:
    """The metric on the validation split after the last epoch of recovery; None where the cell failed."""
    rows = [row for row in record.trajectory if row.get("phase") == "recovery"]
    value = rows[-1].get(f"val_{record.metric_name}") if rows and record.status == "finished" else None
    return value if value is not None and math.isfinite(value) else None


def _distribution(optuna: Any, values: Interval | list[Any]) -> Any:
    kinds = optuna.distributions
    if isinstance(values, list):
        return kinds.CategoricalDistribution(values)
    if values.whole:
        return kinds.IntDistribution(int(values.low), int(values.high), log=values.log)
    return kinds.FloatDistribution(values.low, values.high, log=values.log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise RequestError("tune needs Optuna, which is not installed: pip install 'prunebench[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
