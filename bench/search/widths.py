"""What searches over widths share: shares of a group in whole bundles, and expected MACs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from bench.structure.graph import PruningGraph
    from bench.structure.groups import ChannelGroup


def width_of(group: ChannelGroup, share: float) -> int:
    """A share of a group's channels, rounded to whole bundles and at least one."""
    return max(1, round(share * group.size / group.bundle)) * group.bundle


class ExpectedMacs:
    """E[macs(n)] for independent widths n_g: macs(E[n]), and a term for layers that read and make the same group.

    MACs are bilinear in the widths, so the mean of a product of two groups' widths is the product of their means. A
    layer between channels of one group (a convolution inside a residual stream) costs n_g², whose mean is larger by
    the variance: Σ_g ½·∂²macs/∂n_g²·Var(n_g). With block presences, which enter each layer's cost linearly and at
    most once, the mean over them is exact as well.
    """

    def __init__(self, graph: PruningGraph) -> None:
        self.graph = graph
        self.squared = [g.name for g in graph.groups if self._curvature(g.name, g.bundle, None)]
        """Groups that some layer both reads and makes; none in networks of two-layer blocks."""

    def __call__(
        self, widths: Mapping[str, tuple[Tensor, Tensor]], blocks: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """A float64 scalar.

        Args:
            widths: by group name, (probabilities [K], widths [K]); groups that are not named are whole.
            blocks: the probability that a block is there, by name; 1 for those that are not named.
        """
        from bench.structure.tensors import precise

        exact = {name: (precise(p), n) for name, (p, n) in widths.items()}
        mean = {name: (p * n.to(p.device)).sum() for name, (p, n) in exact.items()}
        total = self.graph.macs(mean, blocks)
        for name in self.squared:
            if name in exact:
                p, n = exact[name]
                variance = (p * (n.to(p.device) - mean[name]) ** 2).sum()
                bundle = self.graph.group(name).bundle
                total = total + self._curvature(name, bundle, blocks) * variance / (2 * bundle**2)
        return total

    def _curvature(self, name: str, bundle: int, blocks: Mapping[str, Tensor] | None) -> Any:
        """∂²macs/∂n², per squared bundle: the second difference of a quadratic."""
        low, middle, high = (self.graph.macs({name: k * bundle}, blocks) for k in (0, 1, 2))
        return high - 2 * middle + low
