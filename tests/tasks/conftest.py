"""What tests of streamed data set up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.interface.loading import set_workers


@pytest.fixture
def alone() -> Iterator[None]:
    """No process beside this one, unless a test asks for some."""
    set_workers(0)
    yield
    set_workers(None)


@pytest.fixture(scope="module")
def closed() -> Iterator[None]:
    """The processes of a module's tests end with it."""
    from tasks.data import reading

    yield
    reading.close()
