"""How a job ends whose processes did not all end well. Imports no torch."""

from __future__ import annotations


class RankLostError(Exception):
    """One of several processes of a job is gone, or failed while the others went on."""
