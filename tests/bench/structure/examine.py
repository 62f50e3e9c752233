"""One network held to all that the engine promises, without the engine's own self-check.

examine(lambda: torchvision.models.resnet18(), torch.randn(1, 3, 64, 64))
"""

from __future__ import annotations

import copy
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn as nn

from bench.errors import RequestError, first_line
from bench.search.gates import Gates
from bench.structure.files import load_pruned, save_pruned
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.measure import count_macs, count_params
from bench.structure.surgery import mask, prune

Kind = Literal["exact", "part", "whole", "refused", "wrong", "error"]
INHERENT = ("output of the network", "channels of the input", "it has one channel")
"""Reasons that no network can do without: its head keeps its shape, and one channel cannot be halved."""
ENGINE = str(Path("bench", "structure"))
LONGEST = 600
"""Characters of a refusal: more is no sentence."""


@dataclass
class Outcome:
    """What came of one network."""

    kind: Kind
    """exact: all but the head is prunable; part: some; whole: nothing; refused: `RequestError`; wrong: a promise was
    broken; error: an exception that is no `RequestError`."""
    detail: str = ""
    """What is wrong, the error's first line and place, or the refusal."""
    share: float = 0.0
    """Part of the multiply-adds that can be pruned: 1 - minimum_macs / macs."""
    seconds: float = 0.0
    reasons: dict[str, list[str]] = field(default_factory=dict)
    """What is left whole besides the head, by reason."""


class Invalid(Exception):
    """The network itself cannot run, or gives another result each time: it says nothing about the engine."""


def examine(make: Callable[[], nn.Module], example: Any, seed: int = 0) -> Outcome:
    """Trace, prune, mask, count, save, load, copy and gate one network, and compare.

    Args:
        make: builds the network; called several times, each time from the same random state.
        example: its input, left as it was.
        seed: of weights, prunings and noise.

    Raises:
        Invalid: the network cannot run on the example.
    """
    start = time.perf_counter()
    outcome = _Examination(make, example, seed).outcome()
    outcome.seconds = round(time.perf_counter() - start, 2)
    return outcome


class _Examination:
    """One network, and what was found wrong so far."""

    def __init__(self, make: Callable[[], nn.Module], example: Any, seed: int) -> None:
        self.make, self.example, self.seed = make, example, seed
        self.wrong: list[str] = []
        self.errors: list[str] = []
        self.reference: nn.Module | None = None
        self.precise: list[torch.Tensor] = []
        """What the last pruned network computes in float64, if it can."""

    def fresh(self) -> nn.Module:
        """The network anew, with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return randomise(self.make(), self.seed)

    def outcome(self) -> Outcome:
        self.require_valid()
        model = self.fresh()
        before, given = facts(model), copied(self.example)
        try:
            graph = PruningGraph.trace(model, self.example)
        except RequestError as error:
            self.require_untouched(model, before, given)
            return self.refused(error)
        except Exception as error:
            return Outcome("error", f"trace: {described(error)}")
        self.require_untouched(model, before, given)
        self.checked("costs of the dense network", lambda: self.require_costs(graph, Pruning(), model))
        for number, pruning in enumerate(prunings(graph, self.seed)):
            self.checked("prune", lambda p=pruning, n=number: self.require_pruned(model, graph, p, last=n == 1))
        self.require_untouched(model, before, given, "prune and mask")
        return self.summary(model, graph)

    def require_valid(self) -> None:
        """Raises Invalid where the dense network does not run twice with one result."""
        try:
            model = evaluated(self.fresh())
            first, second = (outputs(model, self.example) for _ in range(2))
        except Exception as error:
            raise Invalid(described(error)) from error
        if not first:
            raise Invalid("it returns no tensor")
        if difference(first, second, 1e-6):
            raise Invalid("two runs differ")
        if not all(t.isfinite().all() for t in first):
            raise Invalid("its output is not finite")

    def refused(self, error: RequestError) -> Outcome:
        sentence = str(error)
        if "\n" in sentence.strip() or not 0 < len(sentence) <= LONGEST:
            self.wrong.append(f"the refusal is no sentence: {sentence[:LONGEST]!r}")
        kind: Kind = "wrong" if self.wrong else "refused"
        return Outcome(kind, "; ".join([*self.wrong, sentence[:LONGEST]]))

    def summary(self, model: nn.Module, graph: PruningGraph) -> Outcome:
        reasons: dict[str, list[str]] = {}
        for name, reason in graph.skipped:
            reasons.setdefault(reason, []).append(name)
        left = {reason: names for reason, names in reasons.items() if reason not in INHERENT}
        whole = graph.macs()
        share = 1 - graph.minimum_macs() / whole if whole else 0.0
        kind: Kind = "part" if left else "exact"
        self.require_reasons(model, graph)
        if not graph.groups:
            kind = "whole"
        if self.errors:
            kind = "error"
        if self.wrong:
            kind = "wrong"
        found = list(dict.fromkeys([*self.wrong, *self.errors]))
        return Outcome(kind, "; ".join(found)[:2000], round(share, 4), reasons=left)

    def require_reasons(self, model: nn.Module, graph: PruningGraph) -> None:
        """Every convolution and linear layer is in a group, or left whole with a reason."""
        told = {m.module for group in graph.groups for m in group.members if m.kind != "in"} | graph.whole.keys()
        kinds = (nn.Linear, nn.modules.conv._ConvNd)
        silent = [name for name, m in model.named_modules() if isinstance(m, kinds) and name not in told]
        if silent:
            self.wrong.append(f"no group and no reason: {', '.join(silent[:5])}")

    def checked(self, what: str, check: Callable[[], None]) -> bool:
        """Run a check; an exception that it lets out is an error of the engine. Returns whether none came."""
        try:
            check()
        except Exception as error:
            self.errors.append(f"{what}: {described(error)}")
            return False
        return True

    def require_untouched(self, model: nn.Module, before: Any, given: Any, what: str = "trace") -> None:
        after = facts(model)
        self.wrong += [f"{what} changed the network's {key}" for key in before if not same(before[key], after[key])]
        if not same(given, copied(self.example)):
            self.wrong.append(f"{what} changed the example")

    # -- one pruning -------------------------------------------------------------------------------------------

    def require_pruned(self, model: nn.Module, graph: PruningGraph, pruning: Pruning, *, last: bool) -> None:
        small = prune(model, graph, pruning)
        small_eval = evaluated(copy.deepcopy(small))
        try:
            got = outputs(small_eval, self.example)
        except Exception as error:
            self.wrong.append(f"the pruned network fails: {described(error)}")
            return
        if not same(dict(flags(model)), dict(flags(small)), subset=True):
            self.wrong.append("the pruned network has other training flags or number formats")
        self.require_same_function(model, graph, pruning, got)
        self.checked("costs", lambda: self.require_costs(graph, pruning, small_eval))
        self.require_ties(model, small)
        self.checked("save and load", lambda: self.require_files(small_eval, pruning, got))
        if not last:
            return
        for side in ("producer", "consumer"):
            self.checked(f"gates ({side})", lambda side=side: self.require_gates(model, graph, pruning, got, side))
        self.checked("training", lambda: self.require_training(small))

    def require_same_function(
        self, model: nn.Module, graph: PruningGraph, pruning: Pruning, got: Sequence[torch.Tensor]
    ) -> None:
        """`mask` against `prune`: as the network is, and in float64 where it runs in it."""
        masked: list[nn.Module] = []
        if not self.checked("mask", lambda: masked.append(mask(model, graph, pruning))):
            return
        what = difference(outputs(evaluated(masked[0]), self.example), got, tolerance_of(got))
        if what:
            self.wrong.append(f"the pruned network differs from the masked one: {what}")
        twin, example = self.double()
        self.precise = []
        if twin is not None:
            self.precise = outputs(evaluated(prune(twin, graph, pruning)), example)
            what = difference(outputs(evaluated(mask(twin, graph, pruning)), example), self.precise, 1e-8)
            if what:
                self.wrong.append(f"in float64 the pruned network differs from the masked one: {what}")

    def double(self) -> tuple[nn.Module | None, Any]:
        """The network in float64 with an input like it; None where it does not run so."""
        example = mapped(self.example, lambda t: t.double() if t.is_floating_point() else t)
        if self.reference is None:
            try:
                self.reference = evaluated(self.fresh().double())
                outputs(self.reference, example)
            except Exception:
                self.reference = nn.Identity()
        return (None if isinstance(self.reference, nn.Identity) else self.reference), example

    def require_costs(self, graph: PruningGraph, pruning: Pruning, small: nn.Module) -> None:
        absent = dict.fromkeys(pruning.drop_blocks, 0)
        macs, params = graph.macs(pruning.widths, absent), graph.params(pruning.widths, absent)
        counted = count_macs(small, copied(self.example)), count_params(small)
        if macs != counted[0]:
            self.wrong.append(f"graph.macs says {macs}, count_macs {counted[0]}")
        if params != counted[1]:
            self.wrong.append(f"graph.params says {params}, count_params {counted[1]}")

    def require_ties(self, model: nn.Module, small: nn.Module) -> None:
        """Names that shared one tensor share one again, and no others do."""
        remaining = {name for name, _ in named_tensors(small)}
        dense, thin = ties(model, remaining), ties(small, remaining)
        if dense != thin:
            lost = [" = ".join(sorted(tie)) for tie in dense - thin] or ["new ties appeared"]
            self.wrong.append(f"ties between parameters are not kept: {', '.join(lost[:3])}")

    def require_training(self, small: nn.Module) -> None:
        """A step forward and backward in training mode, if the dense network can do one."""
        if not any(p.requires_grad for p in small.parameters()):
            return
        what = ""
        try:
            stepped(small, self.example)
        except Exception as error:
            what = described(error)
        if what:
            try:
                stepped(self.fresh(), self.example)
            except Exception:
                return
            self.wrong.append(f"the pruned network cannot be trained: {what}")

    def require_files(self, small: nn.Module, pruning: Pruning, got: Sequence[torch.Tensor]) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            dense = self.make()
        with tempfile.TemporaryDirectory() as folder:
            save_pruned(folder, small, pruning)
            again = evaluated(load_pruned(folder, dense))
        what = difference(got, outputs(again, self.example), 1e-6)
        if what:
            self.wrong.append(f"what is loaded is not what was saved: {what}")

    def require_gates(
        self, model: nn.Module, graph: PruningGraph, pruning: Pruning, got: Sequence[torch.Tensor], side: Any
    ) -> None:
        """Factors of zero and one against the pruned network, which computed `got`."""
        if not graph.groups:
            return
        twin, example = self.double()
        if twin is None or not self.precise:
            twin, example = evaluated(self.fresh()), self.example
        else:
            got = self.precise
        factors = {name: keep.to(next(twin.parameters()).dtype) for name, keep in pruning.keep.items()}
        presence = {name: torch.tensor(0.0, dtype=torch.float64) for name in pruning.drop_blocks}
        try:
            gates = Gates(twin, graph, side)
        except ValueError as error:
            if isinstance(error, RequestError) or "no affine parameters" in str(error):
                return  # a refusal in words
            raise
        with gates:
            gates.set(factors, presence)
            gated = outputs(twin, example)
        what = difference(got, gated, 1e-8 if self.precise else tolerance_of(got))
        if what:
            self.wrong.append(f"gates on the {side} side do not compute what the pruned network does: {what}")


# -- networks and their tensors ------------------------------------------------------------------------------------


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Random norms, biases and scales, so that nothing cancels and no channel looks like another."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return (torch.rand(like.shape, generator=generator) * (high - low) + low).to(like.dtype)

    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor) or not tensor.is_floating_point():
            continue
        last, parameter = name.split(".")[-1], isinstance(tensor, nn.Parameter)
        if last in ("bias", "running_mean"):
            tensor.copy_(uniform(tensor, -0.3, 0.3))
        elif last == "running_var" or (parameter and sum(n > 1 for n in tensor.shape) <= 1):
            tensor.copy_(uniform(tensor, 0.7, 1.3))
        elif parameter and tensor.numel() and not tensor.any():
            tensor.copy_(uniform(tensor, -0.3, 0.3))
    return model


def prunings(graph: PruningGraph, seed: int) -> Iterator[Pruning]:
    """Two random prunings: no group has one width in both, and the second drops blocks."""
    generator = torch.Generator().manual_seed(seed + 7)

    def random(n: int) -> torch.Tensor:
        return torch.randperm(n, generator=generator)

    widths = {g.name: (1 + random(g.n_bundles)[:2]).tolist() for g in graph.groups}
    for number in range(2):
        keep: dict[str, torch.Tensor] = {}
        for group in graph.groups:
            bundles = torch.zeros(group.n_bundles, dtype=torch.bool)
            bundles[random(group.n_bundles)[: widths[group.name][-number]]] = True
            keep[group.name] = bundles.repeat_interleave(group.bundle)
        names = [block.name for block in graph.blocks]
        dropped = [names[i] for i in random(len(names))[: (len(names) + 1) // 2].tolist()] if number else []
        yield Pruning(keep, tuple(name for name in names if name in dropped))


def evaluated(model: nn.Module) -> nn.Module:
    """The network in eval mode, where it has one: an exported network has not."""
    try:
        return model.eval()
    except NotImplementedError:
        return model


def flat(value: Any) -> list[torch.Tensor]:
    """The tensors in whatever a network takes or returns."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in flat(item)]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in flat(item)]
    if is_dataclass(value) and not isinstance(value, type):
        return [t for entry in fields(value) for t in flat(getattr(value, entry.name))]
    return []


def mapped(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """An input with a function applied to each of its tensors."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: mapped(item, function) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(item, function) for item in value)
    return value


def copied(value: Any) -> Any:
    return mapped(value, lambda t: t.detach().clone())


@torch.no_grad()
def outputs(model: nn.Module, example: Any) -> list[torch.Tensor]:
    return [t.detach().clone() for t in flat(model(copied(example)))]


def stepped(model: nn.Module, example: Any) -> None:
    """One step forward and backward in training mode, on two copies of the example; the network is changed."""
    model.train()
    batch = mapped(copied(example), lambda t: torch.cat([t, t.flip(-1)]) if t.ndim > 1 and t.shape[0] == 1 else t)
    made = [t for t in flat(model(batch)) if t.requires_grad]
    if made:
        sum(t.float().square().mean() for t in made).backward()  # pyright: ignore
        assert any(p.grad is not None for p in model.parameters())


def difference(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor], tolerance: float) -> str:
    """What tells two lists of outputs apart; "" where they are equal up to `tolerance` of the largest value."""
    if [t.shape for t in a] != [t.shape for t in b]:
        return f"shapes {[tuple(t.shape) for t in a]} and {[tuple(t.shape) for t in b]}"
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        x, y = (t.double() if t.is_floating_point() else t.to(torch.float64) for t in (x, y))
        if not x.numel():
            continue
        scale = float(x.abs().max()) or 1.0
        gap = float((x - y).abs().max())
        if not (gap == gap and scale < float("inf")):
            return "a value is not finite"
        worst = max(worst, gap / scale)
    return f"relative {worst:.1e}" if worst > tolerance else ""


def tolerance_of(tensors: Sequence[torch.Tensor]) -> float:
    """For each number format what rounding may do to a deep network."""
    coarse = any(t.dtype in (torch.float16, torch.bfloat16) for t in tensors)
    return 0.05 if coarse else 1e-4


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def ties(model: nn.Module, names: set[str]) -> set[frozenset[str]]:
    """Names of parameters and buffers that are one tensor, two or more, among `names`."""
    by_tensor: dict[int, set[str]] = {}
    for name, tensor in named_tensors(model):
        if name in names:
            by_tensor.setdefault(id(tensor), set()).add(name)
    return {frozenset(found) for found in by_tensor.values() if len(found) > 1}


def flags(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Training flag of each module, and what each parameter is beside its shape and values."""
    for name, module in model.named_modules():
        yield f"{name} training", module.training
    for name, p in model.named_parameters(remove_duplicate=False):
        yield f"{name} parameter", (p.requires_grad, p.dtype, p.device.type)


def facts(model: nn.Module) -> dict[str, Any]:
    """What must be the same after a network was looked at."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    modules = list(model.named_modules())
    tensors = [(n, t) for n, t in named_tensors(model) if not nn.parameter.is_lazy(t)]
    return {
        "state_dict": {name: tensor.detach().clone() for name, tensor in tensors},
        "tensors": {name: id(tensor) for name, tensor in tensors},
        "flags": dict(flags(model)),
        "hooks": {name: [len(getattr(module, hook, ())) for hook in hooks] for name, module in modules},
        "modules": {name: type(module) for name, module in modules},
        "memory format": {name: tensor.stride() for name, tensor in tensors},
        "gradients": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
    }


def same(a: Any, b: Any, *, subset: bool = False) -> bool:
    """Whether two nested values with tensors in them are equal; `subset`: `b` may lack keys of `a`."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        alike = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype)
        return alike and bool(torch.equal(a, b) or (a.isnan() & b.isnan() | (a == b)).all())
    if isinstance(a, Mapping):
        keys = a.keys() & b.keys() if subset else a.keys()
        return (subset or a.keys() == b.keys()) and all(same(a[key], b[key]) for key in keys)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def described(error: BaseException) -> str:
    """Type and first line of an exception, with the innermost place in the engine that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if ENGINE in f.filename and "tests" not in Path(f.filename).parts]
    inside = inside or [f for f in frames if "bench" in Path(f.filename).parts]
    where = f" [{Path(inside[-1].filename).name}:{inside[-1].lineno}]" if inside else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"
