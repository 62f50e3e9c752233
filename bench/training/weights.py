"""Weights that somebody trained elsewhere: the files that people have, brought to a network's own names.

A file holds a network's state, plainly or inside what a training script saved beside it. Names may begin with what
wrapped the network there: `module.` (DataParallel), `_orig_mod.` (torch.compile), `model.` or any other attribute of a
Lightning module. Nothing is unpickled: `.safetensors`, or what `torch.load(weights_only=True)` reads.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import RequestError, reason_of
from bench.structure.state import load_state, tensors_of

WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema",
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "params_ema", "params", "weights",
)  # fmt: skip
"""Keys below which training scripts keep a network's state, the averaged weights first, as timm takes them."""
_BYSTANDERS = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")
"""Last parts of names that files lack or have without a change of what the network computes: counters of BatchNorm, of
profilers and of averages."""
SHOWN = 4
"""Names that a message lists."""


def load_weights(model: nn.Module, path: Path, sha256: str | None = None) -> list[str]:
    """Give `model` the weights of a file, in place; what a reader of the result should know of how they were read.

    Args:
        sha256: of the file as it must be.

    Raises:
        RequestError: the file is missing, changed, or of another kind; or it does not fit, with the names and shapes.
    """
    content = _bytes(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise RequestError(f"weights {path} changed since the suite was read; run the suite again")
    found, wrapper = _state(_read(path), path)
    tensors = _own_names(found, model, path)
    places = _names_of_each(model)
    _require_fit(tensors, model, places, path)
    # Of a tensor that has several names, a file may have any one.
    first = {name: next((n for n in names if n in tensors), "") for name, names in places.items()}
    load_state(model, {name: tensors.get(first[name], own) for name, own in tensors_of(model).items()})
    inside = f" (its {wrapper})" if wrapper else ""
    return [f"the dense network starts from the weights of {path.name}{inside}"]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"weights {path} cannot be read: {error.strerror}") from None


def _read(path: Path) -> Any:
    """What the file holds, on the CPU."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise RequestError(f"weights {path} are no readable safetensors file: {reason_of(error)}") from None
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes that are no checkpoint lead to
        kind = re.search(r"GLOBAL ([\w.]+)", str(error))
        if kind:
            raise RequestError(
                f"weights {path} hold Python objects ({kind[1]}), which are not loaded since loading runs code; where "
                "they were made, save tensors alone: torch.save(model.state_dict(), file)"
            ) from None
        raise RequestError(f"weights {path} are no file of torch.save or of safetensors: {reason_of(error)}") from None


def _harmless() -> list[Any]:
    """Types that training scripts save beside weights and that run nothing when they are read."""
    import numpy as np

    scalars = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)]
    scalar: Any = np.float64(0).__reduce__()[0]
    names = [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    return [argparse.Namespace, np.dtype, *scalars, *names]


def _state(content: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a network among what a file holds, and the key that they were found below, "" for none."""
    found, wrapper = content, ""
    for _ in range(3):  # {"state_dict": {"model": …}} has been seen
        if not isinstance(found, Mapping):
            break
        key = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping) and found[key]), None)
        if key is None:
            break
        found, wrapper = found[key], f"{wrapper}.{key}".removeprefix(".")
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        keys = f"; it has {', '.join(map(str, list(found)[:SHOWN]))}" if isinstance(found, Mapping) and found else ""
        raise RequestError(
            f"weights {path} hold no network's tensors, neither plainly nor below one of {', '.join(WRAPPERS)}{keys}"
        )
    return tensors, wrapper


def _own_names(found: Mapping[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The tensors by the network's own names: without what all of those have before them in the file.

    Raises:
        RequestError: several prefixes fit, and their weights differ.
    """
    own = [name for name in tensors_of(model) if not _bystander(name)]
    prefixes = Counter(key[: len(key) - len(name)] for name in own for key in found if _ends_with(key, name))
    # The plain names first: a network that has a `module.` of its own has it in its own names as well.
    best = max(prefixes.values(), default=0)
    fitting = sorted((prefix for prefix, count in prefixes.items() if count == best), key=len)
    if not fitting:
        return dict(found)
    if len(fitting) > 1 and "" not in fitting and best == len(own):
        raise RequestError(
            f"weights {path} hold several networks that fit: {', '.join(repr(p) for p in fitting[:SHOWN])}; keep one"
        )
    prefix = fitting[0]
    return {key[len(prefix) :]: value for key, value in found.items() if key.startswith(prefix)}


def _ends_with(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}")


def _bystander(name: str) -> bool:
    return name.rpartition(".")[2] in _BYSTANDERS


def _require_fit(tensors: Mapping[str, Tensor], model: nn.Module, places: Mapping[str, list[str]], path: Path) -> None:
    """Refuse names and shapes that are not the network's, and numbers that are not finite."""
    own = tensors_of(model)
    missing = [n for n in own if not any(other in tensors for other in places[n]) and not _bystander(n)]
    extra = [n for n in tensors if n not in own and not _bystander(n)]
    other = [
        f"{n} is {_shape(tensors[n])} in the file and {_shape(own[n])} in the network"
        for n in own
        if n in tensors and tensors[n].shape != own[n].shape and not _bystander(n)
    ]
    problems = [_listed("the file lacks", missing), _listed("the network has no", extra), _listed("", other)]
    if any(problems):
        raise RequestError(f"weights {path} do not fit the network: {'; '.join(p for p in problems if p)}")
    broken = [n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise RequestError(f"weights {path} hold numbers that are not finite: {', '.join(broken[:SHOWN])}")


def _names_of_each(model: nn.Module) -> dict[str, list[str]]:
    """All names of a tensor, by each of its names, that one first."""
    names: dict[int, list[str]] = {}
    state = {n: v for n, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    for name, value in state.items():
        names.setdefault(id(value), []).append(name)
    return {name: [name, *names[id(value)]] for name, value in state.items()}


def _listed(words: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{words} {', '.join(names[:SHOWN])}{more}".strip()


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"
