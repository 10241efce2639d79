"""Ranges of time that a link asks for: `from` and `to`, as Grafana's `${__from}` and `${__to}` give them."""

from __future__ import annotations

from typing import NamedTuple

LAST_MS = 4_102_444_800_000
"""The latest instant that is taken: 2100-01-01 UTC, in milliseconds since 1970-01-01 UTC."""


class RangeError(ValueError):
    """A range cannot be used; the message names the value and says what is expected."""


class Range(NamedTuple):
    """A range of time that stays where it is; Unix seconds."""

    since: float
    until: float


def parse(since: str | None, until: str | None) -> Range | None:
    """Return the range of a link's `from` and `to`, in milliseconds since 1970-01-01 UTC; None without both.

    Raises:
        RangeError: One is missing or no such number, or they are the wrong way round.
    """
    if since is None and until is None:
        return None
    since_ms, until_ms = _instant_ms("from", since), _instant_ms("to", until)
    if since_ms >= until_ms:
        raise RangeError(f"from must be before to; got from={since_ms} and to={until_ms}")
    return Range(since_ms / 1000, until_ms / 1000)


def _instant_ms(name: str, text: str | None) -> int:
    if text is None:
        raise RangeError(f"{name} is missing: a range needs both from and to")
    # No int() alone: it takes digits of other scripts, and thousands of them.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LAST_MS)) and int(text) <= LAST_MS):
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        raise RangeError(
            f"{name} must be whole milliseconds since 1970-01-01 UTC, such as 1767225600000; got {shown!r}"
        )
    return int(text)
