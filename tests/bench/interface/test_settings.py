"""Hyper-parameters that are not at their defaults."""

from __future__ import annotations

import dataclasses

from bench.interface.settings import changed_settings, settings_text
from methods.dais import DAIS


def test_what_differs_from_the_defaults_is_named() -> None:
    own = dataclasses.asdict(DAIS())
    assert changed_settings("dais", own) == {}
    assert changed_settings("dais", own | {"sparsity_weight": 0.1, "order": "taylor"}) == {
        "sparsity_weight": 0.1,
        "order": "taylor",
    }
    assert changed_settings("dais", {"a field of old": 1}) == {"a field of old": 1}
    assert changed_settings("not here", {"power": 2.0}) == {"power": 2.0}


def test_settings_in_words() -> None:
    given = {"sparsity_weight": 0.10, "order": "taylor", "settle": False, "strength": None}
    assert settings_text(given) == "sparsity_weight=0.1, order=taylor, settle=false, strength=none"
