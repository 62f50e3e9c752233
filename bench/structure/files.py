"""Pruned networks in files: weights as safetensors, what was cut as JSON.

save_pruned("folder", smaller)
again = load_pruned("folder", build_dense_model())          # no graph and no example needed
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from bench.errors import ArchitectureError
from bench.structure.groups import Pruning, checked_indices
from bench.structure.layers import require_rule
from bench.structure.module_numbers import read
from bench.structure.shortcut import ACTIVATIONS
from bench.structure.state import load_state, tensors_of
from bench.structure.surgery import SideCut, SurgeryPlan, carry_out, network_facts, surgery_of

FORMAT = "prunebench-architecture"
VERSION = 1


def save_pruned(directory: str | os.PathLike[str], smaller: nn.Module, pruning: Pruning | None = None) -> Path:
    """Write `model.safetensors` and `architecture.json` into `directory`, each atomically; returns it.

    Args:
        smaller: a network that `prune` or `load_pruned` made, or a deep copy of one, with whatever weights.
        pruning: what it was made with, which the network is checked against; None: as the network itself says.

    Raises:
        ValueError: `smaller` was not made by `prune`, or not with `pruning`.
    """
    surgery = surgery_of(smaller)
    if surgery is None:
        raise ValueError("save_pruned takes a network made by prune(); this one was not")
    if pruning is not None and pruning.to_dict() != surgery.pruning:
        raise ValueError("the pruning does not belong to this network: it was made with another one")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors_of(smaller).items()}
    weights = save_tensors(tensors)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "source": surgery.dense,
        **surgery.pruning,
        "layers": {
            name: {kind: vars(side) for kind, side in sides.items()} for name, sides in surgery.plan.layers.items()
        },
        "blocks": surgery.plan.blocks,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    document["sha256"] = _digest(document)
    _write(folder / "model.safetensors", weights)
    _write(folder / "architecture.json", (_readable(document) + "\n").encode())
    return folder


def load_pruned(directory: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """The pruned network of `directory`, built from `model`, the dense architecture with any weights.

    `model` is untouched. Nothing is unpickled.

    Raises:
        ArchitectureError: a file is missing, damaged or altered, or belongs to another architecture.
    """
    folder = Path(directory)
    path = folder / "architecture.json"
    document, weights = _read(folder, path)
    facts = network_facts(model)
    if document["source"]["shapes_sha256"] != facts["shapes_sha256"]:
        raise ArchitectureError(
            f"{path}: made from a {document['source']['class']} with {document['source']['parameters']} "
            f"parameters of other shapes than this {facts['class']} with {facts['parameters']}"
        )
    small = carry_out(model, _checked_plan(document, model, path), Pruning.from_dict(document))
    try:
        load_state(small, load_tensors(weights))
    except (RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()
        raise ArchitectureError(f"{folder}: weights do not fit the architecture: {first[-1].strip()}") from None
    return small


def read_pruning(directory: str | os.PathLike[str]) -> Pruning:
    """The Pruning that a saved network was made with."""
    return Pruning.from_dict(json.loads((Path(directory) / "architecture.json").read_bytes()))


def _read(folder: Path, path: Path) -> tuple[dict[str, Any], bytes]:
    """The document and the weights of a folder, their checksums compared."""
    try:
        document = json.loads(path.read_bytes())
        weights = (folder / "model.safetensors").read_bytes()
    except OSError as error:
        raise ArchitectureError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise ArchitectureError(f"{path}: not JSON ({error})") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArchitectureError(f"{path}: not a {FORMAT} file")
    if document.get("version") != VERSION:
        raise ArchitectureError(f"{path}: version {document.get('version')!r}; this release reads {VERSION}")
    if document.get("sha256") != _digest(document):
        raise ArchitectureError(f"{path}: its content does not match its checksum; it was altered")
    if document.get("weights_sha256") != hashlib.sha256(weights).hexdigest():
        raise ArchitectureError(f"{folder / 'model.safetensors'}: not the weights that {path.name} describes")
    missing = {"source", "groups", "drop_blocks", "layers", "blocks"} - document.keys()
    if missing:
        raise ArchitectureError(f"{path}: lacks {', '.join(sorted(missing))}")
    return document, weights


def _checked_plan(document: Mapping[str, Any], model: nn.Module, path: Path) -> SurgeryPlan:
    """The plan that a document holds, if it fits `model`."""
    modules = dict(model.named_modules())
    plan = SurgeryPlan({}, {})
    try:
        for name, sides in document["layers"].items():
            for kind, side in sides.items():
                axis = side.get("axis", 0)
                if _size(model, modules, name, kind, axis, path) != side["size"]:
                    raise ArchitectureError(f"{path}: layer {name} does not have {side['size']} channels")
                cut = SideCut(side["size"], checked_indices(side["kept"], side["size"], name), axis)
                plan.layers.setdefault(name, {})[kind] = cut
        for name, activation in document["blocks"].items():
            if not name or name not in modules or activation not in ACTIVATIONS:
                raise ArchitectureError(f"{path}: no block {name!r} to replace by {activation!r}")
            plan.blocks[name] = activation
    except (KeyError, TypeError, AttributeError) as error:
        raise ArchitectureError(f"{path}: malformed ({error!r})") from None
    return plan


def _size(model: nn.Module, modules: Mapping[str, nn.Module], name: str, kind: Any, axis: Any, path: Path) -> int:
    """Channels on one side of a layer, or along one dimension of a tensor."""
    if kind == "tensor":
        tensor = dict((*model.named_parameters(), *model.named_buffers())).get(name)
        if tensor is not None and isinstance(axis, int) and 0 <= axis < tensor.ndim:
            return tensor.shape[axis]
    elif kind == "count":
        number = read(model, name)
        if number is not None:
            return number
    elif name in modules and kind in ("out", "in", "pass"):
        return require_rule(modules[name]).size(modules[name], kind)  # TypeError: a layer without channels
    raise ArchitectureError(f"{path}: the network has no layer {name!r} with a side {kind!r}")


def _digest(document: dict[str, Any]) -> str:
    content = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _readable(document: dict[str, Any]) -> str:
    """Indented JSON with every list of numbers on one line."""
    lists: list[str] = []

    def shorten(value: Any) -> Any:
        if isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            lists.append(json.dumps(value))
            return f"@{len(lists) - 1}@"
        return {k: shorten(v) for k, v in value.items()} if isinstance(value, dict) else value

    text = json.dumps(shorten(document), indent=1)
    return re.sub('"@([0-9]+)@"', lambda found: lists[int(found[1])], text)


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
