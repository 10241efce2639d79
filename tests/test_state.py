"""The state table: every legal move, and what an illegal one says."""

from __future__ import annotations

import ast
from collections import deque
from pathlib import Path

import pytest

import instrumented_sessions
from instrumented_sessions.errors import InvalidTransitionError
from instrumented_sessions.state import STORY_LENGTH, TABLE, advance, new_story
from instrumented_sessions.vocabulary import SessionKey, SessionState

COLD, CREATING, READY, DRAINING, BROKEN, CLOSED = SessionState

LEGAL = {
    (COLD, "open"): CREATING,
    (BROKEN, "open"): CREATING,
    (CREATING, "opened"): READY,
    (CREATING, "open_failed"): BROKEN,
    (CREATING, "dropped"): COLD,
    (READY, "lost"): BROKEN,
    (READY, "drain"): DRAINING,
    (DRAINING, "drained"): COLD,
    (COLD, "close"): CLOSED,
    (CREATING, "close"): CLOSED,
    (DRAINING, "close"): CLOSED,
    (BROKEN, "close"): CLOSED,
}
MOVES = sorted({move for _, move in LEGAL})
ILLEGAL = [(state, move) for state in SessionState for move in MOVES if (state, move) not in LEGAL]


class Thing:
    def __init__(self, state: SessionState = COLD) -> None:
        self.key = SessionKey("weather", "c-7")
        self.state = state
        self.story: deque[str] = new_story()


@pytest.mark.parametrize(("state", "move"), LEGAL)
def test_legal_move_leads_where_the_design_says(state: SessionState, move: str) -> None:
    """Each move of the design's diagram is possible, and adds a line to the story."""
    thing = Thing(state)
    assert advance(thing, move) is LEGAL[state, move]
    assert thing.state is LEGAL[state, move]
    assert list(thing.story) == [f"{state} -{move}-> {LEGAL[state, move]}"]


@pytest.mark.parametrize(("state", "move"), ILLEGAL)
def test_illegal_move_raises_and_changes_nothing(state: SessionState, move: str) -> None:
    """Any other move raises, and the state and the story stay."""
    thing = Thing(state)
    with pytest.raises(InvalidTransitionError):
        advance(thing, move)
    assert thing.state is state
    assert not thing.story


def test_table_has_no_other_moves() -> None:
    """The table is the diagram, no more and no less."""
    assert TABLE == LEGAL


def test_error_carries_the_story() -> None:
    """Who reads the report sees the key, the move, the state and how it came to it."""
    thing = Thing()
    for move in ("open", "opened", "lost"):
        advance(thing, move)
    with pytest.raises(
        InvalidTransitionError, match="weather/c-7 cannot 'drained' in state broken"
    ) as caught:
        advance(thing, "drained")
    story = ("cold -open-> creating", "creating -opened-> ready", "ready -lost-> broken")
    assert caught.value.story == story
    assert caught.value.key == thing.key
    assert " | ".join(story) in str(caught.value)


def test_story_keeps_the_latest_moves() -> None:
    """A session that lives for weeks does not grow."""
    thing = Thing()
    for _ in range(STORY_LENGTH):
        advance(thing, "open")
        advance(thing, "dropped")
    assert len(thing.story) == STORY_LENGTH
    assert thing.story[-1] == "creating -dropped-> cold"


def test_only_advance_assigns_to_a_state() -> None:
    """Nothing else in the package sets `.state` of what has one, but for its beginning."""
    found = []
    root = Path(instrumented_sessions.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                value = ast.unparse(node.value) if node.value is not None else ""
                if any(isinstance(target, ast.Attribute) and target.attr == "state" for target in targets):
                    if "SessionState" in value or path.name == "state.py":
                        found.append(f"{path.relative_to(root).as_posix()}: {ast.unparse(node)}")
    assert found == [
        "integrations/auto/unmanaged.py: self.state = SessionState.COLD",  # A program's own session.
        "manager/records.py: self.state = SessionState.COLD",  # A new record.
        "manager/records.py: self.state = SessionState.COLD",  # After a fork, in the child.
        "state.py: record.state = new",
    ]
