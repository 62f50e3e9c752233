"""TAS: sampling, interpolation and both mixtures by hand; widths and depths that meet the budget; resuming, cost."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare
from torch import Tensor, nn

from bench.interface.method import Budget, Context, Found
from bench.search.fit import Fitted
from bench.search.supernet import Supernet
from bench.search.widths import ExpectedMacs
from bench.structure.graph import PruningGraph
from bench.structure.groups import Pruning
from bench.structure.surgery import prune
from methods.tas import TAS, ArchitectureSearch, fresh_weights, interpolation, padding, sample, settle
from tasks.models.resnet import CifarResNet, cifar_resnet
from tests.methods import searching
from tests.speed.tas_step import timed_rounds

CPU = torch.device("cpu")


def test_the_interpolation_map_is_adaptive_average_pooling_along_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, 5, 5, generator=generator, dtype=torch.float64)
    for n, m in itertools.product(range(1, 17), repeat=2):
        fragment = x[:, :n].movedim(1, -1).flatten(1, 2)
        pooled = F.adaptive_avg_pool1d(fragment, m).view(3, 5, 5, m).movedim(-1, 1)
        mapped = torch.einsum("oi,nihw->nohw", interpolation(16, n, m, CPU).double(), x)
        # Exact but for the rounding of 1/3 and its like in fp32.
        assert torch.allclose(mapped[:, :m], pooled, rtol=0, atol=1e-6)
        assert not mapped[:, m:].any()
    torch.set_default_dtype(torch.float64)
    try:
        assert interpolation(4, 4, 2, CPU).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    halves = interpolation(4, 4, 2, CPU)
    assert halves.dtype == torch.float32  # whatever was asked for before
    assert halves.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0] * 4, [0] * 4]


def test_pairs_are_drawn_without_replacement_in_proportion_to_their_probabilities() -> None:
    """As τ falls to 0, noise and draw together follow softmax(α): P(i, then j) = p_i p_j / (1 - p_i)."""
    alpha = torch.tensor([0.0, 0.7, -0.4, 1.0])
    p = alpha.softmax(0)
    generator = torch.Generator().manual_seed(0)
    pairs = list(itertools.permutations(range(4), 2))
    seen = dict.fromkeys(pairs, 0)
    count = 6000
    for _ in range(count):
        index, weight = sample(alpha, 1e-3, "two", generator)
        seen[int(index[0]), int(index[1])] += 1
        assert float(weight.sum()) == pytest.approx(1)
    expected = [count * float(p[i] * p[j] / (1 - p[i])) for i, j in pairs]
    assert chisquare([seen[pair] for pair in pairs], expected).pvalue > 0.01
    uniform = [count / len(pairs)] * len(pairs)
    assert chisquare([seen[pair] for pair in pairs], uniform).pvalue < 1e-6  # the test can tell


def test_at_a_high_temperature_candidates_are_drawn_almost_alike() -> None:
    alpha = torch.tensor([0.0, 3.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    first = [int(sample(alpha, 1e6, "two", generator)[0][0]) for _ in range(3000)]
    assert chisquare([first.count(k) for k in range(3)]).pvalue > 0.01


def test_weights_of_a_sample_are_the_softmax_over_the_drawn() -> None:
    alpha = torch.randn(8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    index, weight = sample(alpha, 0.7, "two", torch.Generator().manual_seed(2))
    every, all_weights = sample(alpha, 0.7, "all", torch.Generator().manual_seed(2))  # the same Gumbel noise
    assert len(set(index.tolist())) == 2
    assert torch.allclose(weight, all_weights[index] / all_weights[index].sum(), atol=1e-6)
    assert every.tolist() == list(range(8))
    (slope,) = torch.autograd.grad(weight[0], alpha)
    assert slope[index[0]] > 0 > slope[index[1]]


class TwoLayers(nn.Module):
    """A convolution with a norm, and one that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10)
        self.head = nn.Conv2d(10, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu()).mean((2, 3))


@pytest.mark.parametrize("resize", [interpolation, padding])
def test_a_mixture_of_widths_is_equation_4(resize: Any) -> None:
    torch.manual_seed(0)
    model, x = TwoLayers(), torch.randn(4, 1, 6, 6)
    graph = PruningGraph.trace(model, x[:1])
    net = Supernet(model, graph, {"conv": [3, 5, 7, 10]}, depths=None, resize=resize)
    norm: Any = model.norm
    gamma, beta = norm.weight_of_width, norm.bias_of_width
    assert gamma.shape == (40,) and norm.weight.tolist() == [1] * 10
    with torch.no_grad():
        gamma.uniform_(0.5, 2)
        beta.uniform_(-1, 1)
    w = torch.tensor([0.3, 0.7], requires_grad=True)
    net.use([(torch.tensor([2, 0]), w)])
    found = model(x)

    y = F.batch_norm(model.conv(x), None, None, training=True)
    total = torch.zeros_like(y)
    for k, n, share in ((2, 7, w[0]), (0, 3, w[1])):
        fragment = gamma.view(4, 10)[k, :n, None, None] * y[:, :n] + beta.view(4, 10)[k, :n, None, None]
        if resize is interpolation:
            fragment = F.adaptive_avg_pool1d(fragment.movedim(1, -1).flatten(1, 2), 7).view(4, 6, 6, 7).movedim(-1, 1)
        total = total + share * F.pad(fragment, (0, 0, 0, 0, 0, 10 - fragment.shape[1]))
    explicit = model.head(total.relu()).mean((2, 3))
    assert torch.allclose(found, explicit, atol=1e-5)
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), (w, gamma)) for out in (found, explicit)), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5) and a.any()


def test_a_mixture_of_depths_is_the_sum_over_the_outputs_of_the_stage() -> None:
    torch.manual_seed(0)
    model = cifar_resnet(20).eval()
    x = torch.randn(2, 3, 16, 16)
    graph = PruningGraph.trace(model, x[:1])
    net = Supernet(model, graph, {}, depths=TAS().depths, resize=interpolation)
    # The first stage keeps one block of three that could all go; the others have one that cannot.
    assert [stage.depths for stage in net.stages] == [[1, 2, 3], [0, 1, 2], [0, 1, 2]]
    p = [torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.0, 0.4, 0.6]), torch.tensor([0.1, 0.0, 0.9])]
    net.use([(torch.arange(3), row) for row in p])
    with torch.no_grad():
        found = model(x)
        net.finish([])
        y = F.relu(model.bn1(model.conv1(x)))
        for stage, row, depths in zip((model.layer1, model.layer2, model.layer3), p, ((1, 2, 3),) * 3, strict=True):
            total = torch.zeros(())
            for depth, layer in enumerate(stage, start=1):
                y = layer(y)
                total = total + row[depths.index(depth)] * y
            y = total
        explicit = model.fc(y.mean((2, 3)))
    assert torch.allclose(found, explicit, atol=1e-5)


def candidates(graph: PruningGraph) -> dict[str, list[int]]:
    return {g.name: TAS().widths(g.n_bundles) for g in graph.groups}


def test_a_block_that_nothing_reads_is_not_computed() -> None:
    model = cifar_resnet(20)
    x = torch.randn(2, 3, 16, 16)
    graph = PruningGraph.trace(model, x[:1])
    plain = {name: type(module) for name, module in model.named_modules()}
    ran: list[str] = []
    for name in ("layer1.1", "layer1.2", "layer2.1", "layer3.2"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    net = Supernet(model, graph, {}, depths=TAS().depths, resize=interpolation)
    one = torch.ones(1)
    half = (torch.tensor([0, 1]), torch.tensor([0.5, 0.5]))
    net.use([half, (torch.tensor([0]), one), (torch.tensor([2]), one)])
    model(x)
    assert ran == ["layer1.1", "layer3.2"]  # one or two blocks of the first stage, none of the second, all of the third
    net.finish([])
    assert {name: type(module) for name, module in model.named_modules()} == plain
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_one_choice_is_the_pruned_network_and_its_cost_is_counted() -> None:
    torch.manual_seed(0)
    model = cifar_resnet(20)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_mean").uniform_(-1, 1)
    x = torch.randn(2, 3, 16, 16)
    graph = PruningGraph.trace(model, x[:1])
    assert TAS().widths(16) == [4, 6, 8, 9, 11, 12, 14, 16]
    names = list(model.state_dict())
    net = Supernet(model, graph, candidates(graph), depths=TAS().depths, resize=interpolation)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_of_width"):
                parameter.uniform_(0.2, 1)
    choice = [*(k % 8 for k in range(3, 3 + len(graph.groups))), 0, 1, 2]
    net.choose(choice)
    model.eval()
    with torch.no_grad():
        mixed = model(x)
    widths, dropped = net.architecture(choice)
    assert dropped == ("layer1.1", "layer1.2", "layer2.2")
    net.finish(choice)
    assert list(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())
    keep = {g.name: torch.arange(g.size) < widths[g.name] for g in graph.groups}
    small = prune(model, graph, Pruning(keep, dropped))
    with torch.no_grad():
        assert torch.allclose(small(x), mixed, atol=1e-5)
    from bench.structure.measure import count_macs

    assert net.macs(choice) == count_macs(small, x[:1])


def test_the_expected_cost_is_the_mean_over_sampled_widths_and_depths() -> None:
    model = cifar_resnet(20)
    graph = PruningGraph.trace(model, torch.randn(1, 3, 32, 32))
    net = Supernet(model, graph, candidates(graph), depths=TAS().depths, resize=interpolation)
    generator = torch.Generator().manual_seed(0)
    p = [(2 * torch.randn(n, generator=generator)).softmax(0) for n in net.candidates]
    exact = float(ExpectedMacs(graph)(*net.distributions(p)))
    drawn = zip(
        *(torch.multinomial(row, 3000, replacement=True, generator=generator).tolist() for row in p), strict=True
    )
    sampled = torch.tensor([net.macs(choice) for choice in drawn], dtype=torch.float64)
    error = float(sampled.std()) / 3000**0.5
    assert abs(float(sampled.mean()) - exact) < 4 * error < 0.05 * exact


def test_settling_changes_what_costs_the_least_probability() -> None:
    log_p = [torch.tensor([0.5, 0.1, 0.4]).log(), torch.tensor([0.01, 0.99]).log()]

    def macs(choice: Any) -> int:
        return (60, 80, 100)[choice[0]] + (0, 20)[choice[1]]

    assert settle([0, 1], log_p, macs, 118.0, 0.025) == [2, 1]  # 80 is off; 100 + 20 fits and is nearly as probable
    assert settle([0, 1], log_p, macs, 80.0, 0.025) == [0, 1]


def chain(p: list[float], ratio: float, **hyper: Any) -> ArchitectureSearch:
    """A search on `searching.chain(10)` with these probabilities of its widths 3 … 10; MACs are 432 a channel."""
    model, graph = searching.chain(10)
    search = ArchitectureSearch(TAS(**hyper), model, graph, Budget(ratio), steps=100, epochs=4, seed=0)
    search.alpha[0].data = torch.tensor(p).log()
    return search


SPLIT = [0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4]  # E[n] = 0.6·3 + 0.4·10 = 5.8, the argmax 3


def test_the_published_cost_by_hand() -> None:
    """The argmax decides the sign, E[F] the size; the lower edge is R - 0.05 of the dense MACs, here of 10 channels."""
    published = {"weigh": "loss", "sign": "argmax", "sharpen": 1.0, "cost_weight": 3.0}
    assert float(chain(SPLIT, 0.5).E()) == pytest.approx(432 * 5.8)
    assert chain(SPLIT, 0.5, **published).penalty().item() == pytest.approx(-3 * math.log(5.8 / 5))  # 3 < 5 - 0.5
    assert chain(SPLIT, 0.25, **published).penalty().item() == pytest.approx(3 * math.log(5.8 / 2.5))  # 3 > 2.5
    assert chain(SPLIT, 0.34, **published).penalty().item() == 0  # 3.4 - 0.5 < 3 < 3.4
    assert chain(SPLIT, 0.36, **published).penalty().item() == pytest.approx(-3 * math.log(5.8 / 3.6))  # 3 < 3.6 - 0.5


def test_the_cost_s_gradient_is_lambda_times_the_task_s() -> None:
    """log E has the gradient p_k (n_k - 5.8) / 5.8: 1.68 / 5.8 for both candidates, with opposite signs."""
    search = chain(SPLIT, 0.5, sharpen=1.0, cost_weight=3.0)
    search.balance.square.fill_(0.25)
    (slope,) = torch.autograd.grad(search.penalty(), search.alpha)
    expected = 3 * 0.5 / 2**0.5
    assert slope[[0, 7]].tolist() == pytest.approx([-expected, expected])
    assert slope[1:7].abs().max() < 1e-6
    low = chain(SPLIT, 0.65, sharpen=1.0, cost_weight=3.0)  # 5.8 < 6.5 - 0.5
    low.balance.square.fill_(0.25)
    (slope,) = torch.autograd.grad(low.penalty(), low.alpha)
    assert slope[[0, 7]].tolist() == pytest.approx([expected, -expected])
    inside = chain(SPLIT, 0.62, sharpen=1.0)  # 6.2 - 0.5 < 5.8 < 6.2
    inside.balance.square.fill_(0.25)
    assert inside.penalty().item() == 0


def test_the_task_s_gradient_is_measured_without_the_cost_s() -> None:
    search = chain(SPLIT, 0.5, sharpen=1.0)
    search.balance.square.fill_(1.0)
    task = 3 * search.alpha[0][2] + 4 * search.alpha[0][5]
    (task + search.penalty()).backward()
    search.after(0.01)
    assert float(search.balance.square) == pytest.approx(0.95 + 0.05 * 25, rel=1e-4)


def test_candidates_are_those_of_the_released_code() -> None:
    assert TAS().widths(16) == [4, 6, 8, 9, 11, 12, 14, 16]
    assert TAS().widths(64) == [19, 25, 32, 38, 44, 51, 57, 64]
    assert TAS().widths(2) == [1, 1, 1, 1, 1, 1, 1, 2]
    assert [TAS().depths(n) for n in (1, 2, 3, 4, 5, 9)] == [
        [1], [1, 2], [1, 2, 3], [1, 3, 4], [1, 3, 5], [1, 3, 5, 7, 9]
    ]  # fmt: skip


def test_a_stage_counts_the_block_that_cannot_go() -> None:
    """ResNet-32 has five blocks a stage; the first of the later ones changes the width and stays."""
    model = cifar_resnet(32)
    graph = PruningGraph.trace(model, torch.randn(1, 3, 16, 16))
    net = Supernet(model, graph, {}, depths=TAS().depths, resize=interpolation)
    assert [stage.depths for stage in net.stages] == [[1, 3, 5], [0, 2, 4], [0, 2, 4]]
    assert net.architecture([0, 1, 2])[1] == ("layer1.1", "layer1.2", "layer1.3", "layer1.4", "layer2.3", "layer2.4")


def test_every_depth_is_mixed_and_two_widths() -> None:
    bench = searching.digits("resnet20", 4)
    model = copy.deepcopy(bench.model)
    search = ArchitectureSearch(TAS(), model, bench.graph, Budget(0.5), steps=10, epochs=1, seed=0)
    drawn = search.drawn("weights")
    groups = len(bench.graph.groups)
    assert all(len(index) == 2 for index, _ in drawn[:groups])
    assert [index.tolist() for index, _ in drawn[groups:]] == [[0, 1, 2]] * 3
    assert all(float(weights.sum()) == pytest.approx(1) and (weights > 0).all() for _, weights in drawn[groups:])


def test_temperature_falls_with_each_step_or_with_each_epoch() -> None:
    """4 epochs: 5 → 0.1 along a half cosine; epoch by epoch it is at a quarter of the way until the second ends."""
    by_step, by_epoch = chain(SPLIT, 0.5), chain(SPLIT, 0.5, anneal="epoch")
    for search in (by_step, by_epoch):
        search.before(0.49)
    assert by_step.tau == pytest.approx(0.1 + 4.9 * (1 + math.cos(0.49 * math.pi)) / 2)
    assert by_epoch.tau == pytest.approx(0.1 + 4.9 * (1 + math.cos(0.25 * math.pi)) / 2)
    by_epoch.before(0.5)
    assert by_epoch.tau == pytest.approx(0.1 + 4.9 / 2)


def test_the_published_rate_is_constant() -> None:
    search = chain(SPLIT, 0.5, travel=0.0)
    for progress in (0.0, 0.5, 0.99):
        search.before(progress)
        assert search.optimizer.param_groups[0]["lr"] == 1e-3


def test_fresh_weights_follow_the_seed_and_leave_the_network_alone() -> None:
    model = searching.digits().model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, again, other = (fresh_weights(model, seed).get_parameter("conv1.weight") for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, before["conv1.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert fresh_weights(model, 0).get_buffer("bn1.running_mean").abs().max() == 0


def test_an_iteration_sets_temperature_rate_sharpness_and_what_is_mixed() -> None:
    search = chain(SPLIT, 0.5, sharpen=100.0, travel=8.0)
    search.before(0.5)
    assert search.tau == pytest.approx((5.0 + 0.1) / 2)
    assert torch.allclose(search.logits()[0], 10 * search.alpha[0])
    assert search.optimizer.param_groups[0]["lr"] == pytest.approx(8 / 100)  # cos(π / 2) = 0
    search.before(1.0)
    assert search.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)  # the published rate is the least
    x = torch.randn(2, 1, 4, 4)
    search.before(0.5)
    assert torch.autograd.grad(search.net.model(x).sum(), search.alpha, allow_unused=True) == (None,)
    search.before_architecture(0.5)
    (slope,) = torch.autograd.grad(search.net.model(x).sum(), search.alpha)
    assert slope.abs().max() > 0


def test_the_same_step_of_the_same_seed_draws_the_same() -> None:
    search = chain([1 / 8] * 8, 0.5)
    search.progress.fill_(0.3)
    (one,), (again,), (other,) = (search.drawn(step) for step in ("weights", "weights", "architecture"))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[1], other[1])
    search.progress.fill_(0.4)
    assert not torch.equal(search.drawn("weights")[0][1], one[1])


@pytest.mark.parametrize(("depth", "published"), [(20, 40.81), (32, 69.12), (56, 125.75), (110, 253.15)])
def test_the_dense_networks_count_as_the_paper_reports_them_but_for_its_shortcuts(depth: int, published: float) -> None:
    """TAS's ResNets have 1×1 convolutions where a stage begins: 16·32·16² + 32·64·8² = 262,144 multiply-adds."""
    from bench.structure.measure import count_macs

    macs = count_macs(cifar_resnet(depth), torch.randn(1, 3, 32, 32))
    assert round((macs + 16 * 32 * 16**2 + 32 * 64 * 8**2) / 1e6, 2) == published
    assert round(macs / 1e6, 2) != published


@functools.cache
def searched(ratio: float) -> tuple[Context, Found, Fitted]:
    bench = searching.digits()
    ctx = bench.context(5)
    return ctx, *bench.search(TAS(), ratio, ctx)


@pytest.mark.parametrize("ratio", [0.7, 0.5, 0.3])
def test_the_search_ends_in_its_band_and_what_it_decides_at_its_budget(ratio: float) -> None:
    ctx, _, fitted = searched(ratio)
    assert ratio - 0.05 - 0.03 <= ctx.log.rows[-1]["expected_macs_ratio"] <= ratio + 0.03
    assert fitted.native_macs_ratio == pytest.approx(ratio, rel=0.05)
    assert fitted.within


def test_no_weights_are_inherited_and_channels_go_by_their_norms() -> None:
    """Recovery starts from the dense network: the search's weights are those of mixtures."""
    _, found, fitted = searched(0.5)
    assert found.model is None
    scores = searching.digits().graph.channel_scores(searching.digits().model)
    for name, kept in fitted.pruning.keep.items():
        assert kept.all() or scores[name][kept].min() >= scores[name][~kept].max()


def test_the_log_shows_the_distributions_settling() -> None:
    ctx, found, _ = searched(0.5)
    rows = ctx.log.rows
    assert rows[0]["temperature"] > 4 and rows[-1]["temperature"] < 0.5
    assert rows[-1]["entropy"] < rows[0]["entropy"] < 1
    assert all(0 < row["argmax_macs_ratio"] <= 1 for row in rows)
    assert [len(s["values"]) for s in ctx.log.snapshots["widths"]] == [6] * 5
    assert found.widths is not None


def test_protocol_paper_puts_the_published_choices_back() -> None:
    from bench.runs.suite import suite_from_table

    table: dict[str, Any] = {
        "name": "t",
        "methods": ["tas"],
        "controls": [],
        "budgets": [0.5],
        "seeds": [0],
        "workloads": [
            {
                "task": "classification",
                "dataset": "digits",
                "model": "resnet8",
                "epochs": {"dense": 1, "search": 1, "recovery": 1},
            }
        ],
    }
    (matched,) = suite_from_table(table, "t").cells
    (paper,) = suite_from_table({**table, "protocol": "paper"}, "t").cells
    assert (matched.hyper["sign"], matched.recovery, matched.plan) == ("expected", "rewind", None)
    expected = {"start": "fresh", "weigh": "loss", "sign": "argmax", "settle": False, "sharpen": 1.0}
    expected |= {"anneal": "epoch", "travel": 0.0, "rate": 1e-3, "cost_weight": 2.0, "band": 0.05}
    assert {key: paper.hyper[key] for key in expected} == expected
    assert paper.recovery == "scratch-distil"
    plan = paper.plan
    assert plan is not None and (plan.search_epochs, plan.recovery_epochs) == (600, 305)
    for recipe, warmup in ((plan.search, 0.0), (plan.recovery, 5.0)):
        assert (recipe.optimizer, recipe.lr, recipe.schedule, recipe.batch_size) == ("sgd", 0.1, "cosine", 256)
        assert (recipe.weight_decay, recipe.momentum, recipe.warmup_epochs) == (5e-4, 0.9, warmup)


def useless(model: CifarResNet, blocks: set[str]) -> None:
    """Make blocks compute their shortcut, for good: conv2 and γ are 0, and so no gradient reaches either."""
    for name in blocks:
        block: Any = model.get_submodule(name)
        for tensor in (block.conv2.weight, block.bn2.weight, block.bn2.bias):
            nn.init.zeros_(tensor)


def test_a_stage_with_useless_blocks_gets_shallower() -> None:
    """Of three stages the one whose removable blocks do nothing loses at least as many as the two others together."""
    bench = searching.digits("resnet20", 4)
    model: Any = copy.deepcopy(bench.model)
    planted = {"layer3.1", "layer3.2"}
    useless(model, planted)
    # At a rate of almost nothing, what was planted stays useless.
    ctx = bench.context(4, recipe=bench.recipe.model_copy(update={"lr": 1e-5, "weight_decay": 0.0, "warmup_epochs": 0}))
    found = TAS(space="depth").search(model, bench.graph, bench.task, Budget(0.76), ctx)
    dropped = set(found.drop_blocks)
    assert dropped & planted
    assert len(dropped - planted) <= len(dropped & planted)
    assert ctx.log.rows[-1]["expected_macs_ratio"] == pytest.approx(0.76, rel=0.08)


@pytest.mark.parametrize("space", ["width", "depth"])
def test_width_and_depth_can_be_searched_alone(space: Any) -> None:
    bench = searching.digits("resnet20", 4)
    found, fitted = bench.search(TAS(space=space), 0.6, bench.context(1))
    narrowed = any(w < g.size for g, w in zip(bench.graph.groups, (found.widths or {}).values(), strict=False))
    assert (space == "width") == narrowed
    assert space == "depth" or not found.drop_blocks
    assert fitted.within


@pytest.mark.parametrize("switch", [{"aggregate": "pad"}, {"sampled": "all"}, {"start": "fresh"}, dict(TAS.paper)])
def test_ablations_run(switch: dict[str, Any]) -> None:
    bench = searching.digits()
    _, fitted = bench.search(TAS(**switch), 0.5, bench.context(1))
    assert fitted.within


def test_a_killed_search_resumes_exactly(tmp_path: Path) -> None:
    searching.assert_resuming_is_exact(searching.digits(), TAS(), 0.5, tmp_path)


@pytest.mark.speed
def test_a_weight_step_and_the_pair_cost_what_they_should() -> None:
    """Asked: 1.3 of a dense step, and 1.2 of two for the pair. docs/methods.md has the figures of an idle machine."""
    times = timed_rounds(32, 7)
    plain, weights, architecture = (min(t[i] for t in times) for i in range(3))
    assert weights <= 1.5 * plain  # slack for a machine that does other things as well
    assert weights + architecture <= 1.4 * 2 * plain
