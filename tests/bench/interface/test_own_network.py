"""Networks of the user's own: built from a file or a module, in nobody's way, with their source in their identity."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

from bench.errors import RequestError
from bench.interface.module_source import package_digest
from bench.interface.own_network import build_own, is_own, require_own, short_name, source_of

NET = """
import torch.nn as nn

class Net(nn.Module):
    def __init__(self, width=4, classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))

def make_net(**options):
    return Net(**options)

class Two(Net):
    def __init__(self, width, *, classes):
        super().__init__(width, classes)

def inner():
    return Two()

built = Net()

def number():
    return 3

def broken(width):
    raise KeyError("no such width")
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.mark.parametrize("name", ["make_net", "Net"])
def test_a_function_or_class_of_a_file_builds_the_network(net: Path, name: str) -> None:
    model = build_own(f"{net}:{name}", {"width": 6, "classes": 3})
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 3) and model.conv.out_channels == 6  # pyright: ignore
    assert type(copy.deepcopy(model)) is type(model) is type(build_own(f"{net}:{name}", None))


@pytest.mark.parametrize("name", ["tasks", "json", "torch"])
def test_a_file_stands_in_no_other_modules_way(net: Path, name: str) -> None:
    path, before, searched = net.with_name(f"{name}.py"), sys.modules.get(name), list(sys.path)
    path.write_text(NET)
    build_own(f"{path}:make_net", None)
    assert sys.modules.get(name) is before and sys.path == searched


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("make_nett", None, r"net\.py has no 'make_nett'; did you mean 'make_net'\?"),
        ("built", None, "is a Net; name a class or a function that builds the network"),
        ("number", None, r"number of .*net\.py returns a int, not a torch\.nn\.Module"),
        ("broken", {"width": 3}, r"broken\(width=3\) of .* raises KeyError: no such width"),
        ("Net", {"with": 3}, r"Net of .* has no argument 'with', which model_args gives; did you mean 'width'\?"),
        (
            "Two",
            None,
            r"Two of .*net\.py needs width and classes: give the workload model_args = \{ width = …, classes",
        ),
        (
            "Two",
            {"width": 3},
            r"needs classes: give the workload model_args = \{ classes = … \}; it takes width, classes",
        ),
        ("inner", None, r"inner\(\) of .*net\.py raises TypeError: .*missing 1 required"),
    ],
)
def test_what_builds_no_network_is_refused(net: Path, name: str, args: dict[str, object] | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build_own(f"{net}:{name}", args)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no file /.*/absent\.py; give path/to/net\.py:make_net"):
        require_own(f"{tmp_path}/absent.py:make_net", None)
    with pytest.raises(RequestError, match=r"there is no module no\.such; install its package, or put the folder"):
        source_of("no.such:make_net")
    with pytest.raises(RequestError, match="model_args holds 'a-b'"):
        require_own(f"{__file__}:make_net", {"a-b": 1})


def test_a_file_that_imports_its_neighbour_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "blocks_beside.py").write_text("WIDTH = 4\n")
    for line in ("import blocks_beside", "from .blocks_beside import WIDTH"):
        (tmp_path / "net.py").write_text(f"{line}\n{NET}")
        with pytest.raises(RequestError, match=r"a file is imported alone: .* write package\.module:name"):
            build_own(f"{tmp_path}/net.py:make_net", None)
    (tmp_path / "net.py").write_text(f"import there_is_no_such_module\n{NET}")
    with pytest.raises(RequestError, match=r"No module named 'there_is_no_such_module'$"):
        build_own(f"{tmp_path}/net.py:make_net", None)


def test_names_of_libraries_are_not_ones_own() -> None:
    assert not any(
        map(is_own, ("resnet20", "timm:resnet18", "torchvision:resnet18", "smp:unet/resnet18", "hf_hub:a/b"))
    )
    assert not is_own("torchvison:resnet18")  # there is no such module
    assert all(map(is_own, ("net.py:make", "/a/b c/net.py:make", "torchvision.models:resnet18", "no.such:make")))
    assert short_name("/a/b/net.py:make") == "net.py:make" and short_name("a.b:make") == "a.b:make"


def test_a_files_content_is_its_identity_and_its_place_is_not(net: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "net.py"
    moved.write_text(NET)
    first, second = source_of(f"{net}:make_net"), source_of(f"{moved}:make_net")
    assert first.sha256 == second.sha256 and first.path == f"{net}:make_net" != second.path
    moved.write_text(NET + "# changed\n")
    assert source_of(f"{moved}:make_net").sha256 != first.sha256


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose `nets.small` imports `blocks`, and that fails where it is imported."""
    folder = tmp_path / "own_package_of_a_test"
    (folder / "nets").mkdir(parents=True)
    files = {
        "__init__.py": "raise RuntimeError('imported')\n",
        "blocks.py": "from . import depth\n",
        "depth.py": "N = 1\n",
        "training.py": "EPOCHS = 3\n",
        "nets/__init__.py": "",
        "nets/small.py": "import json\nfrom ..blocks import depth\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_modules_identity_is_all_that_it_imports_of_its_package(package: Path) -> None:
    name = f"{package.name}.nets.small"
    first = package_digest(name)
    assert first is not None and package.name not in sys.modules
    for file, counts in {"training.py": False, "depth.py": True, "blocks.py": True, "__init__.py": True}.items():
        text = (package / file).read_text()
        (package / file).write_text(text + "# changed\n")
        assert (package_digest(name) != first) is counts, file
        (package / file).write_text(text)
    assert package_digest(name) == first and package_digest(f"{package.name}.absent") is None


def test_a_modules_function_builds_the_network() -> None:
    model = build_own("torchvision.models:squeezenet1_1", {"num_classes": 3})
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 3)
