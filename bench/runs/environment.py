"""What a result was made with: recorded beside every cell."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import __version__


@cache
def git_commit() -> str:
    """The project's commit, with `-dirty` where files differ from it; `unknown` outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "bench", "methods", "tasks")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit}-dirty" if dirty else commit


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


@cache
def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def package_version(package: str) -> str:
    """Of an installed package; `absent` where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def environment(device: str, precision: str) -> dict[str, str]:
    """Versions, commit, machine, and how numbers were computed.

    Args:
        device: `cpu`, `mps`, `cuda` or `cuda:N`; of others the processor is named.
    """
    import torch

    packages = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "mlflow", "numpy")
    found = {"prunebench": __version__, "git_commit": git_commit(), "python": platform.python_version()}
    found |= {package: package_version(package) for package in packages}
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["processor"] = processor()
    found["cores"] = str(os.cpu_count())
    found["threads"] = str(torch.get_num_threads())
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    found["device"] = torch.cuda.get_device_name(device) if on_gpu else "mps" if device == "mps" else "cpu"
    found["precision"] = precision
    return found


def environment_tags() -> dict[str, str]:
    """The part of the environment that every MLflow run is tagged with."""
    facts = environment("cpu", "")
    return {f"prunebench.{k}": facts[k] for k in ("prunebench", "git_commit", "python", "torch", "processor")}
