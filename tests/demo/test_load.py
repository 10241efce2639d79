"""The demo's agents are a program like any other."""

from __future__ import annotations

import random

from instrumented_sessions import manager
from instrumented_sessions.demo import load
from instrumented_sessions.demo.scene import LIVE_CONVERSATIONS, Conversations
from instrumented_sessions.stacks import is_own
from instrumented_sessions.watchdog.stacks import Origin, origin_of


def test_lines_of_the_demo_can_be_at_fault() -> None:
    """The demo comes with this library, yet reports name its lines as a program's."""
    assert not is_own(load.__file__)
    assert is_own(manager.__file__)
    assert origin_of(manager.__file__) is Origin.MACHINERY
    assert origin_of(load.__file__) is not Origin.MACHINERY


def test_conversations_come_and_go() -> None:
    """The oldest end, as many others begin, and names come back when all others had their turn."""
    conversations = Conversations()
    rng = random.Random(1)
    ended = [conversations.end_oldest(2) for _ in range(10)]
    assert all(first != second for first, second in ended)
    assert ended[0] == ended[5]
    live = {conversations.pick(rng) for _ in range(100)}
    assert len(live) == LIVE_CONVERSATIONS
    assert not live & {*ended[-1]}
