"""What a method must hold besides finding something: what it leaves alone, and that it works at the ends of its ranges.

Each property is a function as in `bench.contract.method`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.contract.places import OTHERS, Place
from bench.contract.trial import Interrupted, MethodTrial, StopAfter
from bench.contract.watch import silenced, with_dead_channels
from bench.errors import RequestError
from bench.interface import registry
from bench.interface.fields import AdapterField, fields_of
from bench.interface.method import Budget, Found
from bench.search.fit import fit

LARGEST_SEED = 2**31
"""That a suite allows."""
ABOVE_LEAST = 0.004
"""How far above the least that a network can keep a budget is that is always met: less than the tolerance."""


def method_reads_no_test_data(trial: MethodTrial) -> None:
    """reads no data but the training and validation samples that it is handed"""
    _ = trial.found
    assert not trial.loaded, f"its search loaded {trial.loaded[0]} by itself, where the test split lies"


def method_leaves_things_alone(trial: MethodTrial) -> None:
    """leaves the dense network, the graph, the data and hooks on all modules as they were"""
    _ = trial.found_at
    assert not trial.changed, f"its search changed {', '.join(sorted(trial.changed))}"


def method_seeds_nothing(trial: MethodTrial) -> None:
    """seeds no global random state: its random numbers come from generators of its own"""
    first, again = trial.repeated[2:]
    seeded = first.seeded_alike(again)
    assert not seeded, f"its search seeds {', '.join(seeded)}; use torch.Generator().manual_seed(ctx.seed)"


def method_decides_on_groups_alone(trial: MethodTrial) -> None:
    """decides on groups and blocks of the graph alone, and silences no output of a head"""
    found, _ = trial.found
    require_heads(trial, found)


def require_heads(trial: MethodTrial, found: Found) -> None:
    """Raise AssertionError for a decision on what is no group, and for outputs of other layers set to zero."""
    groups, blocks = {g.name for g in trial.graph.groups}, {b.name for b in trial.graph.blocks}
    parts = {"scores": found.scores, "keep": found.keep or (), "widths": found.widths or (), "fixed": found.fixed}
    for part, names in parts.items():
        strangers = sorted(set(names) - groups)
        assert not strangers, f"{part} names {strangers[0]!r}, which is no group: no channel of it can be removed"
    strangers = sorted(set(found.drop_blocks) - blocks)
    assert not strangers, f"drop_blocks names {strangers[0]!r}, which is no removable block"
    if found.model is not None:
        silent = silenced(found.model, trial.dense, trial.graph)
        assert not silent, "; ".join(f"{n} outputs of {name} were set to zero" for name, n in silent.items())


def method_scores_dead_channels_lowest(trial: MethodTrial) -> None:
    """gives a channel of zeros the lowest score of its group, where it declares dead_lowest"""
    if not getattr(trial.kind, "dead_lowest", False):
        return
    model = copy.deepcopy(trial.dense)
    dead = with_dead_channels(model, trial.graph)
    found, _ = trial.search(0.5, dense=model)
    for group in trial.graph.groups:
        if group.name not in dead:
            continue
        scores = found.scores[group.name].detach().double().cpu().reshape(-1, group.bundle).sum(1)
        below = int((scores < scores[dead[group.name]]).sum())
        others = group.n_bundles - 1
        assert below == 0, (
            f"a channel of {group.name} whose weights are all zero has a higher score than {below} of {others} others"
            + (": the sign of the scores is backwards" if 2 * below > others else "")
        )


def method_reaches_the_ends(trial: MethodTrial) -> None:
    """can be fitted to a budget of 1, and to one near the least that the network can keep"""
    for ratio in (1.0, min(1.0, trial.least() + ABOVE_LEAST)):
        with _naming(f"budget {ratio:.4g}"):
            trial.require_fit(trial.search(ratio)[0], ratio)


def method_takes_large_seeds(trial: MethodTrial) -> None:
    """searches with seeds up to 2³¹, the largest that a suite allows"""
    for seed in (1, LARGEST_SEED):
        with _naming(f"seed {seed}"):
            trial.require_fit(trial.search(0.5, seed=seed)[0], 0.5)


def method_resumes(trial: MethodTrial) -> None:
    """finds the same when its search is interrupted after an epoch and goes on from its checkpoint"""
    first, ctx = trial.found
    if len(ctx.log.epochs("search")) < 2:
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            trial.search(0.5, workdir=Path(folder), observer=StopAfter(1))
        except Interrupted:
            pass
        else:
            raise AssertionError("its search goes on where it is interrupted: it catches what is not its own")
        again, _ = trial.search(0.5, workdir=Path(folder))
    one, other = (fit(trial.graph, found, Budget(0.5)).pruning for found in (first, again))
    for name, mask in one.keep.items():
        assert torch.equal(mask, other.keep[name]), f"group {name} differs after an interruption"
    assert one.drop_blocks == other.drop_blocks, "removed blocks differ after an interruption"
    if first.model is not None and again.model is not None:
        state = again.model.state_dict()
        differing = [k for k, v in first.model.state_dict().items() if not torch.equal(v.cpu(), state[k].cpu())]
        assert not differing, f"the weights of {differing[0]} differ after an interruption"


def method_works_off_its_defaults(trial: MethodTrial) -> None:
    """works with all fields at other values than their defaults and with each choice, or says why it cannot"""
    fields = fields_of(trial.kind)
    rounds = max([len(f.choices) - 1 for f in fields if f.kind == "choice"] + [1 if fields else 0])
    for number in range(rounds):
        hyper = other_values(trial.name, fields, number)
        if not hyper:
            continue
        with _naming(", ".join(f"{name} = {value}" for name, value in hyper.items())):
            ratio = min(1.0, max(0.5, trial.least(hyper) + ABOVE_LEAST))
            try:
                found, _ = trial.search(ratio, hyper=hyper)
            except RequestError:
                continue  # these values do not go together on this network, and it says so
            trial.require_fit(found, ratio)


def other_values(name: str, fields: list[AdapterField], number: int) -> dict[str, Any]:
    """Values that differ from the defaults, for as many fields as can differ together.

    Args:
        number: which of a field's choices, counted around.

    Raises:
        AssertionError: the method takes no value of a field but its default.
    """
    hyper: dict[str, Any] = {}
    for field in fields:
        values = field.others()
        if field.kind == "choice" and values:
            values = [values[(number + i) % len(values)] for i in range(len(values))]
        taken = next((value for value in values if _is_taken(name, {**hyper, field.name: value})), None)
        if taken is not None:
            hyper[field.name] = taken
        elif any(value is not None for value in values):
            raise AssertionError(f"{field.name}: none of {', '.join(map(str, values))} is taken")
    return hyper


def _is_taken(name: str, hyper: dict[str, Any]) -> bool:
    try:
        registry.make_method(name, hyper)
    except RequestError:
        return False
    return True


class _naming:
    """Puts what was tried before whatever goes wrong inside."""

    def __init__(self, tried: str) -> None:
        self.tried = tried

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, AssertionError):
            raise AssertionError(f"{self.tried}: {error}") from error
        if isinstance(error, Exception):
            raise AssertionError(f"{self.tried}: {type(error).__name__}: {error}") from error


CONDUCT_PROPERTIES: tuple[Callable[[MethodTrial], None], ...] = (
    method_reads_no_test_data,
    method_leaves_things_alone,
    method_seeds_nothing,
    method_decides_on_groups_alone,
    method_scores_dead_channels_lowest,
    method_reaches_the_ends,
    method_takes_large_seeds,
    method_resumes,
    method_works_off_its_defaults,
)


def _works_at(place: Place) -> Callable[[MethodTrial], None]:
    """A property: the method works at another place."""

    def works(trial: MethodTrial) -> None:
        other = MethodTrial(trial.name, place, dense_epochs=0)
        try:
            least = other.least()
        except RequestError:
            return  # the method refuses such networks in a sentence, and a run says it before anything is trained
        for ratio in (0.5, least + ABOVE_LEAST):
            with _naming(f"budget {ratio:.4g}"):
                found, _ = other.search(ratio, epochs=1)
                other.require_fit(found, ratio)
                require_heads(other, found)
        assert not other.loaded, f"its search loaded {other.loaded[0]} by itself, where the test split lies"
        assert not other.changed, f"its search changed {', '.join(sorted(other.changed))}"

    works.__doc__ = f"works on {place.title}, at one half and near the least, or says why it cannot"
    works.__name__ = f"method_works_on_{place.task.replace(' ', '_')}"
    return works


ELSEWHERE_PROPERTIES: tuple[Callable[[MethodTrial], None], ...] = tuple(map(_works_at, OTHERS))
"""The properties of other networks than the trial's."""
