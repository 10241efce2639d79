"""The states of a session: one table, and the one function that changes a state."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from .errors import InvalidTransitionError
from .vocabulary import SessionKey, SessionState

STORY_LENGTH = 16
"""How many of its latest moves a session remembers."""

TABLE: dict[tuple[SessionState, str], SessionState] = {
    (SessionState.COLD, "open"): SessionState.CREATING,
    (SessionState.BROKEN, "open"): SessionState.CREATING,
    (SessionState.CREATING, "opened"): SessionState.READY,
    (SessionState.CREATING, "open_failed"): SessionState.BROKEN,
    # Nobody wanted it any more before its lock was granted.
    (SessionState.CREATING, "dropped"): SessionState.COLD,
    (SessionState.READY, "lost"): SessionState.BROKEN,
    (SessionState.READY, "drain"): SessionState.DRAINING,
    (SessionState.DRAINING, "drained"): SessionState.COLD,
    **{
        (state, "close"): SessionState.CLOSED
        for state in SessionState
        if state not in (SessionState.CLOSED, SessionState.READY)
    },
}
"""Where each move leads. A READY session is drained before it is closed, also when in a hurry."""


class Stateful(Protocol):
    """What has a state; only `advance` assigns to `state`."""

    key: SessionKey
    state: SessionState
    story: deque[str]


def advance(record: Stateful, move: str) -> SessionState:
    """Make `move` and return the state it leads to.

    Raises:
        InvalidTransitionError: The state does not allow the move; carries the record's story.
    """
    old = record.state
    new = TABLE.get((old, move))
    if new is None:
        story = tuple(record.story)
        raise InvalidTransitionError(
            f"session {record.key} cannot {move!r} in state {old}; this is a bug in instrumented-sessions,"
            f" please report it with the session's story: {' | '.join(story) or 'none'}",
            key=record.key,
            story=story,
        )
    record.state = new
    record.story.append(f"{old} -{move}-> {new}")
    return new


def new_story() -> deque[str]:
    """Return an empty story, which keeps the latest `STORY_LENGTH` moves."""
    return deque(maxlen=STORY_LENGTH)
