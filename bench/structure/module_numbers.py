"""Whole numbers that modules keep of their own, which the code may use as bounds: widths, sizes of parts.

A place is named `module:attribute`, and `module:attribute:i` in a list or tuple.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn


class Numbers:
    """The places of whole numbers in modules.

    Args:
        modules: those of a network that are no known layers, by name.
        without: places that are not to be given.
    """

    def __init__(self, modules: Mapping[str, nn.Module], without: Iterable[str] = ()) -> None:
        self._modules = modules
        self._without = frozenset(without)
        self._places: dict[str, dict[int, list[str]]] = {}

    def of(self, module: str | None, value: int) -> list[str]:
        """The places in a module that hold `value`."""
        if module is None or value < 2:
            return []
        if module not in self._places:
            self._places[module] = self._found(module)
        return self._places[module].get(value, [])

    def _found(self, name: str) -> dict[int, list[str]]:
        module = self._modules.get(name)
        found: dict[int, list[str]] = {}
        if module is None:
            return found
        for key, held in module.__dict__.items():
            several = type(held) in (list, tuple)
            for i, number in enumerate(held if several else (held,)):
                place = f"{name}:{key}:{i}" if several else f"{name}:{key}"
                if type(number) is int and place not in self._without and not key.startswith("_"):
                    found.setdefault(number, []).append(place)
        return found


def read(model: nn.Module, place: str) -> int | None:
    """The number at a place; None where there is none."""
    try:
        name, key, *index = place.split(":")
        held = model.get_submodule(name).__dict__[key]
        number = held[int(index[0])] if index else held
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return None
    return number if type(number) is int else None


def write(model: nn.Module, place: str, number: int) -> None:
    """Set the number at a place. A list or tuple is replaced and not written into."""
    name, key, *index = place.split(":")
    module = model.get_submodule(name)
    if index:
        held = module.__dict__[key]
        changed = [*held]
        changed[int(index[0])] = number
        setattr(module, key, type(held)(changed))
    else:
        setattr(module, key, number)
