"""A step that is possible now."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Choice(NamedTuple):
    """One thing that could happen next."""

    name: str
    act: Callable[[], None]
    due: bool = True
    """Whether it happens sooner or later; cancellations and losses need not."""
