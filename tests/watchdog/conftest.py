"""What holds for every test of the watchdog: the collector runs when a test says so."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_collection_of_its_own() -> Iterator[None]:
    """On a full machine a collection is a stall, and the cause of those that tests make."""
    was_enabled = gc.isenabled()
    gc.disable()
    yield
    if was_enabled:
        gc.enable()
