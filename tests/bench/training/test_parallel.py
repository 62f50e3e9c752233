"""Two processes that train one network together end where one process with the same batches does, but for rounding."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.interface import registry
from bench.runs.executors.server import serving
from tests.bench.training.side_by_side import METHODS, Counting, one_of_two, results
from tests.tasks.streams import class_folders

CASES = (
    "dense",
    "noise",
    "distilled",
    "loss over the batch",
    *METHODS,
    "dcss, blind",
    "gdp, blind",
    "streamed",
    "resumed",
)


Found = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, list[Found]]:
    """What one process came to, and what each of two came to together."""
    root = tmp_path_factory.mktemp("data")
    class_folders(root / "pictures", {"train": 20, "val": 4})
    file = tmp_path_factory.mktemp("two") / "found"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = serving()
    processes = [context.Process(target=one_of_two, args=(rank, port, file, root)) for rank in range(2)]
    for process in processes:
        process.start()
    alone = results(root) | {"read": torch.tensor(Counting.read)}
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    return alone, [load_file(Path(file.with_suffix(f".{rank}"))) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_does(both: tuple[Found, list[Found]], case: str) -> None:
    alone, (first, second) = both
    names = [name for name in alone if name.startswith(case + "/")]
    assert len(names) > 20
    for name in names:
        assert torch.equal(first[name], second[name]), name
        # Some searches hold their architecture in float32, and DAIS's weights follow it closely.
        rounding = 1e-5 if alone[name].dtype == torch.float32 or case == "dais" else 1e-8
        torch.testing.assert_close(first[name], alone[name], rtol=rounding, atol=rounding, msg=f"{name}: {{}}".format)


def test_each_process_reads_its_own_samples_from_files(both: tuple[Found, list[Found]]) -> None:
    alone, each = both
    assert int(alone["read"]) == 2 * 35 + 2 * 15  # two epochs of a dense network, and one of both halves in a search
    assert [int(found["read"]) for found in each] == [2 * 14 + 2 * 6, 2 * 21 + 2 * 9]  # of five samples two and three


def test_a_resumed_run_of_two_processes_ends_where_theirs_does_that_was_not_stopped(
    both: tuple[Found, list[Found]],
) -> None:
    for found in both[1]:
        names = [name.removeprefix("resumed/") for name in found if name.startswith("resumed/")]
        assert len(names) > 20
        assert all(torch.equal(found[f"resumed/{name}"], found[f"dense/{name}"]) for name in names)


def test_every_method_that_searches_is_among_the_cases() -> None:
    known = [registry.make_method(name, {}) for name in registry.method_names()]
    assert {type(method) for method in known if method.searches} == {type(method) for method in METHODS.values()}
