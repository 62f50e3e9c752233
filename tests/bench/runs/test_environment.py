"""What is recorded of where a result was made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.runs.environment import environment, environment_tags, git_commit

ROOT = Path(__file__).resolve().parents[3]


def test_the_commit_is_the_checkouts_own() -> None:
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a checkout")
    assert git_commit().removesuffix("-dirty") == done.stdout.strip()


def test_tags_are_a_part_of_the_environment() -> None:
    facts = environment("cpu", "fp32")
    assert facts["precision"] == "fp32" and facts["torch"] != "absent"
    assert environment_tags() == {
        f"prunebench.{k}": facts[k] for k in ("prunebench", "git_commit", "python", "torch", "processor")
    }
