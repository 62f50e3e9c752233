"""Apply a Pruning: a new, physically smaller network; its masked twin; and files to keep it in.

pruning = Pruning(keep={"layer1.0.conv1": keep_mask})      # bool [size]
smaller = prune(model, graph, pruning)                      # the original is untouched
save_pruned("folder", smaller, pruning)
again = load_pruned("folder", build_dense_model())          # no graph and no example needed
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn as nn
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from bench.errors import RequestError
from bench.search.gates import gated
from bench.structure.blocks import ACTIVATIONS, Shortcut
from bench.structure.walk import BATCH_NORMS, CONVS, INSTANCE_NORMS, TRANSPOSED

if TYPE_CHECKING:
    from bench.structure.blocks import Block
    from bench.structure.graph import ChannelGroup, PruningGraph

FORMAT = "prunebench-architecture"
VERSION = 1
_RECIPE = "_pruning_recipe"  # set on the pruned network's instance: what `save_pruned` writes


class ArchitectureError(RequestError):
    """A saved network that cannot be loaded: damaged, altered, or made for another architecture."""


@dataclass(frozen=True)
class Pruning:
    """What to keep: per group a bool mask [size]; groups that are not named stay whole."""

    keep: Mapping[str, torch.Tensor] = field(default_factory=dict)
    drop_blocks: tuple[str, ...] = ()

    @property
    def widths(self) -> dict[str, int]:
        """Kept channels by group."""
        return {name: int(mask.sum()) for name, mask in self.keep.items()}

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold: `{"groups": {name: {"size", "kept"}}, "drop_blocks": [...]}`."""
        groups = {
            name: {"size": mask.numel(), "kept": mask.nonzero().flatten().tolist()} for name, mask in self.keep.items()
        }
        return {"groups": groups, "drop_blocks": list(self.drop_blocks)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pruning:
        """The inverse of `to_dict`.

        Raises:
            ArchitectureError: a field is missing or an index is out of range.
        """
        try:
            keep = {}
            for name, entry in data["groups"].items():
                mask = torch.zeros(int(entry["size"]), dtype=torch.bool)
                mask[_indices(entry["kept"], mask.numel(), name)] = True
                keep[name] = mask
            return cls(keep, tuple(str(block) for block in data["drop_blocks"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ArchitectureError(f"not a pruning: {error!r}") from None


@dataclass(frozen=True)
class Structure:
    """Groups and blocks; a PruningGraph without its costs."""

    groups: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]


# A recipe is the surgery layer by layer: {"layers": {name: {side: {"size": n, "kept": [...]}}},
# "blocks": {name: activation}} with sides "out", "in" and "pass" as in `bench.graph.Member`.
Recipe = dict[str, Any]


def prune(model: nn.Module, graph: PruningGraph, pruning: Pruning) -> nn.Module:
    """A new network without the channels and blocks that `pruning` drops; `model` is untouched.

    Raises:
        ValueError: an unknown group or block, a mask of the wrong size or type, a group without channels, a mask
            that splits a bundle, or gates in place.
    """
    if gated(model):
        raise ValueError("the network still has gates in place: bake() or remove() them first")
    small = apply_recipe(model, recipe_of(graph, pruning))
    getattr(small, _RECIPE)["pruning"] = pruning.to_dict()
    return small


def mask(model: nn.Module, graph: PruningGraph, pruning: Pruning) -> nn.Module:
    """A copy of full size that computes what `prune` would: dropped channels and blocks are zeroed."""
    masked = copy.deepcopy(model)
    zero(masked, graph, pruning)
    return masked


@torch.no_grad()
def zero(model: nn.Module, graph: PruningGraph | Structure, pruning: Pruning) -> None:
    """`mask` in place."""
    modules = dict(model.named_modules())
    for group, kept in _kept_bundles(graph.groups, pruning):
        for member in group.members:
            if member.kind == "in":
                continue
            layer = modules[member.module]
            rows = torch.as_tensor(member.rows[~kept].ravel())
            _zero_rows(layer, rows)
    for block in _blocks(graph, pruning):
        _zero_rows(modules[block.gate], None)


def permute(model: nn.Module, graph: PruningGraph, order: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy with each group's channels relabelled: new channel i is old channel order[i]. Same function.

    Args:
        order: by group name, a permutation of its channels, int64 [size], that moves bundles whole.

    Raises:
        ValueError: an unknown group, or not such a permutation.
    """
    moved = copy.deepcopy(model)
    modules = dict(moved.named_modules())
    indices: dict[tuple[str, str], np.ndarray] = {}
    for name, given in order.items():
        group = graph.group(name)
        perm = given.detach().cpu().numpy()
        if sorted(perm.tolist()) != list(range(group.size)):
            raise ValueError(f"group {name}: the order is not a permutation of its {group.size} channels")
        bundles = perm.reshape(-1, group.bundle)
        if (bundles != bundles[:, :1] // group.bundle * group.bundle + np.arange(group.bundle)).any():
            raise ValueError(f"group {name}: the order splits its bundles of {group.bundle}")
        for member in group.members:
            key = (member.module, member.kind)
            if key not in indices:
                indices[key] = np.arange(_side_size(modules[member.module], member.kind))
            indices[key][member.rows] = member.rows[bundles[:, 0] // group.bundle]
    with torch.no_grad():
        for (name, kind), index in indices.items():
            _take(modules[name], kind, index)
    return moved


# -- the surgery itself ------------------------------------------------------------------------------------


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of the module tree that shares all parameters and buffers with `model`."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(t): t for t in shared})


def apply_recipe(model: nn.Module, recipe: Recipe, *, share: bool = False) -> nn.Module:
    """Slice a copy of `model` layer by layer. `share`: untouched tensors stay shared with `model`."""
    small = skeleton(model)
    modules = dict(small.named_modules())
    with torch.no_grad():
        for name, sides in recipe["layers"].items():
            for kind, side in sides.items():
                _take(modules[name], kind, np.asarray(side["kept"], np.int64))
    for name, activation in recipe["blocks"].items():
        parent, _, child = name.rpartition(".")
        modules[parent]._modules[child] = Shortcut(activation).train(modules[name].training)
    if not share:
        _own(small, model)
        object.__setattr__(small, _RECIPE, {**recipe, "source": describe(model)})
    return small


def describe(model: nn.Module) -> dict[str, Any]:
    """The dense network, as far as a reader and a loader must know it."""
    shapes = {name: list(t.shape) for name, t in model.state_dict().items()}
    digest = hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return {"class": kind, "parameters": sum(p.numel() for p in model.parameters()), "shapes_sha256": digest}


def recipe_of(graph: PruningGraph | Structure, pruning: Pruning) -> Recipe:
    dropped: dict[tuple[str, str], list[np.ndarray]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for group, kept in _kept_bundles(graph.groups, pruning):
        if kept.all():
            continue
        for member in group.members:
            key = (member.module, member.kind)
            dropped.setdefault(key, []).append(member.rows[~kept].ravel())
            sizes[key] = member.of
    layers: dict[str, dict[str, Any]] = {}
    for (name, kind), rows in dropped.items():
        stay = np.ones(sizes[name, kind], bool)
        stay[np.concatenate(rows)] = False
        side = {"size": len(stay), "kept": np.flatnonzero(stay).tolist()}
        layers.setdefault(name, {})[kind] = side
    return {"layers": layers, "blocks": {b.name: b.activation for b in _blocks(graph, pruning)}}


def _kept_bundles(groups: Iterable[ChannelGroup], pruning: Pruning) -> list[tuple[ChannelGroup, np.ndarray]]:
    """(group, bool [bundles]) for each named group, validated."""
    by_name = {group.name: group for group in groups}
    result = []
    for name, keep in pruning.keep.items():
        group = by_name.get(name)
        if group is None:
            raise ValueError(f"unknown group {name!r}; available: {', '.join(by_name)}")
        if keep.dtype != torch.bool or tuple(keep.shape) != (group.size,):
            raise ValueError(
                f"group {name}: keep must be a bool mask of shape [{group.size}], "
                f"not {keep.dtype} of shape {list(keep.shape)}"
            )
        bundles = keep.detach().cpu().numpy().reshape(-1, group.bundle)
        if (bundles != bundles[:, :1]).any():
            raise ValueError(f"group {name}: the mask splits a bundle of {group.bundle} channels")
        if not bundles.any():
            raise ValueError(f"group {name}: at least one of its {group.size} channels must stay")
        result.append((group, bundles[:, 0]))
    return result


def _blocks(graph: PruningGraph | Structure, pruning: Pruning) -> list[Block]:
    known = {block.name: block for block in graph.blocks}
    for name in pruning.drop_blocks:
        if name not in known:
            raise ValueError(f"unknown block {name!r}; available: {', '.join(known) or 'none'}")
    return [known[name] for name in pruning.drop_blocks]


def _side_size(layer: nn.Module, kind: str) -> int:
    if isinstance(layer, nn.Linear):
        return layer.in_features if kind == "in" else layer.out_features
    if isinstance(layer, CONVS):
        return layer.in_channels if kind == "in" else layer.out_channels
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters
    if isinstance(layer, (*BATCH_NORMS, *INSTANCE_NORMS)):
        return layer.num_features
    raise TypeError(f"no channels to take from a {type(layer).__name__}")


def _select(owner: nn.Module, name: str, dim: int, index: np.ndarray) -> None:
    old = getattr(owner, name, None)
    if old is None:
        return
    new = old.detach().index_select(dim, torch.as_tensor(index, device=old.device))
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(owner, name, new)


def _take(layer: nn.Module, kind: str, kept: np.ndarray) -> None:
    """Keep the rows (out, pass) or columns (in) `kept` of one layer, in that order."""
    n = len(kept)
    if isinstance(layer, nn.Linear):
        _select(layer, "weight", 1 if kind == "in" else 0, kept)
        if kind == "in":
            layer.in_features = n
        else:
            _select(layer, "bias", 0, kept)
            layer.out_features = n
    elif isinstance(layer, CONVS):
        transposed = isinstance(layer, TRANSPOSED)
        if kind == "in":
            per_group = layer.in_channels // layer.groups
            # Every group keeps the same offsets: those of the first group say it for all.
            _select(layer, "weight", *((0, kept) if transposed else (1, kept[kept < per_group])))
            layer.in_channels = n
            return
        if kind == "pass":  # filters of their own for every input channel
            multiplier = layer.out_channels // layer.groups
            _select(layer, "weight", 0, kept[::multiplier] // multiplier if transposed else kept)
            layer.in_channels = layer.groups = n // multiplier
        else:
            per_group = layer.out_channels // layer.groups
            _select(layer, "weight", *((1, kept[kept < per_group]) if transposed else (0, kept)))
        _select(layer, "bias", 0, kept)
        layer.out_channels = n
    else:
        size = _side_size(layer, kind)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select(layer, name, 0, kept)
        if isinstance(layer, nn.GroupNorm):
            layer.num_groups = n // (size // layer.num_groups)
            layer.num_channels = n
        elif isinstance(layer, nn.PReLU):
            layer.num_parameters = n
        elif isinstance(layer, (*BATCH_NORMS, *INSTANCE_NORMS)):
            layer.num_features = n


@torch.no_grad()
def _zero_rows(layer: nn.Module, rows: torch.Tensor | None) -> None:
    """Make the output channels `rows` (None: all) of a layer zero, whatever comes in."""
    if isinstance(layer, nn.PReLU):
        return
    where: Any = slice(None) if rows is None else rows
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if isinstance(layer, TRANSPOSED):
        assert weight is not None
        per_group = layer.out_channels // layer.groups
        grouped = weight.view(layer.groups, -1, *weight.shape[1:])
        out = torch.arange(layer.out_channels)[where]
        grouped[out // per_group, :, out % per_group] = 0
    elif weight is not None:
        weight[where] = 0
    elif isinstance(layer, BATCH_NORMS) and layer.running_mean is not None:
        layer.running_mean[where] = 0  # no affine: a zero comes in and must come out
    if bias is not None:
        bias[where] = 0


def _own(small: nn.Module, model: nn.Module) -> None:
    """Give `small` copies of the tensors that it still shares with `model`; ties within it stay."""
    originals = {id(t) for t in (*model.parameters(), *model.buffers())}
    copies: dict[int, torch.Tensor] = {}
    for module in small.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None and id(tensor) in originals:
                    if id(tensor) not in copies:
                        copies[id(tensor)] = copy.deepcopy(tensor.detach())
                        if isinstance(tensor, nn.Parameter):
                            copies[id(tensor)] = nn.Parameter(copies[id(tensor)], tensor.requires_grad)
                    store[name] = copies[id(tensor)]  # pyright: ignore[reportArgumentType]


# -- files -------------------------------------------------------------------------------------------------


def save_pruned(directory: str | os.PathLike[str], smaller: nn.Module, pruning: Pruning) -> Path:
    """Write `model.safetensors` and `architecture.json` into `directory`, each atomically; returns it.

    Args:
        smaller: a network that `prune` or `load_pruned` made, or a deep copy of one, with whatever weights.
        pruning: what it was made with; written for readers and checked against the network.

    Raises:
        ValueError: `smaller` was not made by `prune`, or not with `pruning`.
    """
    recipe = getattr(smaller, _RECIPE, None)
    if recipe is None:
        raise ValueError("save_pruned takes a network made by prune(); this one was not")
    if pruning.to_dict() != recipe["pruning"]:
        raise ValueError("the pruning does not belong to this network: it was made with another one")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in smaller.state_dict().items()}
    weights = save_tensors(tensors)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "source": recipe["source"],
        **pruning.to_dict(),
        "layers": recipe["layers"],
        "blocks": recipe["blocks"],
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
    source = describe(model)
    if document["source"]["shapes_sha256"] != source["shapes_sha256"]:
        raise ArchitectureError(
            f"{path}: made from a {document['source']['class']} with {document['source']['parameters']} "
            f"parameters of other shapes than this {source['class']} with {source['parameters']}"
        )
    _check_recipe(document, model, path)
    small = apply_recipe(model, {"layers": document["layers"], "blocks": document["blocks"]})
    getattr(small, _RECIPE)["pruning"] = {key: document[key] for key in ("groups", "drop_blocks")}
    try:
        small.load_state_dict(load_tensors(weights))
    except (RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()
        raise ArchitectureError(f"{folder}: weights do not fit the architecture: {first[-1].strip()}") from None
    return small


def read_pruning(directory: str | os.PathLike[str]) -> Pruning:
    """The Pruning that a saved network was made with."""
    return Pruning.from_dict(json.loads((Path(directory) / "architecture.json").read_bytes()))


def _check_recipe(document: dict[str, Any], model: nn.Module, path: Path) -> None:
    modules = dict(model.named_modules())
    try:
        for name, sides in document["layers"].items():
            for kind, side in sides.items():
                layer = modules.get(name)
                if layer is None or kind not in ("out", "in", "pass"):
                    raise ArchitectureError(f"{path}: the network has no layer {name!r} with a side {kind!r}")
                if _side_size(layer, kind) != side["size"]:  # TypeError: a layer without channels
                    raise ArchitectureError(f"{path}: layer {name} does not have {side['size']} channels")
                _indices(side["kept"], side["size"], name)
        for name, activation in document["blocks"].items():
            if not name or name not in modules or activation not in ACTIVATIONS:
                raise ArchitectureError(f"{path}: no block {name!r} to replace by {activation!r}")
    except (KeyError, TypeError, AttributeError) as error:
        raise ArchitectureError(f"{path}: malformed ({error!r})") from None


def _indices(kept: Any, size: int, name: str) -> list[int]:
    good = isinstance(kept, list) and all(isinstance(i, int) for i in kept)
    if not good or not kept or kept[0] < 0 or kept[-1] >= size or sorted(set(kept)) != kept:
        raise ArchitectureError(f"{name}: kept channels must be ascending, distinct and below {size}")
    return kept


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
    for i, line in enumerate(lists):
        text = text.replace(f'"@{i}@"', line)
    return text


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
