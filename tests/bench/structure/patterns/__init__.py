"""Networks of a few lines, one for each structural pattern that people write."""

from tests.bench.structure.patterns import (  # noqa: F401 - each registers its patterns
    activations,
    attention,
    chains,
    channels,
    forms,
    parameters,
    reductions,
    ties,
    wrapped,
)
from tests.bench.structure.patterns.base import PATTERNS, Pattern

__all__ = ["PATTERNS", "Pattern"]
