"""Network slimming: the penalty and its strength by hand, what it does to the scales, resuming, and Torch-Pruning."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import RequestError
from bench.interface.cell import Recipe
from bench.search.ranking import gate_gradients
from bench.structure.graph import PruningGraph
from methods.slimming import Scales, Slimming
from tasks.models.edsr import sr_network
from tests.methods import searching
from tests.methods.importances import EXAMPLE, LIBRARY, plain, ranking, theirs


def test_the_scales_and_their_penalty_by_hand() -> None:
    """Σ|γ| and sign(γ) of the norms inside the network; what no group holds is not penalised."""
    model = plain(norms=True)
    scales = Scales(model, PruningGraph.trace(model, EXAMPLE, protect=["3"]))
    γ = model.get_parameter("1.weight")
    assert scales.comparable and scales.all().tolist() == pytest.approx(γ.abs().tolist())
    scales.all().sum().backward()
    assert γ.grad is not None and γ.grad.tolist() == γ.sign().tolist()
    assert model.get_parameter("4.weight").grad is None
    assert scales.scores()["0"].tolist() == pytest.approx(γ.abs().tolist())


def test_without_norms_the_norms_of_filters_stand_for_them() -> None:
    model = plain()
    scales = Scales(model, PruningGraph.trace(model, EXAMPLE))
    assert not scales.comparable
    expected = model.get_parameter("0.weight").flatten(1).norm(dim=1)
    assert torch.allclose(scales.scores()["0"], expected)
    model.get_parameter("0.weight").data[0] = 0
    scales.all().sum().backward()
    slope = model.get_parameter("0.weight").grad
    assert slope is not None and bool(slope.isfinite().all())  # at a filter of zeros too
    assert slope[1:].flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 7)


def test_scales_of_a_stream_are_averaged_over_its_norms() -> None:
    bench = searching.digits()
    scores = Scales(bench.model, bench.graph).scores()
    for group in bench.graph.groups:
        weights = [(bench.model.get_parameter(f"{m.module}.weight"), m.rows.ravel()) for m in group.passes]
        expected = torch.stack([weight.abs()[torch.as_tensor(rows)] for weight, rows in weights]).mean(0)
        assert torch.allclose(scores[group.name], expected), group.name
    assert max(len(g.passes) for g in bench.graph.groups) > 1


def strength_of(method: Slimming, bench: searching.Workbench, epochs: int, recipe: Recipe) -> float:
    ctx = bench.context(epochs, recipe=recipe)
    return method.in_units(Scales(bench.model, bench.graph), bench.task, ctx)


def test_the_strength_under_sgd_by_hand() -> None:
    """At a constant rate of 0.05, momentum 0.9 and n steps, λ·n·0.05 / (1 - 0.9) is 0.9 of the mean scale."""
    bench = searching.digits()
    recipe = Recipe(lr=0.05, batch_size=32, momentum=0.9, schedule="constant", precision="fp32")
    mean = float(Scales(bench.model, bench.graph).all().detach().mean())
    steps = 3 * (len(bench.data.train) // 32)
    found = strength_of(Slimming(travel=0.9), bench, 3, recipe)
    assert found == pytest.approx(0.9 * mean * 0.1 / (0.05 * steps))
    assert strength_of(Slimming(travel=0.9), bench, 6, recipe) == pytest.approx(found / 2)


def test_the_strength_under_adam_by_hand() -> None:
    """λ·|γ| is twice the task's slope, in root mean squares over channels."""
    bench = searching.digits()
    recipe = bench.recipe.model_copy(update={"optimizer": "adam"})
    slopes = gate_gradients(bench.graph, bench.model, bench.task, bench.context(2, recipe=recipe))
    task = torch.cat([torch.cat(list(batch.values())) for batch in slopes]).square().mean().sqrt()
    scales = Scales(bench.model, bench.graph).all().detach().square().mean().sqrt()
    for epochs in (2, 4):
        assert strength_of(Slimming(weight=2.0), bench, epochs, recipe) == pytest.approx(float(2 * task / scales))


def searched(travel: float) -> tuple[torch.Tensor, float, Any, Any]:
    bench = searching.digits()
    ctx = bench.context(6)
    found, fitted = bench.search(Slimming(travel=travel), 0.5, ctx)
    assert found.model is not None
    scales = Scales(found.model, bench.graph).all().detach()
    return scales / scales.mean(), float(scales.mean()), ctx, fitted


def test_the_penalty_pulls_scales_apart() -> None:
    """In the same epochs: scales fall, and channels that the task needs keep more than others."""
    plain_scales, plain_mean, plain_ctx, _ = searched(0.0)
    scales, mean, ctx, fitted = searched(0.9)
    assert mean < 0.4 * plain_mean
    assert float(scales.std()) > 2 * float(plain_scales.std())
    assert fitted.within
    for row, other in zip(ctx.log.rows, plain_ctx.log.rows, strict=True):
        assert {k: row[k] for k in ("samples", "weight_steps", "architecture_steps", "lr")} == {
            k: other[k] for k in ("samples", "weight_steps", "architecture_steps", "lr")
        }
        assert row["architecture_steps"] == 0 and row["penalty"] > 0 == other["penalty"]
    assert ctx.log.rows[-1]["val_accuracy"] > 90


def test_a_strength_of_ones_own() -> None:
    bench = searching.digits()
    ctx = bench.context(1)
    bench.search(Slimming(strength=1e-4), 0.5, ctx)
    assert ctx.log.notes == ["slimming: the penalty's strength is 0.0001"]
    count = len(Scales(bench.model, bench.graph).all())
    assert ctx.log.rows[0]["penalty"] == pytest.approx(1e-4 * count, rel=0.2)  # scales near 1


def test_a_network_with_norms_everywhere_has_one_threshold_over_its_scales() -> None:
    bench = searching.residual_unet()
    ctx = bench.context(1)
    found, fitted = bench.search(Slimming(), 0.5, ctx)
    assert fitted.within and found.scope == "raw"
    assert ctx.log.rows[0]["penalty"] > 0


def test_a_network_with_norms_in_some_groups_has_a_threshold_over_relative_scores() -> None:
    """SRResNet has none behind its upsampler: the norms of its filters stand for scales there."""
    model = sr_network("srresnet")
    graph = PruningGraph.trace(model, torch.randn(1, 3, 12, 12))
    scales = Scales(model, graph)
    assert Slimming().left_whole(graph) == frozenset() and not scales.comparable
    assert scales.scores().keys() == {g.name for g in graph.groups}


def test_a_network_without_norms_is_refused() -> None:
    bench = searching.super_resolution()
    with pytest.raises(RequestError, match=r"slimming needs norms with scales .*; use another method there, such as"):
        Slimming().left_whole(bench.graph)
    with pytest.raises(RequestError, match="slimming needs norms with scales"):
        bench.search(Slimming(), 0.5, bench.context(1))


def test_resuming_is_exact(tmp_path: Path) -> None:
    searching.assert_resuming_is_exact(searching.digits(), Slimming(), 0.5, tmp_path)


@pytest.mark.parametrize("layer", ["0", "3"])
def test_torch_pruning_scores_plain_layers_alike(layer: str) -> None:
    model = plain(norms=True)
    expected = theirs(LIBRARY.BNScaleImportance(normalizer=None), model, layer)
    found = Scales(copy.deepcopy(model), PruningGraph.trace(model, EXAMPLE)).scores()[layer]
    assert torch.allclose(found, expected)
    assert ranking(found) == ranking(expected)
