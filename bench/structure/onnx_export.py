"""ONNX files of pruned networks, checked where they will run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn

from bench.errors import CellError, RequestError
from bench.structure.measure import evaluating
from bench.structure.tensors import tensors_in

TOLERANCE = 1e-3  # of an output's largest value: runtimes order their sums differently


def export_onnx(model: nn.Module, example: torch.Tensor, path: str | os.PathLike[str]) -> Path:
    """Write `model` in eval mode as one ONNX file and compare it with onnxruntime's outputs on `example`.

    The file takes inputs of the shape of `example`. It is moved into place only once it has passed.

    Raises:
        RequestError: the extra `onnx` is not installed.
        CellError: onnxruntime computes something else.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch's exporter writes with)
    except ImportError as error:
        raise RequestError(f"exporting needs the extra `onnx`: pip install prunebench[onnx] ({error})") from None
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, evaluating(model):
        draft = Path(folder) / "model.onnx"
        torch.onnx.export(model, (example,), draft, dynamo=True, external_data=False, verbose=False)
        session = onnxruntime.InferenceSession(draft.read_bytes(), providers=["CPUExecutionProvider"])
        got = session.run(None, {session.get_inputs()[0].name: example.detach().cpu().numpy()})
        expected = [t.cpu().numpy() for t in tensors_in(model(example))]
        for ours, theirs in zip(expected, got, strict=True):
            error = float(np.abs(ours - np.asarray(theirs)).max())
            if not error <= TOLERANCE * float(np.abs(ours).max()):
                raise CellError(f"onnxruntime's output of {target.name} differs by {error:.2e}")
        draft.replace(target)
    return target
