"""Settings of a manager: frozen, each with its unit, its default and its environment variable."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from .vocabulary import LockGranularity

ENV_PREFIX = "INSTRUMENTED_SESSIONS_"

BlockingCallPolicy = Literal["raise", "warn", "allow"]

_MAY_BE_NONE = {"max_lifetime_s"}
_MAY_BE_ZERO = {"backoff_initial_s", "backoff_max_s", "slow_call_threshold_s"}


def check_limit_s(limit_s: float, name: str = "timeout_s") -> float:
    """Return `limit_s` as a float.

    Raises:
        ValueError: It is negative, NaN or infinite, or not a number.
    """
    if isinstance(limit_s, bool) or not isinstance(limit_s, (int, float)):
        raise ValueError(f"{name} must be a number of seconds; got {limit_s!r}")
    if not math.isfinite(limit_s) or limit_s < 0:
        raise ValueError(f"{name} must be a finite number of seconds, 0 or more; got {limit_s!r}")
    return float(limit_s)


@dataclass(frozen=True)
class Settings:
    """Settings of a `SessionManager`; `from_env()` reads them from `INSTRUMENTED_SESSIONS_*`.

    Raises:
        ValueError: A value is out of range; the message names the setting and the value.
    """

    granularity: LockGranularity = LockGranularity.TRANSPORT
    """How much one opening lock covers: `global`, `transport` (default) or `session`."""
    permits: int = 4
    """How many openings may hold one opening lock at once. Default 4; no effect under `session`."""
    open_timeout_s: float = 30.0
    """Limit of one opening in seconds, from the grant of its lock. Default 30."""
    acquire_timeout_s: float = 60.0
    """Limit of `session()` and `asession()` in seconds when none is passed. Default 60."""
    authorize_timeout_s: float = 300.0
    """Limit of an opening that waits for a person, in seconds. Default 300."""
    call_timeout_s: float = 60.0
    """Limit of a call in seconds when none is passed. Default 60."""
    close_timeout_s: float = 10.0
    """Limit of closing, in seconds. Default 10."""
    idle_timeout_s: float = 900.0
    """A session without calls for this long, in seconds, is closed until its next use. Default 900."""
    max_lifetime_s: float | None = None
    """A session older than this, in seconds, is replaced when idle. Default None: no limit."""
    max_sessions: int = 1000
    """How many sessions may be open at once. Default 1000."""
    backoff_initial_s: float = 0.5
    """First pause after a failed opening, in seconds; doubles with each failure. Default 0.5."""
    backoff_max_s: float = 30.0
    """Longest pause after failed openings, in seconds. Default 30."""
    slow_call_threshold_s: float = 30.0
    """A call that takes longer than this, in seconds, is reported. Default 30; 0: never."""
    blocking_call: BlockingCallPolicy = "raise"
    """What a blocking door does on a thread that runs an event loop: `raise` (default), `warn`, `allow`."""
    heartbeat_interval_s: float = 0.1
    """How often each watched loop is looked at, in seconds. Default 0.1."""
    stall_threshold_s: float = 0.25
    """Lag above which a loop counts as stalled, in seconds. Default 0.25."""
    heartbeat_span_interval_s: float = 10.0
    """How often each loop's lag is summed up in an event and a span, in seconds. Default 10."""
    watch_callers: bool = True
    """Whether the loops of async callers are watched. Default True; the portal's always is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "granularity", _granularity(self.granularity))
        for name in ("permits", "max_sessions"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number, 1 or more; got {value!r}")
        if self.blocking_call not in get_args(BlockingCallPolicy):
            raise ValueError(f"blocking_call must be 'raise', 'warn' or 'allow'; got {self.blocking_call!r}")
        if not isinstance(self.watch_callers, bool):
            raise ValueError(f"watch_callers must be True or False; got {self.watch_callers!r}")
        for field in fields(self):
            if field.name.endswith("_s"):
                object.__setattr__(self, field.name, _seconds(field.name, getattr(self, field.name)))
        if self.backoff_max_s < self.backoff_initial_s:
            raise ValueError(
                f"backoff_max_s must not be below backoff_initial_s; got {self.backoff_max_s!r}"
                f" and {self.backoff_initial_s!r}"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return settings from `INSTRUMENTED_SESSIONS_<NAME>` variables, defaults for the rest.

        Args:
            environ: Where to read them; default `os.environ`.

        Raises:
            ValueError: A value cannot be read; the message names the variable and the value.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = environ.get(ENV_PREFIX + field.name.upper(), "").strip()
            if text:
                values[field.name] = _parse(field.name, text)
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{error} (set by {ENV_PREFIX}* in the environment)") from None


def _granularity(value: Any) -> LockGranularity:
    try:
        return LockGranularity(value)
    except ValueError:
        words = ", ".join(repr(word.value) for word in LockGranularity)
        raise ValueError(f"granularity must be one of {words}; got {value!r}") from None


def _seconds(name: str, value: Any) -> float | None:
    if value is None and name in _MAY_BE_NONE:
        return None
    seconds = check_limit_s(value, name)
    if seconds == 0 and name not in _MAY_BE_ZERO:
        raise ValueError(f"{name} must be more than 0 seconds; got {value!r}")
    return seconds


_SWITCH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def _parse(name: str, text: str) -> Any:
    """Return the value of setting `name` from its variable's text."""
    if name in ("granularity", "blocking_call"):
        return text.lower()
    if name in _MAY_BE_NONE and text.lower() == "none":
        return None
    try:
        if name == "watch_callers":
            return _SWITCH[text.lower()]
        return float(text) if name.endswith("_s") else int(text)
    except (KeyError, ValueError):
        wanted = "true or false" if name == "watch_callers" else "a number"
        raise ValueError(f"{ENV_PREFIX}{name.upper()} must be {wanted}; got {text!r}") from None
