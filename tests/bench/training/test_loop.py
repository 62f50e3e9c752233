"""The training loop: resuming is exact, failures are named, searches cost what they should."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import CellError, RequestError
from bench.interface.cell import Recipe
from bench.interface.log import Observer, TrainingLog
from bench.interface.method import Search
from bench.interface.task import TrainVal
from bench.training.checkpoint import restore, save_state
from bench.training.context import search_context, search_steps
from bench.training.device import resolve_device, resolve_precision, stage_seed
from bench.training.evaluate import recalibrate
from bench.training.loop import Phase, learning_rate, train
from bench.training.optimizer import Optimizer
from tasks.classification import Classification
from tests.bench.training.killed import Kill, Killed

CPU = torch.device("cpu")
TASK = Classification("digits", "resnet8", train_size=200)
RECIPE = Recipe(lr=0.05, batch_size=32, precision="fp32")


@pytest.fixture(scope="module")
def data() -> Any:
    return TASK.load(None)


def network(data: Any) -> nn.Module:
    torch.manual_seed(0)
    return TASK.network(data.info)


def run(
    data: Any,
    epochs: int,
    *,
    model: nn.Module | None = None,
    recipe: Recipe = RECIPE,
    phase: str = "dense",
    seed: int = 3,
    checkpoint: Path | None = None,
    **options: Any,
) -> nn.Module:
    """Train a network, the same one unless `model` is given, on the digits."""
    return train(
        model or network(data), TASK, data.train, recipe, Phase(phase, epochs, seed, CPU, checkpoint), **options
    )


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data: Any) -> None:
    assert same(run(data, 2), run(data, 2))
    assert not same(run(data, 2), run(data, 2, seed=4))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(data: Any, tmp_path: Path, optimizer: str) -> None:
    recipe = RECIPE.model_copy(update={"optimizer": optimizer, "lr": 0.01})
    whole, log = TrainingLog(), TrainingLog()
    straight = run(data, 4, recipe=recipe, log=whole)
    checkpoint = tmp_path / "train.pt"
    with pytest.raises(Killed):
        run(data, 4, recipe=recipe, checkpoint=checkpoint, observer=Kill(2))
    resumed = run(data, 4, recipe=recipe, checkpoint=checkpoint, log=log)
    assert same(straight, resumed)
    assert [(r["epoch"], r["loss"]) for r in log.rows] == [(r["epoch"], r["loss"]) for r in whole.rows]


def test_a_checkpoint_of_another_phase_is_not_resumed(data: Any, tmp_path: Path) -> None:
    run(data, 1, checkpoint=tmp_path / "c.pt", phase="search")
    log = TrainingLog()
    run(data, 2, checkpoint=tmp_path / "c.pt", phase="recovery", log=log)
    assert [r["epoch"] for r in log.rows] == [1, 2]


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.pt"
    assert restore(path, dict) is None
    save_state(path, {"epoch": 1, "t": torch.arange(3)})
    save_state(path, {"epoch": 2, "t": torch.arange(4)})
    assert restore(path, dict)["epoch"] == 2  # pyright: ignore[reportOptionalSubscript]
    assert sorted(p.name for p in path.parent.iterdir()) == ["state.pt", "state.pt.previous"]


def test_training_lowers_the_loss_and_logs_every_epoch(data: Any) -> None:
    log = TrainingLog()
    everything = Classification("digits", "resnet8").load(None)
    run(everything, 4, log=log, val=data.val)
    rows = log.rows
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4]
    assert all(0 <= r["val_accuracy"] <= 100 for r in rows)
    assert log.seconds("dense") == pytest.approx(sum(r["seconds"] for r in rows))
    assert log.seconds("search") == 0


def test_weights_that_become_infinite_in_the_last_step_fail_with_the_reason(data: Any, tmp_path: Path) -> None:
    class Spoil(Observer):
        """Makes a weight infinite where the last loss has been read."""

        def step(self, phase: str, step: int, steps: int, loss: float) -> None:
            if step == steps:
                with torch.no_grad():
                    last[0, 0] = torch.inf

    model = network(data)
    name, last = [(n, p) for n, p in model.named_parameters() if p.ndim == 2][-1]
    with pytest.raises(CellError, match=rf"^1 of \d+ weight tensors \({name} first\) hold values that are not finite"):
        run(data, 1, model=model, checkpoint=tmp_path / "c.pt", observer=Spoil())
    assert not (tmp_path / "c.pt").exists()


def test_a_loss_that_becomes_infinite_fails_with_the_reason(data: Any) -> None:
    with pytest.raises(CellError, match=r"the loss became (nan|inf) in epoch 1 of dense \(learning rate 1e\+30, sgd\)"):
        run(data, 1, recipe=RECIPE.model_copy(update={"lr": 1e30}))


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    recipe = Recipe(lr=1.0, warmup_epochs=2)
    rates = [learning_rate(recipe, step, 100, 5) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11) and rates[9] == pytest.approx(10 / 11)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert {learning_rate(Recipe(lr=0.3, schedule="constant"), s, 100, 5) for s in range(100)} == {0.3}


def test_biases_and_norms_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    groups = Optimizer(list(model.parameters()), Recipe(weight_decay=0.1)).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    conv, norm = model
    assert decay[id(conv.weight)] == 0.1
    assert decay[id(conv.bias)] == decay[id(norm.weight)] == decay[id(norm.bias)] == 0


def test_gradients_are_clipped(data: Any) -> None:
    recipe = Recipe(lr=1.0, momentum=0, weight_decay=0, batch_size=180, schedule="constant", precision="fp32")
    start = network(data)
    model = run(data, 1, recipe=recipe.model_copy(update={"grad_clip": 1e-3}), model=network(data))
    step = math.sqrt(
        sum(float((a - b).square().sum()) for a, b in zip(model.parameters(), start.parameters(), strict=True))
    )
    assert step == pytest.approx(1e-3, rel=1e-3)  # 200 samples make one batch of 180


def scale_search(model: nn.Module, **options: Any) -> tuple[Search, nn.Parameter]:
    """A search over one factor on the logits' bias."""
    alpha = nn.Parameter(torch.zeros(()))
    head: Any = model.fc
    head.register_forward_hook(lambda module, args, out: out * (1 + alpha))
    return Search(torch.optim.Adam([alpha], lr=0.01), **options), alpha


def test_a_bilevel_search_moves_both_and_costs_one_pass(data: Any) -> None:
    model = network(data)
    search, alpha = scale_search(model)
    before = [p.detach().clone() for p in model.parameters()]
    calls: list[float] = []
    search.before = calls.append
    run(data, 2, model=model, search=search)
    assert float(alpha) != 0
    assert all(not torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    # Halves of 100 make three batches of 32: six steps an epoch, as many as a dense epoch of 200 samples.
    assert len(calls) == 2 * 3
    assert calls == sorted(calls) and calls[0] == 0 and calls[-1] < 1


def test_the_weight_step_leaves_the_architecture_alone_and_the_other_way_round(data: Any) -> None:
    model = network(data)
    search, alpha = scale_search(model)
    search.optimizer.param_groups[0]["lr"] = 0.0
    run(data, 1, model=model, search=search)
    assert float(alpha) == 0
    frozen = network(data)
    search, alpha = scale_search(frozen)
    start = [p.detach().clone() for p in frozen.parameters()]
    tiny = RECIPE.model_copy(update={"lr": 1e-30, "weight_decay": 0.0})
    run(data, 1, model=frozen, search=search, recipe=tiny)
    assert float(alpha) != 0
    assert all(torch.allclose(a, b, rtol=0, atol=1e-20) for a, b in zip(frozen.parameters(), start, strict=True))


@pytest.mark.parametrize("bilevel", [True, False])
def test_a_blind_search_moves_the_architecture_by_its_penalty_alone(data: Any, bilevel: bool) -> None:
    still = network(data)
    search, alpha = scale_search(still, bilevel=bilevel)
    blind = run(data, 1, model=still, search=search, blind=True, phase="search")
    assert float(alpha.detach()) == 0  # without a penalty nothing moves it
    pulled = network(data)
    search, alpha = scale_search(pulled, bilevel=bilevel)
    search.penalty = lambda: -alpha
    run(data, 1, model=pulled, search=search, blind=True, phase="search")
    # Adam at 0.01 on a gradient of -1 takes a whole step each time.
    steps = 3 if bilevel else 6
    assert float(alpha.detach()) == pytest.approx(0.01 * steps, rel=1e-4)
    # The weights and the norms see what they see in a search that is not blind and whose architecture does not move.
    seeing = network(data)
    search, other = scale_search(seeing, bilevel=bilevel)
    search.optimizer.param_groups[0]["lr"] = 0.0
    run(data, 1, model=seeing, search=search, phase="search")
    assert float(other.detach()) == 0 and same(blind, seeing)


@pytest.mark.parametrize("bilevel", [None, True, False])
def test_a_penalty_is_followed_by_the_steps_of_the_weights(data: Any, bilevel: bool | None) -> None:
    """One step at a rate of 0.05: with 0.1 · Σ|γ| in the loss scales end 0.05 · 0.1 lower, and nothing else."""
    recipe = RECIPE.model_copy(update={"batch_size": 100 if bilevel else 200, "momentum": 0.0})

    def trained(strength: float) -> tuple[nn.Module, dict[str, Any]]:
        model, log = network(data), TrainingLog()
        scales: list[Tensor] = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        search = None if bilevel is None else scale_search(model, bilevel=bilevel)[0]
        penalty = (lambda: strength * torch.cat(scales).abs().sum()) if strength else None
        run(data, 1, model=model, recipe=recipe, search=search, penalty=penalty, log=log, phase="search")
        return model, log.rows[0]

    (plain, without), (pulled, row) = trained(0.0), trained(0.1)
    count = 0
    for name, weight in plain.named_parameters():
        scale = isinstance(plain.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d) and name.endswith("weight")
        count += weight.numel() * scale
        moved = weight - pulled.get_parameter(name)
        assert torch.allclose(moved, torch.full_like(moved, 0.05 * 0.1 * scale), atol=1e-6), name
    assert row["weight_steps"] == without["weight_steps"] == 1
    assert row["architecture_steps"] == without["architecture_steps"] == (bilevel is not None)
    assert row["loss"] == without["loss"]  # the task's alone
    assert row["penalty"] == pytest.approx(0.1 * count) and "penalty" not in without


def test_epochs_are_counted_in_samples_and_steps(data: Any) -> None:
    log = TrainingLog()
    run(data, 2, log=log)
    search, _ = scale_search(model := network(data))
    run(data, 1, model=model, search=search, log=log, phase="search")
    counts = {
        phase: [log.total(phase, name) for name in ("samples", "weight_steps", "architecture_steps")]
        for phase in ("dense", "search", "recovery")
    }
    # 200 samples make six batches of 32; halves of 100 make three each.
    assert counts == {"dense": [384, 12, 0], "search": [192, 3, 3], "recovery": [0, 0, 0]}


@pytest.mark.parametrize("bilevel", [True, False])
def test_a_penalty_pulls_the_architecture(data: Any, bilevel: bool) -> None:
    values = []
    for weight in (0.0, 100.0):
        model = network(data)
        search, alpha = scale_search(model, bilevel=bilevel)
        search.penalty = lambda w=weight, a=alpha: w * (a - 0.5).square()
        search.optimizer.param_groups[0]["lr"] = 0.05
        run(data, 4, model=model, search=search)
        values.append(abs(float(alpha) - 0.5))
    assert values[1] < 0.2 < values[0]


def test_a_search_resumes_exactly(data: Any, tmp_path: Path) -> None:
    def attempt(**options: Any) -> tuple[nn.Module, nn.Parameter]:
        model = network(data)
        search, alpha = scale_search(model)
        holder = nn.ParameterDict({"alpha": alpha})
        search.state = {"alpha": holder}
        run(data, 4, model=model, search=search, phase="search", **options)
        return model, alpha

    straight, alpha = attempt()
    with pytest.raises(Killed):
        attempt(checkpoint=tmp_path / "s.pt", observer=Kill(2))
    resumed, again = attempt(checkpoint=tmp_path / "s.pt")
    assert float(alpha) == float(again) and same(straight, resumed)


@pytest.mark.parametrize("bilevel", [True, False])
@pytest.mark.parametrize("samples", [200, 65, 40])
def test_a_search_knows_how_many_steps_it_will_take(data: Any, samples: int, bilevel: bool) -> None:
    """Halves of 40 samples are smaller than a batch of 32: one step an epoch."""
    model, visible = network(data), TrainVal(data.train.subset(torch.arange(samples)), data.val)
    search, _ = scale_search(model, bilevel=bilevel)
    steps: list[float] = []
    search.after = steps.append
    ctx = search_context(TASK, visible, RECIPE, epochs=2, seed=0, device=CPU)
    ctx.train(model, search)
    assert len(steps) == search_steps(ctx, bilevel=bilevel)
    assert steps == pytest.approx([(i + 1) / len(steps) for i in range(len(steps))])
    assert len(ctx.log.epochs("search")) == 2


def test_an_iteration_calls_a_search_in_order(data: Any) -> None:
    model = network(data)
    search, alpha = scale_search(model)
    calls: list[str] = []
    search.before = lambda progress: calls.append("before")
    search.before_architecture = lambda progress: calls.append("before architecture")
    search.penalty = lambda: (calls.append("penalty"), 0.0 * alpha)[1]
    search.after = lambda progress: calls.append("after")
    search.metrics = lambda: {"alpha": float(alpha)}
    search.snapshot = lambda: {"alphas": [float(alpha)]}
    log = TrainingLog()
    run(data, 1, model=model, search=search, log=log)
    assert calls == ["before", "before architecture", "penalty", "after"] * 3
    assert log.rows[0]["alpha"] == float(alpha)
    assert log.snapshots == {"alphas": [{"phase": "dense", "epoch": 1, "values": [float(alpha)]}]}


def test_too_few_samples_for_a_batch_are_named(data: Any) -> None:
    tiny = data.train.subset(torch.arange(2))
    search, _ = scale_search(network(data))
    with pytest.raises(CellError, match="2 samples, too few"):
        train(network(data), TASK, tiny, RECIPE, Phase("p", 1, 0, CPU), search=search)


def test_recalibration_gives_the_mean_of_batch_statistics(data: Any) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(256, 10))
    norm: Any = model[0]
    norm.running_mean.fill_(9.0)
    recipe = Recipe(batch_size=50)
    recalibrate(model, data.train, CPU, seed=0, recipe=recipe, batches=4)
    seed = stage_seed(0, "bn")
    batches = list(data.train.batches(50, seed=seed, epoch=0, device=CPU))
    means = torch.stack([x.mean((0, 2, 3)) for x, _ in batches])
    assert len(batches) == 4
    assert torch.allclose(norm.running_mean, means.mean(0), atol=1e-5)
    assert norm.momentum == 0.1 and model.training


def test_devices_are_resolved() -> None:
    assert resolve_device("cpu") == CPU
    for name in ("tpu", "cuda:", "cuda:x", "cuda:N", "cuda:1:2"):
        with pytest.raises(RequestError, match=rf"unknown device '{name}'.* available: auto, cpu, cuda, cuda:N, mps$"):
            resolve_device(name)


@pytest.mark.parametrize(
    ("gpus", "found", "refused"),
    [
        (
            0,
            {"auto": "cpu"},
            {"cuda": "sees no CUDA device", "cuda:0": "sees no CUDA device", "mps": "no GPU of Apple"},
        ),
        (1, {"auto": "cuda", "cuda": "cuda", "cuda:0": "cuda:0"}, {"cuda:1": "sees cuda:0; use one of these"}),
        (4, {"auto": "cuda", "cuda:3": "cuda:3"}, {"cuda:4": "sees cuda:0 to cuda:3; use one of these"}),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    gpus: int, found: dict[str, str], refused: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert {name: str(resolve_device(name)) for name in found} == found
    for name, words in refused.items():
        with pytest.raises(RequestError, match=f"device '{name}' was asked for, but torch .*{words}"):
            resolve_device(name)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert resolve_device("mps").type == "mps"


@pytest.mark.parametrize(("given", "computes_in_bf16", "resolved"), [
    ("fp32", True, "fp32"), ("bf16", False, "bf16"), ("auto", True, "bf16"), ("auto", False, "fp32"),
])  # fmt: skip
def test_precision_is_resolved_by_what_the_processor_computes_in(
    given: Any, computes_in_bf16: bool, resolved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.training.device._computes_in_bf16", lambda device_type: computes_in_bf16)
    assert resolve_precision(Recipe(precision=given), CPU) == resolved


@pytest.mark.cuda
def test_training_on_a_gpu_keeps_data_there(data: Any) -> None:
    model = train(network(data), TASK, data.train, RECIPE, Phase("dense", 1, 0, torch.device("cuda")))
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert data.train.images.device.type == "cuda"
