"""Names of modules, which say what lies in what."""

from __future__ import annotations


def inside(name: str, module: str) -> bool:
    """Whether a module's or tensor's name is that of `module` or of something in it; the network's own name is ""."""
    return not module or name == module or name.startswith(module + ".")
