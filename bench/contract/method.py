"""What every method must hold, tried on a small network and 200 handwritten digits, and then on other networks.

Each property is a function whose docstring says what holds; it raises AssertionError, with what was seen, where it
does not.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable

import torch

from bench.contract.conduct import CONDUCT_PROPERTIES
from bench.contract.trial import MethodTrial
from bench.contract.watch import hooks
from bench.interface import registry
from bench.interface.cell import RECOVERIES
from bench.interface.method import Budget, learns_architecture, prunes
from bench.search import fit as budgets

NEAR = 0.12
"""How far a method's own decision may be from its budget after the two epochs of a trial. Searches that heed their
budget were seen to be 0.08 off at most; one and the same decision for all of `RATIOS` is 0.2 off for one of them."""


def method_is_a_frozen_dataclass(trial: MethodTrial) -> None:
    """is a frozen dataclass with a docstring"""
    kind = trial.kind
    assert dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass"
    assert kind.__dataclass_params__.frozen, f"{kind.__name__} is not frozen"
    text = (kind.__doc__ or "").strip()
    assert text and not text.startswith(kind.__name__ + "("), "it has no docstring"


def method_declares_itself(trial: MethodTrial) -> None:
    """declares searches, needs_dense, recovery and standing"""
    for name, allowed in registry.METHOD_DECLARES.items():
        assert isinstance(getattr(trial.kind, name, None), allowed), f"{name} is missing or not {allowed.__name__}"
    assert trial.kind.recovery in RECOVERIES, f"recovery {trial.kind.recovery!r} is none of {', '.join(RECOVERIES)}"


def method_has_defaults(trial: MethodTrial) -> None:
    """can be made without arguments, and its fields survive JSON"""
    method = registry.make_method(trial.name, {})
    fields = dataclasses.asdict(method)  # pyright: ignore[reportArgumentType]
    again = registry.make_method(trial.name, json.loads(json.dumps(fields)))
    assert again == method, f"{again} differs from {method}"


def method_scores_every_group(trial: MethodTrial) -> None:
    """gives finite scores for every channel of every group"""
    trial.require_scores(trial.found[0])


def method_meets_budgets(trial: MethodTrial) -> None:
    """can be fitted to budgets 0.7, 0.5 and 0.3, within the tolerance as measured on the pruned network"""
    for ratio, found in trial.found_at.items():
        trial.require_fit(found, ratio)


def method_heeds_its_budget(trial: MethodTrial) -> None:
    """decides near budgets 0.7, 0.5 and 0.3 by itself, where it decides widths or masks"""
    if not prunes(trial.kind):
        return
    for ratio, found in trial.found_at.items():
        if found.widths is None and found.keep is None:
            continue  # its scores leave the widths to the fit
        native = budgets.fit(trial.graph, found, Budget(ratio)).native_macs_ratio
        assert abs(native - ratio) <= NEAR, f"budget {ratio}: its own decision costs {native:.3f} of the dense MACs"


def method_is_reproducible(trial: MethodTrial) -> None:
    """finds the same with the same seed, whatever the global random state"""
    first, again, _, _ = trial.repeated
    one, other = (budgets.fit(trial.graph, f, Budget(0.5)).pruning for f in (first, again))
    for name, mask in one.keep.items():
        assert torch.equal(mask, other.keep[name]), f"group {name} differs between two searches with one seed"
    assert one.drop_blocks == other.drop_blocks, "removed blocks differ between two searches with one seed"


def method_spends_what_it_declares(trial: MethodTrial) -> None:
    """trains exactly the search's epochs if it searches, and none if it does not"""
    _, ctx = trial.found
    epochs = [row["epoch"] for row in ctx.log.epochs("search")]
    expected = list(range(1, ctx.epochs + 1)) if trial.kind.searches else []
    assert epochs == expected, f"epochs {epochs} were trained where {expected} were due"


def method_takes_the_steps_it_declares(trial: MethodTrial) -> None:
    """takes steps of its weights in every epoch of a search, and of an architecture exactly if it declares one"""
    _, ctx = trial.found
    for row in ctx.log.epochs("search"):
        assert row["weight_steps"] > 0, f"epoch {row['epoch']} of the search has no steps of the weights"
    steps = ctx.log.total("search", "architecture_steps")
    expected = learns_architecture(trial.kind)
    assert (steps > 0) == expected, (
        f"its searches take {steps} steps of an architecture, where it declares architecture = {expected}"
    )


def method_penalises_its_weights(trial: MethodTrial) -> None:
    """adds to the loss of its weights' steps, if anything, a finite number whose slopes reach them and are finite"""
    _ = trial.found  # the search is made once, and its penalties are kept
    for value, slopes in trial.penalties:
        assert value.ndim == 0, f"the penalty has shape {tuple(value.shape)} in place of one number"
        assert bool(value.isfinite()), f"the penalty is {float(value)}"
        reached = [slope for slope in slopes if slope is not None]
        assert any(bool(slope.any()) for slope in reached), "the penalty's slopes reach no weight of the network"
        assert all(bool(slope.isfinite().all()) for slope in reached), "the penalty's slopes are not finite"


def method_returns_a_whole_network(trial: MethodTrial) -> None:
    """returns, if any, a network of the dense network's shape, free of gates and hooks"""
    found, _ = trial.found
    if found.model is None:
        return
    state, like = found.model.state_dict(), trial.dense.state_dict()
    assert state.keys() == like.keys(), f"its parameters differ: {sorted(state.keys() ^ like.keys())[:3]}"
    assert all(state[k].shape == like[k].shape for k in like), "its parameters have other shapes"
    x = trial.task.example(trial.data.info)
    plain = copy.deepcopy(trial.dense).eval()
    plain.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(found.model.cpu().eval()(x), plain(x), atol=1e-5), "gates or hooks were left in it"
    left, known = hooks(found.model), hooks(trial.dense)
    added = {name: what for name, what in left.items() if what != known.get(name)}
    assert not added, f"{next(iter(added.values()))[0]} were left in {next(iter(added))}"


METHOD_PROPERTIES: tuple[Callable[[MethodTrial], None], ...] = (
    method_is_a_frozen_dataclass,
    method_declares_itself,
    method_has_defaults,
    method_scores_every_group,
    method_meets_budgets,
    method_heeds_its_budget,
    method_is_reproducible,
    method_spends_what_it_declares,
    method_takes_the_steps_it_declares,
    method_penalises_its_weights,
    method_returns_a_whole_network,
    *CONDUCT_PROPERTIES,
)
