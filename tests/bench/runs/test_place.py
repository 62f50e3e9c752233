"""Which GPU is whose, with counts of GPUs that are only pretended."""

from __future__ import annotations

import socket

import pytest

from bench.errors import RequestError
from bench.runs.job import Settings
from bench.runs.place import VISIBLE, device_of_rank, is_plain, require_devices, shared_out, where
from bench.runs.resources import Resources

HOST = socket.gethostname()


def settings(device: str = "auto", devices_per_cell: int = 1) -> Settings:
    return Settings(
        suite="s", tracking_uri="sqlite:///x.db", device=device, resources=Resources(devices_per_cell=devices_per_cell)
    )


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """So many GPUs, which CUDA_VISIBLE_DEVICES does or does not name."""
    count, visible = getattr(request, "param", (0, None))
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.delenv(VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)


@pytest.mark.parametrize("gpus", [(2, None)], indirect=True)
def test_workers_get_gpus_in_turn(gpus: None) -> None:
    assert shared_out(5, settings()) == ["0", "1", "0", "1", "0"]
    assert shared_out(1, settings("cuda")) == ["0"]
    assert shared_out(3, settings(devices_per_cell=2)) == ["0,1"] * 3
    assert shared_out(2, settings("cpu")) == shared_out(2, settings("cuda:1")) == []


@pytest.mark.parametrize("gpus", [(5, "3, 1,GPU-a,6,7")], indirect=True)
def test_gpus_keep_the_names_by_which_they_are_visible(gpus: None) -> None:
    assert shared_out(2, settings(devices_per_cell=2)) == ["3,1", "GPU-a,6"]
    assert where(settings("cuda:2")) == f"cuda:GPU-a of {HOST}"
    assert where(settings("auto", 2)) == f"cuda:3,1 of {HOST}"
    assert not is_plain(where(settings("cuda:2")))


@pytest.mark.parametrize("gpus", [(0, ""), (0, None)], indirect=True)
def test_without_gpus_all_is_computed_on_the_cpu(gpus: None) -> None:
    assert shared_out(2, settings()) == []
    assert where(settings()) == f"cpu of {HOST}" and is_plain(where(settings()))
    assert where(settings(devices_per_cell=3)) == f"cpu ×3 of {HOST}"
    assert where(settings("cuda")) == HOST
    assert device_of_rank(1, settings(devices_per_cell=2)) == "cpu"
    require_devices(settings(devices_per_cell=2))
    with pytest.raises(RequestError, match="devices_per_cell = 2 was asked for, but torch sees 0 CUDA devices"):
        require_devices(settings("cuda", 2))


@pytest.mark.parametrize("gpus", [(3, None)], indirect=True)
def test_a_cell_gets_no_more_devices_than_there_are(gpus: None) -> None:
    require_devices(settings("cuda", 3))
    require_devices(settings("cpu", 4))
    assert [device_of_rank(rank, settings(devices_per_cell=2)) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert device_of_rank(1, settings("cpu", 2)) == "cpu"
    with pytest.raises(RequestError, match="devices_per_cell = 4 was asked for, but torch sees 3 CUDA devices"):
        require_devices(settings("auto", 4))
    with pytest.raises(RequestError, match="does not go with --device mps"):
        require_devices(settings("mps", 2))
