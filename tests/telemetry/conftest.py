from __future__ import annotations

from collections.abc import Iterator

import pytest

from instrumented_sessions import live

from .backend import Backend


@pytest.fixture(autouse=True)
def nothing_counted_before() -> None:
    """Counters of the process begin at zero, whatever ran before."""
    live.reset()


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()
