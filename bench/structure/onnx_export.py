"""Pruned networks for other programs, as torch.export's programs and ONNX files, checked where they will run.

Both take any number of images, and images of other sizes where the network allows that: of any height and width from
`SMALLEST` on, of multiples of 32 pixels (a U-Net, say), or of the example's alone (a network whose last layer
counts pixels).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from bench.errors import CellError, RequestError, reason_of
from bench.structure.measure import evaluating
from bench.structure.tensors import tensors_in

TOLERANCE = 1e-3  # of an output's largest value: runtimes order their sums differently
INPUT = "input"
"""Name of the input of an ONNX file."""
OUTPUT = "output"
"""Name of its output; of several the first, and `output_1` and so on behind it."""
STEPS = (1, 32)
"""Of so many pixels heights and widths may have to be multiples; tried in this order."""
SMALLEST, LARGEST = 64, 16384
"""Height or width in pixels that a program is made for at least and at most; the example's where that is smaller.
torch.export takes a map of one pixel for another case, which networks come to at small sizes."""


@dataclass(frozen=True)
class Portable:
    """A network in eval mode as torch.export traced it."""

    program: torch.export.ExportedProgram
    step: int
    """Heights and widths are multiples of this many pixels; 0 where they are the example's."""
    outputs: int

    @property
    def free(self) -> tuple[str, ...]:
        """The dimensions of the input that may have other sizes than the example's."""
        return ("batch", "height", "width") if self.step else ("batch",)


def portable(model: nn.Module, example: torch.Tensor, *, fixed: bool = False) -> Portable:
    """Trace `model` in eval mode for the most sizes of inputs that it allows.

    Args:
        example: one input batch [1, C, H, W], on the model's device.
        fixed: for images of the example's height and width alone.

    Raises:
        RequestError: torch.export cannot trace the network, or not for batches of other sizes than one.
    """
    failure: Exception = RuntimeError("the traced program computes something else than the network")
    with evaluating(model):
        outputs = len(list(tensors_in(model(example.clone()))))
        for step in (0,) if fixed or example.ndim != 4 else (*STEPS, 0):
            try:
                # A size that the network refuses is found out here, and not by tracing it, which takes seconds.
                expected = [(x, model(x.clone())) for x in trials(step, example)]
                pair = example.repeat(2, *[1] * (example.ndim - 1))
                traced = torch.export.export(model, (pair,), dynamic_shapes=(_dimensions(step, example),))
                program = traced.module()
                if all(_differ(y, [t.cpu().numpy() for t in tensors_in(program(x))]) <= TOLERANCE for x, y in expected):
                    return Portable(traced, step, outputs)
            except Exception as error:  # each release of torch has its own for a size that a network fixes
                failure = error
    raise RequestError(f"torch.export cannot trace the network: {reason_of(failure)}") from failure


def _dimensions(step: int, example: torch.Tensor) -> dict[int, Any]:
    """Which dimensions of the input are free, for torch.export."""
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    for axis, name in ((2, "height"), (3, "width")) if step else ():
        least = min(SMALLEST, example.shape[axis])
        steps = torch.export.Dim(name if step == 1 else f"{name}_{step}", min=least // step, max=LARGEST // step)
        free[axis] = steps if step == 1 else step * steps
    return free


def trials(step: int, example: torch.Tensor) -> Iterator[torch.Tensor]:
    """The example, a batch of three, and where sizes are free a batch of images that are larger and not square.

    Args:
        step: as of `Portable`.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [tuple(example.shape), (3, *example.shape[1:])]
    if step:
        n, channels, height, width = example.shape
        shapes.append((n + 1, channels, height + step, width + 3 * step))
    yield example
    for shape in shapes[1:]:
        yield torch.randn(shape, generator=generator).to(example)


def _differ(expected: object, got: list[Any]) -> float:
    """The largest difference of outputs, as a share of the output's largest value."""
    worst = 0.0
    for ours, theirs in zip(tensors_in(expected), got, strict=True):
        own, other = ours.cpu().numpy(), np.asarray(theirs)
        if own.shape != other.shape:
            return float("inf")
        error = float(np.abs(own - other).max()) / max(float(np.abs(own).max()), 1e-12)
        worst = max(worst, error) if error == error else float("inf")
    return worst


def fitting(found: Portable, model: nn.Module, example: torch.Tensor, write: Callable[[Portable], object]) -> Portable:
    """What `write` wrote: the program, or one for the example's size alone where it cannot be written for others.

    Not every operation on sizes that torch.export traces has its like in a file.

    Raises:
        CellError: neither can be written.
    """
    try:
        write(found)
        return found
    except CellError as error:
        if not found.step:
            raise
        try:
            found = portable(model, example, fixed=True)
        except RequestError:
            raise error from None
    write(found)
    return found


def save_program(found: Portable, path: str | os.PathLike[str]) -> Path:
    """Write a program that `torch.export.load` reads without the network's code; a file that ends in `.pt2`.

    Raises:
        CellError: torch cannot write one of its operations.
    """
    target = Path(path)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder) / target.name
        try:
            torch.export.save(found.program, draft)
        except Exception as error:  # torch has no common one
            raise CellError(f"torch cannot write {target.name}: {reason_of(error)}") from error
        draft.replace(target)
    return target


def export_onnx(
    model: nn.Module, example: torch.Tensor, path: str | os.PathLike[str], found: Portable | None = None
) -> Path:
    """Write `model` in eval mode as one ONNX file and compare onnxruntime's outputs with its own.

    Inputs of the sizes of `trials` are compared; where onnxruntime fails at other sizes than the example's, the file is
    for that one. It is moved into place only once it has passed.

    Args:
        found: what `portable` made of it, if it is there already.

    Raises:
        RequestError: the extra `onnx` is not installed, or the network cannot be traced.
        CellError: onnxruntime computes something else, or nothing.
    """
    fitting(
        found or portable(model, example), model, example, lambda program: write_onnx(model, example, path, program)
    )
    return Path(path)


def write_onnx(model: nn.Module, example: torch.Tensor, path: str | os.PathLike[str], found: Portable) -> None:
    """Write a program as `export_onnx` does, for just the sizes that it was traced for."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch's exporter writes with)
    except ImportError as error:
        raise RequestError(f"exporting needs the extra `onnx`: pip install prunebench[onnx] ({error})") from None
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    names = [OUTPUT, *(f"{OUTPUT}_{number}" for number in range(1, found.outputs))]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, evaluating(model):
        draft = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(
                found.program, (), draft, dynamo=True, external_data=False, verbose=False,
                input_names=[INPUT], output_names=names,
            )  # fmt: skip
            _name_dimensions(draft, found)
            session = onnxruntime.InferenceSession(draft.read_bytes(), providers=["CPUExecutionProvider"])
        except Exception as error:  # torch and onnxruntime have each many
            raise CellError(f"{target.name} cannot be written: {reason_of(error)}") from error
        for x in trials(found.step, example):
            size = "×".join(map(str, x.shape))
            try:
                got = session.run(None, {INPUT: x.detach().cpu().numpy()})
            except Exception as error:
                raise CellError(f"onnxruntime cannot run {target.name} at {size}: {reason_of(error)}") from error
            off = _differ(model(x.clone()), list(got))
            if not off <= TOLERANCE:
                raise CellError(f"onnxruntime's output of {target.name} differs by {off:.1e} for an input of {size}")
        draft.replace(target)


def _name_dimensions(path: Path, found: Portable) -> None:
    """Call the free dimensions of an ONNX file by their names, wherever torch wrote its own."""
    import onnx

    document = onnx.load(path)
    shape = document.graph.input[0].type.tensor_type.shape.dim
    names: dict[str, str] = {}
    for axis, name in zip((0, 2, 3), found.free, strict=False):
        symbol = re.search(r"[A-Za-z_]\w*", shape[axis].dim_param)
        if symbol:
            names[symbol[0]] = name if found.step in (0, 1) or axis == 0 else f"{name}_in_{found.step}s"
    graph = document.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(r"[A-Za-z_]\w*", lambda m: names.get(m[0], m[0]), size.dim_param)
    onnx.save(document, path)
