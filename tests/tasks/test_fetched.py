"""Pretrained weights without a network: one sentence at once, with the file, where it is and where it goes."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import RequestError
from bench.interface.task import DataInfo
from tasks.classification import Classification
from tasks.models import fetched
from tasks.segmentation import Segmentation

RGB = DataInfo(3, 32, 32, ("a", "b"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No server answers, and nothing is here; the addresses that were asked."""
    from huggingface_hub import constants

    asked: list[str] = []

    def refuse(request: Any, timeout: float) -> None:
        asked.append(request.full_url)
        assert timeout <= 5
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return asked


def test_torchvisions_file_is_named(offline: list[str], tmp_path: Path) -> None:
    task = Classification("cifar10", "torchvision:resnet18", pretrained=True)
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    target = tmp_path / "torch" / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(RequestError) as told:
        task.network(RGB)
    assert str(told.value) == (
        f"torchvision's weights of resnet18 cannot be fetched (no route to host); get {url} on another machine and put "
        f"it to {target}"
    )
    assert offline == [url]
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    fetched.require_torchvision_weights("resnet18")  # it is here: no server is asked
    assert offline == [url]


def test_timms_repository_is_named(offline: list[str], tmp_path: Path) -> None:
    task = Classification("cifar10", "timm:resnet10t.c3_in1k", pretrained=True)
    with pytest.raises(RequestError) as told:
        task.network(RGB)
    for part in (
        "timm's weights of resnet10t.c3_in1k cannot be fetched (no route to host)",
        "model.safetensors of https://huggingface.co/timm/resnet10t.c3_in1k",
        "`hf download timm/resnet10t.c3_in1k`",
        f"copy models--timm--resnet10t.c3_in1k from its ~/.cache/huggingface/hub to {tmp_path / 'hub'}",
    ):
        assert part in str(told.value)
    assert offline == ["https://huggingface.co/timm/resnet10t.c3_in1k"]


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18.a1_in1k"])
def test_an_encoders_repository_is_named(offline: list[str], encoder: str) -> None:
    task = Segmentation("scattered-digits", f"smp:unet/{encoder}", encoder_weights="imagenet")
    with pytest.raises(
        RequestError, match=r"cannot be fetched .* wanted is model\.safetensors of https://huggingface\.co/"
    ):
        task.network(RGB)


def test_an_encoder_without_such_weights_is_refused(offline: list[str]) -> None:
    with pytest.raises(RequestError, match="encoder_weights = 'no' is not allowed for resnet18; available: imagenet"):
        Segmentation("scattered-digits", "smp:unet/resnet18", encoder_weights="no").network(RGB)
    assert offline == []


def test_a_server_that_answers_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from email.message import Message
    from urllib.error import HTTPError

    def forbidden(request: Any, timeout: float) -> None:
        raise HTTPError(request.full_url, 403, "no HEAD here", Message(), None)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", forbidden)
    fetched.require_torchvision_weights("resnet18")
