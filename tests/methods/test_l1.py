"""L1-norm pruning: the scan of section 3.2 and the ratios that are read off it."""

import copy
import functools

import pytest
import torch
from torch import nn

from bench.interface.method import Budget
from bench.search.widths import width_of
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.surgery import prune
from methods.l1 import L1, SHARES, widths_by_loss
from tests.methods.searching import CPU, Workbench, digits

RATIO = 0.5


@functools.cache
def found_by_scan():
    bench: Workbench = digits()
    ctx = bench.context(0)
    return bench, ctx, bench.search(L1(scope="sensitivity"), RATIO, ctx)


def test_the_scan_states_what_the_pruned_network_scores() -> None:
    """Each row of the scan is the metric of the network from which those channels are physically removed."""
    bench, ctx, _ = found_by_scan()
    rows = {(row["group"], row["kept"]): row["metric"] for row in ctx.log.snapshots["sensitivity"]}
    assert set(rows) == {(g.name, share) for g in bench.graph.groups for share in (1.0, *SHARES)}
    scores = bench.graph.channel_scores(bench.model, p=1)
    for group in bench.graph.groups[::3]:
        for share in (0.7, 0.3):
            keep = {g.name: torch.ones(g.size, dtype=torch.bool) for g in bench.graph.groups}
            best = scores[group.name].topk(width_of(group, share)).indices
            keep[group.name] = torch.zeros(group.size, dtype=torch.bool).index_fill(0, best, True)
            pruned = prune(copy.deepcopy(bench.model), bench.graph, Pruning(keep=keep))
            expected = bench.task.evaluate(pruned, bench.data.val, CPU, bench.recipe)["accuracy"]
            assert rows[group.name, share] == pytest.approx(expected, abs=1e-6)


def test_the_ratios_meet_the_budget_and_follow_the_scan() -> None:
    bench, ctx, (found, fitted) = found_by_scan()
    assert fitted.within
    assert fitted.native_macs_ratio == pytest.approx(RATIO, abs=0.05)
    assert found.widths is not None
    # Thinned to the widths of the scan alone, no group loses much more than another was allowed to lose.
    rows = {(row["group"], row["kept"]): row["metric"] for row in ctx.log.snapshots["sensitivity"]}
    share = {g.name: found.widths[g.name] / g.size for g in bench.graph.groups}
    assert max(share.values()) - min(share.values()) > 0.2
    hurt = {g.name: rows[g.name, 1.0] - rows[g.name, 0.3] for g in bench.graph.groups}
    most, least = max(hurt, key=hurt.__getitem__), min(hurt, key=hurt.__getitem__)
    assert hurt[most] > hurt[least] and share[most] > share[least]
    assert any("validation samples" in note for note in ctx.log.notes)


class Two(nn.Module):
    """Two hidden layers of 10 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 10, 1, bias=False)
        self.b = nn.Conv2d(10, 10, 1, bias=False)
        self.c = nn.Conv2d(10, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x)))


def test_widths_by_hand() -> None:
    """MACs a pixel are a + a·b + b, 120 when whole. `a` bears anything; `b` loses 50 of 100 at once."""
    graph = PruningGraph.trace(Two(), torch.randn(1, 1, 4, 4))
    names = [g.name for g in graph.groups]
    losses = {names[0]: [0.0] * 5, names[1]: [50.0] * 5}
    # What a loses is 1 % of the metric times the share that is gone: at a loss of 0.7 it keeps 3 of its channels, where
    # b, which would lose 50.1 with its first channel, keeps all. 3 + 30 + 10 = 43 is nearer to 40 than 2 + 20 + 10.
    widths = widths_by_loss(graph, losses, 100.0, 40 / 120)
    assert widths == {names[0]: 3, names[1]: 10}
    # Both alike: one ratio for both. 5 + 25 + 5 = 35.
    alike = {name: [10.0, 20.0, 30.0, 40.0, 50.0] for name in names}
    assert widths_by_loss(graph, alike, 100.0, 35 / 120) == dict.fromkeys(names, 5)


def test_a_metric_that_is_not_finite_is_lost() -> None:
    graph = PruningGraph.trace(Two(), torch.randn(1, 1, 4, 4))
    names = [g.name for g in graph.groups]
    broken = {names[0]: [0.0] * 5, names[1]: [float("nan")] * 5}
    widths = widths_by_loss(graph, broken, 100.0, 40 / 120)
    assert widths[names[1]] == 10 and widths[names[0]] == 3


def test_the_scan_is_satisfied_with_a_part_of_a_large_split(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = digits()
    count = len(bench.data.val)
    monkeypatch.setattr("methods.l1.SCANNED", count // 4)
    ctx = bench.context(0)
    bench.search(L1(scope="sensitivity"), RATIO, ctx)
    (note,) = ctx.log.notes
    seen = int(note.split("evaluated ")[1].split()[0])
    assert count // 4 <= seen < count // 2
    # Accuracies in multiples of one sample of those.
    for row in ctx.log.snapshots["sensitivity"]:
        right = row["metric"] / 100 * seen
        assert right == pytest.approx(round(right), abs=1e-3)


def test_the_network_is_left_as_it_was() -> None:
    bench = digits()
    model = copy.deepcopy(bench.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    L1(scope="sensitivity").search(model, bench.graph, bench.task, Budget(RATIO), bench.context(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("ratio", [0.7, 0.3])
def test_inner_pruning_leaves_residual_streams_whole(ratio: float) -> None:
    """One share of each block's first convolution, by the norms of that convolution alone."""
    bench = digits()
    ctx = bench.context(0)
    found, fitted = bench.search(L1(scope="inner"), ratio, ctx)
    assert fitted.within and found.fixed == {"conv1", "layer2.0.conv2", "layer3.0.conv2"}
    inner = [g for g in bench.graph.groups if g.name not in found.fixed]
    assert [g.name for g in inner] == ["layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"]
    assert all(fitted.widths[name] == bench.graph.group(name).size for name in found.fixed)
    shares = [fitted.widths[g.name] / g.size for g in inner]
    assert max(shares) - min(shares) < 0.15 and max(shares) < 1
    for group in inner:
        norms = bench.model.get_parameter(f"{group.name}.weight").detach().abs().sum((1, 2, 3))
        kept = fitted.pruning.keep[group.name]
        assert norms[kept].min() >= norms[~kept].max()
    assert any("3 of 6 groups stay whole" in note for note in ctx.log.notes)


def test_a_network_without_residual_blocks_is_pruned_in_every_layer() -> None:
    """As the paper does VGG-16: nothing there is joined by a shortcut."""
    bench, model = digits(), Two()
    graph = PruningGraph.trace(model, torch.randn(1, 1, 4, 4))
    found = L1(scope="inner").search(model, graph, bench.task, Budget(0.4), bench.context(0))
    assert not found.fixed


def test_protocol_paper_is_li_et_al_s() -> None:
    from bench.runs.suite import suite_from_table

    workload = {
        "task": "classification",
        "dataset": "digits",
        "model": "resnet8",
        "epochs": {"dense": 1, "recovery": 1},
    }
    table = {"name": "t", "methods": ["l1"], "controls": [], "budgets": [0.5], "seeds": [0], "workloads": [workload]}
    (cell,) = suite_from_table({**table, "protocol": "paper"}, "t").cells
    assert cell.plan is not None
    recipe = cell.plan.recovery
    assert (cell.hyper["scope"], cell.recovery, cell.plan.recovery_epochs) == ("inner", "finetune", 40)
    assert (recipe.optimizer, recipe.lr, recipe.schedule, recipe.warmup_epochs) == ("sgd", 1e-3, "constant", 0.0)
