"""The small worlds whose schedules are explored; each is about one hand-over or two."""

from __future__ import annotations

from instrumented_sessions.vocabulary import LockGranularity

from .scenario import Calls, Closes, Scenario, Wants

_ALL = (
    Scenario(
        "callers of one key share an opening",
        (Wants("ann", "w/a"), Wants("bob", "w/a"), Wants("cyd", "w/a", limit_s=5.0)),
        cancels=2,
        fails=1,
    ),
    Scenario(
        "one permit for two keys of a transport",
        (Wants("ann", "w/a"), Wants("bob", "w/b"), Wants("cyd", "w/b", limit_s=5.0)),
        settings={"permits": 1, "open_timeout_s": 8.0},
        cancels=2,
        authorizes=1,
    ),
    Scenario(
        "one permit for all transports",
        (Wants("ann", "v/a"), Wants("bob", "w/a"), Wants("cyd", "v/b")),
        settings={"permits": 1, "granularity": LockGranularity.GLOBAL},
        fails=1,
    ),
    Scenario(
        "a lock for each session",
        (Wants("ann", "w/a"), Wants("bob", "w/b"), Wants("cyd", "w/a")),
        settings={"permits": 1, "granularity": LockGranularity.SESSION},
        fails=1,
    ),
    Scenario(
        "two permits for three keys",
        (Wants("ann", "w/a"), Wants("bob", "w/b"), Wants("cyd", "w/c")),
        settings={"permits": 2},
        fails=2,
    ),
    Scenario(
        "failures, back-off and probe",
        (
            Wants("ann", "w/a", limit_s=60.0),
            Wants("bob", "w/b", limit_s=60.0),
            Wants("cyd", "w/c", limit_s=60.0),
        ),
        fails=3,
        early=3,
    ),
    Scenario(
        "back-off behind one permit",
        (
            Wants("ann", "w/a", limit_s=60.0),
            Wants("bob", "w/b", limit_s=60.0),
            Wants("cyd", "w/c", limit_s=3.0),
        ),
        settings={"permits": 1},
        fails=2,
        early=2,
    ),
    Scenario(
        "a young session is lost beside openings",
        (
            Wants("ann", "w/b", limit_s=60.0),
            Wants("bob", "w/c", limit_s=60.0),
            Calls("call", "w/a", limit_s=60.0),
        ),
        warm=("w/a",),
        age_s=1.0,
        losses=1,
        fails=2,
        early=2,
    ),
    Scenario(
        "room for one session",
        (Wants("ann", "w/a"), Wants("bob", "v/a"), Wants("cyd", "w/b")),
        settings={"max_sessions": 1},
        fails=1,
    ),
    Scenario(
        "room for one, wanted by calls",
        (Calls("call-a", "w/a"), Calls("call-b", "w/b"), Wants("ann", "w/a")),
        warm=("w/a", "w/b"),
        settings={"max_sessions": 1},
    ),
    Scenario(
        "room for two, one of them busy",
        (Calls("call-a", "w/a"), Wants("ann", "w/c"), Wants("bob", "v/a", limit_s=5.0)),
        warm=("w/a", "w/b"),
        settings={"max_sessions": 2},
        losses=1,
    ),
    Scenario(
        "calls take turns, and their session is lost",
        (Calls("one", "w/a"), Calls("two", "w/a"), Calls("three", "w/a", limit_s=5.0)),
        warm=("w/a",),
        call_permits=1,
        losses=1,
        cancels=2,
    ),
    Scenario(
        "a session is checked after a long pause",
        (Calls("one", "w/a"), Calls("two", "w/a"), Closes("close", "w/a", limit_s=5.0)),
        warm=("w/a",),
        call_permits=1,
        losses=2,
        age_s=100.0,
    ),
    Scenario(
        "calls of two sessions take turns",
        (Calls("one", "w/a"), Calls("two", "w/b"), Calls("three", "w/b")),
        warm=("w/a", "w/b"),
        call_permits=1,
        call_granularity=LockGranularity.TRANSPORT,
        losses=1,
    ),
    Scenario(
        "a call is refused and the others go on",
        (Calls("one", "w/a"), Calls("two", "w/a"), Closes("close", "w/a", limit_s=5.0)),
        warm=("w/a",),
        refusals=2,
        losses=1,
    ),
    Scenario(
        "refused, with permits",
        (Calls("one", "w/a"), Calls("two", "w/a"), Calls("three", "w/a")),
        warm=("w/a",),
        call_permits=2,
        refusals=2,
    ),
    Scenario(
        "a session is closed while it opens",
        (Wants("ann", "w/a"), Closes("close", "w/a"), Wants("bob", "w/a")),
        fails=1,
        losses=1,
    ),
    Scenario(
        "a session is closed during a call",
        (
            Calls("call", "w/a"),
            Closes("close", "w/a", limit_s=5.0),
            Wants("ann", "w/a"),
            Closes("again", "w/a"),
        ),
        warm=("w/a",),
        losses=1,
    ),
    Scenario(
        "a drain with calls that take turns",
        (Calls("one", "w/a"), Calls("two", "w/a"), Closes("close", "w/a", limit_s=5.0)),
        warm=("w/a",),
        call_permits=1,
        losses=1,
    ),
    Scenario(
        "the manager closes in the middle",
        (Wants("ann", "w/b"), Calls("call", "w/a"), Closes("close all", limit_s=5.0), Wants("bob", "w/c")),
        warm=("w/a",),
        settings={"permits": 1},
        fails=1,
        losses=1,
    ),
    Scenario(
        "idle and old sessions leave",
        (Calls("call", "w/a"), Wants("ann", "w/b"), Wants("bob", "w/a")),
        warm=("w/a",),
        settings={"idle_timeout_s": 30.0, "max_lifetime_s": 90.0, "max_sessions": 2},
        losses=1,
        early=3,
        age_s=20.0,
    ),
    Scenario(
        "two openings need each other",
        (Wants("ann", "v/a"), Wants("bob", "w/a")),
        inner={"v/a": "w/a", "w/a": "v/a"},
        settings={"open_timeout_s": 8.0},
    ),
    Scenario(
        "an opening needs the lock that it holds",
        (Wants("ann", "v/a"), Wants("bob", "w/a")),
        inner={"v/a": "w/a"},
        settings={"permits": 1, "granularity": LockGranularity.GLOBAL, "open_timeout_s": 8.0},
    ),
    Scenario(
        "two openings hold all permits and need another session each",
        (Wants("ann", "v/a"), Wants("bob", "w/a")),
        inner={"v/a": "u/a", "w/a": "u/b"},
        settings={"permits": 2, "granularity": LockGranularity.GLOBAL, "open_timeout_s": 8.0},
    ),
)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
