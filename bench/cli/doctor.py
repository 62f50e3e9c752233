"""`prunebench doctor`: what a machine has of all that a run, a report or an export may need."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import typer

from bench import __version__
from bench.cli.lines import print_table
from bench.cli.options import Data, Json, Uri, store_address
from bench.errors import RequestError, reason_of
from bench.interface import registry
from bench.runs.folders import can_be_written
from bench.tracking.address import redacted, scheme, sqlite_path
from bench.tracking.quick_read import read_states

NEEDED = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "torchmetrics",
    "mlflow",
    "pandas",
    "matplotlib",
)
EXTRAS = {
    "onnx": ("onnx", "export writes model.onnx with it"),
    "onnxscript": ("onnx", "export writes model.onnx with it"),
    "onnxruntime": ("onnx", "export runs model.onnx with it before it is kept"),
    "optuna": ("tune", "tune chooses values with it"),
    "ray": ("ray", "--executor ray runs cells on a cluster with it"),
    "submitit": ("slurm", "--executor slurm submits cells with it"),
}
"""Optional package -> the extra that brings it, and what it is needed for."""
LATEX = ("pdflatex", "lualatex", "xelatex", "tectonic")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LEAST_DISK = 2 * 1024**3
"""Bytes below which the disk is called full: a matrix keeps a checkpoint and a network of each cell."""


class Finding(NamedTuple):
    """One thing that was looked for."""

    what: str
    state: str
    """`ok`; `absent`, which only some uses need; or `FAIL`: runs cannot do without it."""
    detail: str


def doctor(data: Data = None, tracking_uri: Uri = None, json_: Json = False) -> None:
    """What this machine has: versions, devices, data sets found, the tracking store, disk, LaTeX and Chromium.

    Exit codes: 0 all that a run needs is there, 1 something of that is not.
    """
    found = list(_findings(data, tracking_uri))
    if json_:
        typer.echo(json.dumps([finding._asdict() for finding in found], indent=2, ensure_ascii=False))
    else:
        print_table(("what", "state", "found"), found)
    if any(finding.state == "FAIL" for finding in found):
        raise typer.Exit(1)


def _findings(data: Path | None, uri: str | None) -> Iterator[Finding]:
    yield Finding("prunebench", "ok", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    for package in NEEDED:
        yield _package(package, "FAIL", "needed; install prunebench again")
    for package, (extra, use) in EXTRAS.items():
        yield _optional(package, extra, use)
    yield from _devices()
    yield from _adapters()
    yield from _data_sets(data)
    yield _store(uri)
    yield _disk()
    yield _program("LaTeX", LATEX, "sets the .tex tables of reports")
    yield _chromium()


def _package(name: str, otherwise: str, why: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, otherwise, f"not installed ({why})")


def _optional(name: str, extra: str, use: str) -> Finding:
    found = _package(name, "absent", f"pip install 'prunebench[{extra}]'")
    return found._replace(detail=f"{found.detail}; {use}")


def _devices() -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    import torch

    from bench.interface.cell import Recipe
    from bench.runs.environment import processor
    from bench.training.device import resolve_precision

    cpu = resolve_precision(Recipe(), torch.device("cpu"))
    yield Finding(
        "processor", "ok", f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"
    )
    yield Finding("bf16 on the processor", "ok" if cpu == "bf16" else "absent", f'precision "auto" computes in {cpu}')
    if not torch.cuda.is_available():
        yield Finding("CUDA", "absent", "torch sees no CUDA device")
    for index in range(torch.cuda.device_count()):
        size = torch.cuda.get_device_properties(index).total_memory / 1024**3
        precision = resolve_precision(Recipe(), torch.device("cuda"))
        name = torch.cuda.get_device_name(index)
        yield Finding(f"CUDA {index}", "ok", f'{name}, {size:.0f} GiB; precision "auto" computes in {precision}')


def _adapters() -> Iterator[Finding]:
    """Adapters of other packages that cannot be loaded."""
    for names, load in ((registry.method_names(), registry.method_class), (registry.task_names(), registry.task_class)):
        for name in names:
            try:
                load(name)
            except RequestError as error:
                yield Finding(f"adapter {name}", "absent", str(error))


def _data_sets(data: Path | None) -> Iterator[Finding]:
    if data is None:
        yield Finding("data folder", "absent", "give --data DIR or set PRUNEBENCH_DATA; the demo needs none")
    elif not data.is_dir():
        yield Finding("data folder", "FAIL", f"{data} does not exist")
        return
    else:
        yield Finding("data folder", "ok", str(data))
    below = [] if data is None else [p for pattern in ("*", "*/*") for p in sorted(data.glob(pattern)) if p.is_dir()]
    for task in registry.task_names():
        try:
            sets = registry.task_class(task).datasets()
        except RequestError:
            continue
        for name, about in sets.items():
            if name.endswith("PATH"):
                continue
            places = [str(place.relative_to(data)) for place in below if data and _is_named(place.name, name)]
            embedded = "embedded" in about or about.startswith("scikit-learn")
            detail = (
                "comes with the packages" if embedded else ", ".join(places) + " (by name; not read)" * bool(places)
            )
            yield Finding(f"data set {name}", "ok" if detail else "absent", detail or "no folder of that name")


def _is_named(folder: str, data_set: str) -> bool:
    """Whether a folder's name holds all words and numbers of a data set's."""

    def words(text: str) -> list[str]:
        return re.findall(r"[a-z]+|\d+", text.lower())

    return set(words(data_set)) <= set(words(folder))


def _store(uri: str | None) -> Finding:
    try:
        address = store_address(uri)
        if scheme(address) == "sqlite" and not sqlite_path(address).exists():
            folder = sqlite_path(address).parent
            state = "ok" if can_be_written(folder) else "FAIL"
            made = "the first run makes it" if state == "ok" else f"and {folder} cannot be written"
            return Finding("tracking store", state, f"{redacted(address)} is not there yet; {made}")
        read_states(address, "")
        return Finding("tracking store", "ok", f"{redacted(address)} answers")
    except RequestError as error:
        return Finding("tracking store", "FAIL", str(error))
    except Exception as error:  # whatever a store's library raises
        return Finding("tracking store", "FAIL", reason_of(error))


def _disk() -> Finding:
    here = Path()
    if not can_be_written(here):
        return Finding("disk", "FAIL", f"the working folder {here.resolve()} cannot be written")
    free = shutil.disk_usage(here).free
    return Finding(
        "disk", "ok" if free >= LEAST_DISK else "FAIL", f"{free / 1024**3:.1f} GiB free in the working folder"
    )


def _program(what: str, names: tuple[str, ...], why: str) -> Finding:
    found = next((name for name in names if shutil.which(name)), None)
    return Finding(what, "ok" if found else "absent", found or f"none of {', '.join(names)} is on the path ({why})")


def _chromium() -> Finding:
    """A browser for the tests of the page: on the path, or playwright's own."""
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    own = sorted(cache.glob("chromium*")) if cache.is_dir() else []
    if own:
        return Finding("Chromium", "ok", f"playwright's {own[-1].name}")
    return _program("Chromium", CHROMIUM, "tests of the report's page")
