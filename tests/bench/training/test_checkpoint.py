"""Damaged checkpoints: set aside, said, and the last good one is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.interface.log import TrainingLog
from bench.training.checkpoint import restore, restore_epoch, save_epoch, save_state


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def of_torch_alone(path: Path) -> None:
    torch.save({"epoch": 5}, path)


def no_checkpoint(path: Path) -> None:
    path.write_text("hello")


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def of_another_job(path: Path) -> None:
    other = path.parent / "another job" / path.name
    save_epoch(other, parts(9), TrainingLog(), "dense", 9)
    path.write_bytes(other.read_bytes())


def of_another_phase(path: Path) -> None:
    other = path.with_name("other.pt")
    save_epoch(other, parts(9), TrainingLog(), "dense", 9)
    path.write_bytes(other.read_bytes())


DAMAGES = [of_another_job, of_another_phase, truncate, empty, flip_a_bit, of_torch_alone, no_checkpoint, a_folder]


def parts(seed: int) -> dict[str, nn.Linear]:
    torch.manual_seed(seed)
    return {"model": nn.Linear(8, 8)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path, first, second = tmp_path / "train.pt", parts(1), parts(2)
    log = TrainingLog(rows=[{"phase": "dense", "epoch": 1}])
    save_epoch(path, first, log, "dense", 1)
    log.add_epoch({"phase": "dense", "epoch": 2})
    save_epoch(path, second, log, "dense", 2)
    damage(path)
    resumed, found = parts(3), TrainingLog()
    assert restore_epoch(path, resumed, found, "dense") == 1
    assert torch.equal(resumed["model"].weight, first["model"].weight)
    assert [row["epoch"] for row in found.rows] == [1]
    (note,) = found.notes
    assert note.startswith("checkpoint train.pt was set aside: ") and note.endswith("what it held was computed again")
    assert (tmp_path / "train.pt.damaged").exists() and not path.exists()
    # Training goes on from there, and the next checkpoint is read as if nothing had been.
    save_epoch(path, second, found, "dense", 2)
    assert restore_epoch(path, resumed, TrainingLog(), "dense") == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_good_checkpoint_the_phase_starts_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path, log = tmp_path / "search.pt", TrainingLog()
    save_state(path, {"epoch": 1})
    for _ in range(2):  # a second one takes the place of what was set aside before
        damage(path)
        assert restore(path, dict, log) is None
        save_state(path, {"epoch": 1})
    assert len(log.notes) == 1


def test_a_state_that_does_not_fit_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    path, log = tmp_path / "train.pt", TrainingLog()
    save_epoch(path, {"model": nn.Linear(8, 9)}, log, "dense", 7)
    mine = parts(3)
    before = mine["model"].weight.clone()
    assert restore_epoch(path, mine, log, "dense") == 0
    assert torch.equal(mine["model"].weight, before)
    assert "it holds the state of something else" in log.notes[0]


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # pyright: ignore[reportReturnType]

    path, log = tmp_path / "found.pt", TrainingLog()
    save_state(path, {"x": Evil()})
    assert restore(path, dict, log) is None
    assert not (tmp_path / "ran").exists()
    assert "torch cannot read it (UnpicklingError)" in log.notes[0]


def test_folders_in_the_way_of_a_checkpoint_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "train.pt"
    for name in ("train.pt", "train.pt.partial", "train.pt.previous"):
        (tmp_path / name / "inside").mkdir(parents=True)
    for epoch in (1, 2):
        save_state(path, {"epoch": epoch})
    assert restore(path, dict) == {"epoch": 2}


def test_a_write_that_was_cut_off_between_its_two_renames_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "train.pt"
    save_state(path, {"epoch": 1})
    path.rename(tmp_path / "train.pt.previous")
    (tmp_path / "train.pt.partial").write_bytes(b"half")
    assert restore(path, lambda state: state["epoch"]) == 1
