"""Every stage of every method on `torch.device("cuda")`, on a machine without a GPU: devices meet where they should."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from bench.interface import registry
from bench.interface.cell import Recipe
from bench.interface.method import Budget, Method
from bench.interface.task import Splits
from bench.search.fit import fit
from bench.structure.graph import PruningGraph
from bench.structure.surgery import prune
from bench.structure.tensors import WITHOUT_FLOAT64
from bench.training.context import search_context
from bench.training.evaluate import recalibrate
from bench.training.loop import Phase, train
from methods.tas import known_interpolation
from tasks.classification import Classification
from tests.bench.training.pretended_cuda import CUDA, pretended_cuda
from tests.bench.training.small import SmallResNet

TASK = Classification("digits", "resnet8", train_size=32)
RECIPE = Recipe(lr=0.01, batch_size=16, precision="fp32", grad_clip=1.0)


@functools.cache
def _traced() -> tuple[nn.Module, PruningGraph]:
    torch.manual_seed(0)
    model = SmallResNet()
    return model, PruningGraph.trace(model, torch.randn(1, 1, 16, 16))


def traced() -> tuple[nn.Module, PruningGraph]:
    """The dense network, and a graph of its own for each test: it keeps tables on the devices that it was asked on."""
    model, graph = _traced()
    return model, copy.deepcopy(graph)


@pytest.fixture(autouse=True)
def _nothing_pretended_is_kept() -> Iterator[None]:
    known_interpolation.cache_clear()
    yield
    known_interpolation.cache_clear()


def fresh_data() -> Splits:
    return TASK.load(None)  # splits move to a device and stay there


def test_a_tensor_of_the_cpu_that_meets_one_of_the_gpu_is_found() -> None:
    with pretended_cuda() as pretended:
        x = torch.arange(3.0, device=CUDA)
        assert x.device.type == "cuda"
        assert (2 * x).tolist() == [0, 2, 4] and float(x[x > 1].sum()) == 2
        with pytest.raises(RuntimeError, match="device"):
            torch.add(x, torch.ones(3))
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        assert x.cpu().numpy().tolist() == [0, 1, 2]
        assert pretended.on_gpu > 3


@pytest.fixture
def without_float64() -> Iterator[None]:
    """As on Apple's GPUs."""
    WITHOUT_FLOAT64.add("cuda")
    yield
    WITHOUT_FLOAT64.discard("cuda")


@pytest.mark.usefixtures("without_float64")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_dense_training_and_recovery_with_a_teacher(optimizer: str) -> None:
    (dense, _), data, recipe = traced(), fresh_data(), RECIPE.model_copy(update={"optimizer": optimizer})
    with pretended_cuda() as pretended:
        model = pretended.adopted(dense)
        train(model, TASK, data.train, recipe, Phase("dense", 1, 0, CUDA), val=data.val)
        student = copy.deepcopy(model)
        train(student, TASK, data.train, recipe, Phase("recovery", 1, 0, CUDA), teacher=copy.deepcopy(model))
        assert {p.device.type for p in student.parameters()} == {"cuda"}
        assert 0 <= TASK.evaluate(student, data.val, CUDA, recipe)["accuracy"] <= 100
        assert pretended.on_gpu > 500


@pytest.mark.parametrize("name", registry.method_names())
@pytest.mark.parametrize("how", ["", "blind", "float32"])
def test_what_a_method_finds_and_its_network(name: str, how: str, request: pytest.FixtureRequest) -> None:
    """Recovery and evaluation are those of the dense network, above."""
    method, (dense, graph), data = registry.make_method(name, {}), traced(), fresh_data()
    if how == "blind" and not method.searches:
        pytest.skip("nothing is searched")
    if how == "float32":
        request.getfixturevalue("without_float64")
    with pretended_cuda() as pretended:
        pruned = _pruned(method, pretended.adopted(dense), graph, data, blind=how == "blind")
        assert {p.device.type for p in pruned.parameters()} == {"cuda"}
        assert pretended.on_gpu > 100


@pytest.mark.parametrize("name", ["dcss", "gdp", "l1"])
def test_every_stage_of_a_method(name: str) -> None:
    """One whose search ends in a network, one that ends in gates, and one without a search."""
    method, (dense, graph), data = registry.make_method(name, {}), traced(), fresh_data()
    with pretended_cuda() as pretended:
        _every_stage(method, pretended.adopted(dense), graph, data)
        assert pretended.on_gpu > 500


@pytest.mark.cuda
@pytest.mark.parametrize("name", registry.method_names())
def test_every_stage_of_a_method_on_a_gpu(name: str) -> None:
    method, (dense, graph), data = registry.make_method(name, {}), traced(), fresh_data()
    _every_stage(method, copy.deepcopy(dense), graph, data)


def _pruned(method: Method, model: nn.Module, graph: PruningGraph, data: Splits, *, blind: bool) -> nn.Module:
    budget = Budget(0.6, 0.1) if getattr(method, "prunes", True) else Budget(1.0)
    ctx = search_context(TASK, data.visible, RECIPE, epochs=1, seed=0, device=CUDA, blind=blind)
    found = method.search(copy.deepcopy(model), graph, TASK, budget, ctx)
    fitted = fit(graph, found, budget)
    pruned = prune(model if found.model is None else found.model, graph, fitted.pruning)
    recalibrate(pruned, data.train, CUDA, seed=0, recipe=RECIPE)
    return pruned


def _every_stage(method: Method, model: nn.Module, graph: PruningGraph, data: Splits) -> None:
    pruned = _pruned(method, model, graph, data, blind=False)
    train(pruned, TASK, data.train, RECIPE, Phase("recovery", 1, 0, CUDA))
    figures = TASK.evaluate(pruned, data.val, CUDA, RECIPE)
    assert {p.device.type for p in pruned.parameters()} == {"cuda"}
    assert 0 <= figures["accuracy"] <= 100
