"""Settings are checked when they are made, wherever they come from."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from instrumented_sessions import LockGranularity, Settings


def test_defaults_are_the_documented_ones() -> None:
    """Each default is a promise."""
    settings = Settings()
    assert dataclasses.asdict(settings) == {
        "granularity": LockGranularity.TRANSPORT,
        "permits": 4,
        "open_timeout_s": 30,
        "acquire_timeout_s": 60,
        "authorize_timeout_s": 300,
        "call_timeout_s": 60,
        "close_timeout_s": 10,
        "idle_timeout_s": 900,
        "max_lifetime_s": None,
        "max_sessions": 1000,
        "backoff_initial_s": 0.5,
        "backoff_max_s": 30,
        "slow_call_threshold_s": 30,
        "blocking_call": "raise",
        "heartbeat_interval_s": 0.1,
        "stall_threshold_s": 0.25,
        "heartbeat_span_interval_s": 10,
        "watch_callers": True,
    }


def test_settings_are_frozen() -> None:
    """A manager's settings do not change under it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().permits = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("granularity", "world"),
        ("permits", 0),
        ("permits", 2.5),
        ("permits", True),
        ("max_sessions", -1),
        ("open_timeout_s", 0),
        ("call_timeout_s", float("nan")),
        ("close_timeout_s", float("inf")),
        ("idle_timeout_s", -3),
        ("max_lifetime_s", "soon"),
        ("blocking_call", "maybe"),
        ("watch_callers", "yes"),
        ("backoff_max_s", 0.1),
    ],
)
def test_bad_value_is_named(name: str, value: Any) -> None:
    """The error says which setting and what was given."""
    with pytest.raises(ValueError, match=name) as caught:
        Settings(**{name: value})
    assert repr(value) in str(caught.value) or str(value) in str(caught.value)


def test_environment_sets_what_it_names() -> None:
    """Variables are the settings' names in capitals, behind the prefix; the rest stays at its default."""
    settings = Settings.from_env(
        {
            "INSTRUMENTED_SESSIONS_GRANULARITY": "SESSION",
            "INSTRUMENTED_SESSIONS_PERMITS": "7",
            "INSTRUMENTED_SESSIONS_OPEN_TIMEOUT_S": "2.5",
            "INSTRUMENTED_SESSIONS_MAX_LIFETIME_S": "none",
            "INSTRUMENTED_SESSIONS_WATCH_CALLERS": "off",
            "INSTRUMENTED_SESSIONS_BLOCKING_CALL": "warn",
            "INSTRUMENTED_SESSIONS_CALL_TIMEOUT_S": "",
        }
    )
    assert settings == Settings(
        granularity=LockGranularity.SESSION,
        permits=7,
        open_timeout_s=2.5,
        watch_callers=False,
        blocking_call="warn",
    )


@pytest.mark.parametrize(
    ("variable", "text"),
    [("PERMITS", "many"), ("PERMITS", "1.5"), ("OPEN_TIMEOUT_S", "-1"), ("WATCH_CALLERS", "perhaps")],
)
def test_bad_variable_is_named(variable: str, text: str) -> None:
    """A value of the environment that cannot be used is named, and never ignored."""
    with pytest.raises(ValueError, match=f"(?i){variable}"):
        Settings.from_env({f"INSTRUMENTED_SESSIONS_{variable}": text})
