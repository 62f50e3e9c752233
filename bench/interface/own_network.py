"""A network of the user's own: `path/to/net.py:make_net`, or `package.module:name`. Imports no torch itself.

What is named is a class or a function that is called with the suite's `model_args` and returns the network. A file is
imported as a module of a name that nothing else has, so that a `utils.py` of the user's stands in nobody's way. Its
source is part of a cell's identity: of a file its own bytes, of a module those of all modules of its package that it
imports as well.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.errors import RequestError, choices, did_you_mean, message_of
from bench.interface.cell import Given
from bench.interface.module_source import package_digest, spec_of

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torchvision", "timm", "smp")
"""What stands before a colon and names a library's networks."""
FORMS = "path/to/net.py:make_net or package.module:name"


def is_own(model: str) -> bool:
    """Whether a model's name is that of a file or of a module that can be imported."""
    place, colon, name = model.rpartition(":")
    if not colon or not name.isidentifier() or place in LIBRARIES:
        return False
    if place.endswith(".py"):
        return True
    return re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", place) is not None and ("." in place or spec_of(place) is not None)


def short_name(model: str) -> str:
    """The name in tables: of a file its own name, without the folders above it."""
    place, _, name = model.rpartition(":")
    return f"{Path(place).name}:{name}" if place.endswith(".py") else model


def source_of(model: str) -> Given:
    """Where the network's source is, and what it holds.

    Raises:
        RequestError: there is no such file or module.
    """
    place, _, name = model.rpartition(":")
    if place.endswith(".py"):
        path = Path(place).expanduser().absolute()
        return Given(path=f"{path}:{name}", sha256=hashlib.sha256(_read(path, model)).hexdigest())
    digest = package_digest(place)
    if digest is None:
        raise _no_module(place, model)
    return Given(path=model, sha256=digest)


def require_name(model: str) -> None:
    """Refuse a file alone, without the name of what builds the network in it."""
    if model.endswith(".py"):
        raise RequestError(f"model {model!r} is a file; name a function or class in it that builds it: {model}:NAME")


def require_own(model: str, args: Mapping[str, Any] | None) -> None:
    """Refuse an own network whose source is not there; nothing is imported.

    Raises:
        RequestError: there is no such file or module, or an argument's name cannot be one.
    """
    place = model.rpartition(":")[0]
    if place.endswith(".py"):
        _read(Path(place).expanduser().absolute(), model)
    elif spec_of(place) is None:
        raise _no_module(place, model)
    odd = next((key for key in args or {} if not key.isidentifier()), None)
    if odd is not None:
        raise RequestError(f"model_args holds {odd!r}, which cannot be the name of an argument")


def build_own(model: str, args: Mapping[str, Any] | None) -> nn.Module:
    """Call what `model` names with the arguments `args`; the network that it returns.

    Raises:
        RequestError: it cannot be imported, is not there, does not take the arguments, or returns something else.
    """
    from torch import nn

    place, _, name = model.rpartition(":")
    module = _imported(place, model)
    if not hasattr(module, name):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise RequestError(f"{place} has no {name!r}{did_you_mean(name, names)}")
    make = getattr(module, name)
    if isinstance(make, nn.Module) or not callable(make):
        raise RequestError(f"{model} is a {type(make).__name__}; name a class or a function that builds the network")
    try:
        network = make(**(args or {}))
    except RequestError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:  # whatever the user's code raises
        if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next is None:
            _require_arguments(make, args or {}, f"{name} of {place}")  # the call itself failed, nothing inside it
        given = ", ".join(f"{key}={value!r}" for key, value in (args or {}).items())
        raise RequestError(f"{name}({given}) of {place} raises {type(error).__name__}: {message_of(error)}") from error
    if not isinstance(network, nn.Module):
        raise RequestError(f"{name} of {place} returns a {type(network).__name__}, not a torch.nn.Module")
    return network


def _require_arguments(make: Callable[..., Any], args: Mapping[str, Any], what: str) -> None:
    """Refuse arguments that are missing or that there is no place for, by their names."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # what is written in C need not have one
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in named if p.default is p.empty and p.name not in args]
    names = [p.name for p in named]
    odd = [] if any(p.kind is p.VAR_KEYWORD for p in parameters) else [key for key in args if key not in names]
    takes = f"it takes {', '.join(names)}" if names else "it takes none"
    if missing:
        table = ", ".join(f"{name} = …" for name in missing)
        beside = f" and has no {', '.join(odd)}" * bool(odd)
        raise RequestError(
            f"{what} needs {' and '.join(missing)}{beside}: give the workload model_args = {{ {table} }}; {takes}"
        )
    if odd:
        raise RequestError(f"{what} has no argument {odd[0]!r}, which model_args gives{choices(odd[0], names)}")


def _read(path: Path, model: str) -> bytes:
    if not path.exists():
        raise RequestError(f"model {model!r}: there is no file {path}; give {FORMS}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"model {model!r}: {path} cannot be read: {error.strerror}") from None


def _no_module(place: str, model: str) -> RequestError:
    return RequestError(
        f"model {model!r}: there is no module {place}; install its package, or put the folder that holds it on "
        "PYTHONPATH"
    )


def _imported(place: str, model: str) -> ModuleType:
    """The module of a file or of a dotted name."""
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place).expanduser().absolute()
        own = f"prunebench_own_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}_{source_of(model).sha256[:16]}"
        if own not in sys.modules:
            _execute(own, path)
        return sys.modules[own]
    except RequestError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:  # whatever the user's code raises
        hint = _neighbour(error, Path(place)) if place.endswith(".py") else ""
        raise RequestError(f"{place} cannot be imported: {type(error).__name__}: {message_of(error)}{hint}") from error


def _execute(name: str, path: Path) -> None:
    """Import a file as the module `name`."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # copies of its classes' objects look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _neighbour(error: BaseException, path: Path) -> str:
    """What to do where a file imports one that lies beside it."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    beside = path.parent / missing if missing else path.parent / "…"
    if "relative import" not in str(error) and not (beside.is_dir() or beside.with_suffix(".py").is_file()):
        return ""
    return (
        "; a file is imported alone: to use others beside it, write package.module:name, with the folder that holds "
        "the package on PYTHONPATH or the package installed"
    )
