"""The settings of the opening lock that a recording is replayed under."""

from __future__ import annotations

from dataclasses import dataclass

from ..vocabulary import LockGranularity

TRIED_PERMITS = (1, 2, 4, 8, 16)
"""Replayed for each granularity, beside the number in force."""


@dataclass(frozen=True)
class Option:
    """One choice of the settings `granularity` and `permits`.

    Raises:
        ValueError: `permits` is below 1, or missing where it has an effect.
    """

    granularity: LockGranularity
    permits: int | None = None
    """How many openings may hold one lock; None under `session`, where it has no effect."""

    def __post_init__(self) -> None:
        if self.granularity is LockGranularity.SESSION:
            object.__setattr__(self, "permits", None)  # So that equal choices compare equal.
        elif self.permits is None or self.permits < 1:
            raise ValueError(f"permits must be 1 or more under {self.granularity}; got {self.permits!r}")

    def __str__(self) -> str:
        if self.permits is None:
            return str(self.granularity)
        return f"{self.granularity} with {self.permits} permit{'s' if self.permits > 1 else ''}"

    def scope(self, transport: str, conversation: str) -> tuple[str, ...]:
        """Return what tells the lock of a session from the others."""
        return {
            LockGranularity.GLOBAL: (),
            LockGranularity.TRANSPORT: (transport,),
            LockGranularity.SESSION: (transport, conversation),
        }[self.granularity]


def options_beside(in_force: Option) -> list[Option]:
    """Return what is worth a replay, the coarsest and tightest first; `in_force` is among them."""
    permits = sorted({*TRIED_PERMITS, in_force.permits or TRIED_PERMITS[0]})
    return [
        *(Option(LockGranularity.GLOBAL, number) for number in permits),
        *(Option(LockGranularity.TRANSPORT, number) for number in permits),
        Option(LockGranularity.SESSION),
    ]
