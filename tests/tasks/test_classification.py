"""Image classification: networks, losses and metrics against hand-computed values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import RequestError
from bench.interface.cell import Recipe
from bench.interface.task import DataInfo
from bench.structure.measure import count_macs
from tasks.classification import Classification
from tasks.models import libraries
from tasks.models.resnet import DEPTHS, cifar_resnet

CPU = torch.device("cpu")
RGB = DataInfo(3, 32, 32, tuple("0123456789"))


def closed_form_macs(depth: int) -> int:
    """Σ k²·H·W·n_in·n_out: the stem, two convolutions a block, the classifier."""
    n = (depth - 2) // 6
    macs = 9 * 32 * 32 * 3 * 16
    for stage, (width, size) in enumerate(((16, 32), (32, 16), (64, 8))):
        first = width if stage == 0 else width // 2
        macs += 9 * size * size * (first * width + width * width) + (n - 1) * 2 * 9 * size * size * width * width
    return macs + 64 * 10


@pytest.mark.parametrize("depth", DEPTHS)
def test_resnets_cost_what_the_formula_says(depth: int) -> None:
    assert count_macs(cifar_resnet(depth), torch.randn(1, 3, 32, 32)) == closed_form_macs(depth)


def test_resnet20_is_the_papers() -> None:
    model = cifar_resnet(20)
    assert count_macs(model, torch.randn(1, 3, 32, 32)) == 40_551_040  # 40.6 M
    assert sum(p.numel() for p in model.parameters()) == 269_722  # He et al.: 0.27 M
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 20


def test_the_shortcut_appends_zeros() -> None:
    block = cifar_resnet(8).layer2[0].eval()  # pyright: ignore
    for p in block.parameters():
        nn.init.zeros_(p)
    x = torch.rand(1, 16, 8, 8)
    y = block(x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2]) and not y[:, 16:].any()


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="available: 8, 20, 32, 56, 110"):
        cifar_resnet(18)


def test_networks_of_the_libraries_take_the_classes_and_channels() -> None:
    for name in ("torchvision:resnet18", "torchvision:squeezenet1_1", "timm:resnet10t"):
        model = Classification("cifar10", name).network(RGB).eval()
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    grey = DataInfo(1, 32, 32, ("a", "b"))
    assert Classification("digits", "timm:resnet10t").network(grey).eval()(torch.randn(1, 1, 32, 32)).shape == (1, 2)
    with pytest.raises(RequestError, match="take 3 channels, digits has 1; use timm:"):
        Classification("digits", "torchvision:resnet18").network(grey)
    with pytest.raises(RequestError, match="torchvision has no network 'resnet19'"):
        Classification("cifar10", "torchvision:resnet19").network(RGB)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_networks_give_logits_alone_in_both_modes(name: str) -> None:
    task = Classification("cifar10", f"torchvision:{name}")
    info = DataInfo(3, 80, 80, ("a", "b", "c"))
    model = task.network(info)
    x = torch.randn(2, 3, 80, 80)
    with torch.no_grad():
        assert model.eval()(x).shape == model.train()(x).shape == task.output_shape(x.shape, info) == (2, 3)
    assert not any("aux" in name.lower() for name, _ in model.named_modules())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "torchvision:fcn_resnet50",
            "'fcn_resnet50' is no network that can be trained to classify images .*segmentation",
        ),
        ("torchvision:fasterrcnn_resnet50_fpn", "one of its detection networks"),
        ("torchvision:raft_small", "one of its optical flow networks"),
        ("torchvision:r3d_18", "one of its video networks"),
        ("torchvision:quantized_resnet18", "one of its quantization networks"),
        ("torchvision:ResNet18", "torchvision has no network 'ResNet18' for classification; did you mean 'resnet18'"),
        ("torchvision: resnet18", "no network ' resnet18' for classification; did you mean 'resnet18'"),
        ("timm:resnet1o", "timm has no network 'resnet1o'; did you mean 'resnet"),
        ("timm:ResNet18.a1_in1k", "timm has no network 'ResNet18'; did you mean 'resnet18'"),
        ("timm:resnet18.a9_in1k", "'resnet18' has no weights with the tag 'a9_in1k'; available: a1_in1k, a2_in1k, "),
        ("timm:resnet18.", "'resnet18' has no weights with the tag ''; available: a1_in1k, "),
    ],
)
def test_what_is_no_classifier_or_no_name_is_refused_in_a_sentence(name: str, message: str) -> None:
    task = Classification("cifar10", name)
    task.validate()
    with pytest.raises(RequestError, match=message) as refused:
        task.network(RGB)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["hf_hub:timm/resnet18.a1_in1k", "hf-hub:x/y", "timm:hf_hub:timm/resnet18.a1_in1k", "timm:hf-hub:x/y",
     "timm:local-dir:/tmp/x", "timm:x/y", "https://example.org/x"],
)  # fmt: skip
def test_networks_of_a_hub_are_refused_before_torch_is_loaded(name: str) -> None:
    with pytest.raises(RequestError, match="is not allowed: a network is not fetched from a hub or a file"):
        Classification("cifar10", name).validate()


@pytest.mark.parametrize("name", ["", " ", "timm:", "torchvision:", "Timm:resnet18", "resnet 20", "RESNET20"])
def test_odd_names_are_unknown(name: str) -> None:
    with pytest.raises(RequestError, match=f"unknown model {name!r};.* available: "):
        Classification("cifar10", name).validate()


def test_a_tag_chooses_weights_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def build(name: str, *, pretrained: bool = False) -> nn.Module:
        torch.manual_seed(0)
        task = Classification("cifar10", name, pretrained=pretrained)
        task.validate()
        return task.network(RGB).eval()

    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(build("timm:resnet10t.c3_in1k")(x), build("timm:resnet10t")(x))
    asked = []
    real = timm.create_model

    def offline(name: str, *, pretrained: bool, **options: Any) -> nn.Module:
        asked.append((name, pretrained))
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(libraries, "require_timm_weights", lambda name: None)
    build("timm:resnet10t.c3_in1k", pretrained=True)
    assert asked == [("resnet10t.c3_in1k", True)]


def test_weights_that_cannot_be_had_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    import torchvision

    with pytest.raises(RequestError, match="timm has no pretrained weights for 'coatnet_0_224'"):
        Classification("cifar10", "timm:coatnet_0_224", pretrained=True).network(RGB)

    def unreachable(*arguments: object, **options: object) -> nn.Module:
        raise OSError("no route\n to host")

    monkeypatch.setattr(libraries, "require_timm_weights", lambda name: None)
    monkeypatch.setattr(libraries, "require_torchvision_weights", lambda name: None)
    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr(torchvision.models, "get_model", unreachable)
    for library in ("timm", "torchvision"):
        task = Classification("cifar10", f"{library}:resnet18", pretrained=True)
        message = f"{library} cannot build 'resnet18' with its pretrained weights: no route to host$"
        with pytest.raises(RequestError, match=message):
            task.network(RGB)


def test_pretrained_networks_get_a_new_head(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    asked = []
    real = torchvision.models.get_model

    def offline(name: str, weights: str | None = None, **config: int) -> nn.Module:
        asked.append(weights)
        return real(name, weights=None, **config)

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    monkeypatch.setattr(libraries, "require_torchvision_weights", lambda name: None)
    for name, classes in (("resnet18", 10), ("squeezenet1_1", 10), ("mobilenet_v2", 10)):
        model = Classification("cifar10", f"torchvision:{name}", pretrained=True).network(RGB).eval()
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, classes)
    assert asked == ["DEFAULT"] * 3


def test_the_loss_is_cross_entropy_with_smoothing() -> None:
    task = Classification("digits", "resnet8")
    logits, target = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
    log_z = math.log(math.exp(2) + 2)
    assert float(task.loss(logits, target, Recipe())) == pytest.approx(log_z - 2)
    smoothed = 0.9 * (log_z - 2) + 0.1 * (log_z - 2 / 3)
    assert float(task.loss(logits, target, Recipe(label_smoothing=0.1))) == pytest.approx(smoothed)


def test_distillation_is_the_papers_formula() -> None:
    """(1 − λ)·CE + λ·T²·KL with λ = 0.9 and T = 4, by hand."""
    task = Classification("digits", "resnet8")
    student, teacher, target = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([1])

    def softmax(row: list[float]) -> list[float]:
        total = sum(math.exp(v / 4) for v in row)
        return [math.exp(v / 4) / total for v in row]

    p, q = softmax([2.0, 0.0]), softmax([1.0, 3.0])
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = 0.1 * math.log(1 + math.exp(-2)) + 0.9 * 16 * divergence
    assert float(task.distil(student, teacher, target, Recipe())) == pytest.approx(expected, rel=1e-5)


def test_accuracy_counts_what_is_right() -> None:
    task = Classification("digits", "resnet8")
    data = task.load(None)

    class Always3(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[3].expand(len(x), 10)

    test = data.test()
    labels = torch.cat([y for _, y in test.ordered(64, CPU)])
    figures = task.evaluate(Always3(), test, CPU, Recipe(precision="fp32"))
    assert figures["accuracy"] == pytest.approx(100 * float((labels == 3).float().mean()))
    log_z = math.log(9 + math.e)
    right = float((labels == 3).float().mean())
    assert figures["cross_entropy"] == pytest.approx(log_z - right, rel=1e-5)


def test_the_majority_class_is_the_training_splits() -> None:
    task = Classification("digits", "resnet8")
    data = task.load(None)
    counts = torch.bincount(torch.cat([y for _, y in data.train.ordered(64, CPU)]))
    labels = torch.cat([y for _, y in data.test().ordered(64, CPU)])
    expected = 100 * float((labels == counts.argmax()).float().mean())
    assert task.references(data, data.test()) == {"majority class": {"accuracy": pytest.approx(expected)}}


def test_outcomes_of_samples_give_the_metric() -> None:
    from bench.interface.outcomes import metric, unpacked
    from tasks.segmentation import Segmentation
    from tasks.super_resolution import SuperResolution

    for kind in (Classification, Segmentation, SuperResolution):
        own = kind(**kind.trial)  # pyright: ignore[reportArgumentType]
        data = own.load(None)
        torch.manual_seed(0)
        model = own.network(data.info)
        test = data.test()
        figures, outcomes = own.evaluate_samples(model, test, torch.device("cpu"), own.recipe)
        assert outcomes.shape[0] == len(test)
        assert float(metric(outcomes.kind, unpacked(outcomes))) == pytest.approx(figures[own.metric], rel=1e-6)
        assert own.evaluate(model, test, torch.device("cpu"), own.recipe) == figures
