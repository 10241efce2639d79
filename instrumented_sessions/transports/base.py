"""What all transports have in common: the protocol, the options, comparison and opening."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

from ..settings import check_limit_s
from ..vocabulary import LockGranularity
from . import sdk

MAX_ID_LENGTH = 64
"""Longest id of a transport, in characters; it becomes a metric label."""

CALLBACKS = (
    "sampling_callback",
    "elicitation_callback",
    "list_roots_callback",
    "logging_callback",
    "message_handler",
)
"""The client callbacks, by the names that both SDK generations use."""

Callback = Callable[..., Any]
"""A function of the program that the server's requests or notifications are passed to, plain or async."""


@runtime_checkable
class Transport(Protocol):
    """How to reach one MCP server; a custom transport is one class with these three.

    It may also have `call_permits` (default None: no limit) and `call_granularity`.
    """

    @property
    def id(self) -> str:
        """A low-cardinality label, free of secrets, at most 64 characters."""
        ...

    @property
    def kind(self) -> str:
        """`stdio`, `sse`, `http`, `memory` or a name of its own."""
        ...

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that yields an initialised client.

        That is `mcp.Client` on 2.x, `ClientSession` on 1.x. It is entered and left in one task, on the
        portal loop, without a limit of its own.
        """
        ...


_BY_IDENTITY = frozenset({"auth", "callback_loop", "errlog", "server"})


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Options:
    """What every transport of ours takes besides its target; all by keyword.

    Two transports are equal when their targets, headers, options and callbacks are (`==`) and they
    have the identical `auth`, server, error log and callback loop. The `repr` shows no secrets.

    Raises:
        ValueError: An argument is out of range or of the wrong type; the message names it.
    """

    kind: ClassVar[str] = ""
    mode: str = "auto"
    """`auto` (default), `legacy` (the handshake) or, on SDK 2.x, a modern protocol version."""
    call_permits: int | None = None
    """How many calls may be under way at once, for servers that need it. Default None: no limit.

    A call that is cancelled, or passes its limit, gives its permit back at once: its server is told, where
    the protocol can, and may be busy with it for a while yet. Nobody could tell when that has ended.
    """
    call_granularity: LockGranularity = LockGranularity.SESSION
    """Whether `call_permits` are for each session (default) or for all sessions of this transport."""
    sampling_callback: Callback | None = None
    elicitation_callback: Callback | None = None
    list_roots_callback: Callback | None = None
    logging_callback: Callback | None = None
    message_handler: Callback | None = None
    callback_loop: asyncio.AbstractEventLoop | None = None
    """The asyncio loop that runs async callbacks. Default None: a loop of ours, in its own thread."""
    client_info: Any = None
    """The SDK's `Implementation` that is sent to the server. Default None: the SDK's own."""
    read_timeout_s: float | None = None
    """The SDK's own limit of one answer in seconds, a second line behind the manager's. Default None."""

    def __post_init__(self) -> None:
        check_id(getattr(self, "id", None))
        self._check_mode()
        _check_permits(self.call_permits)
        self._set("call_granularity", _call_granularity(self.call_granularity))
        for name in CALLBACKS:
            callback = getattr(self, name)
            if callback is not None and not callable(callback):
                raise ValueError(f"{name} must be a function or None; got {callback!r}")
        if self.callback_loop is not None and not isinstance(self.callback_loop, asyncio.AbstractEventLoop):
            raise ValueError(f"callback_loop must be an asyncio loop or None; got {self.callback_loop!r}")
        if self.read_timeout_s is not None:
            self._check_seconds("read_timeout_s")

    def _check_mode(self) -> None:
        if self.mode in sdk.MODES:
            return
        words = ", ".join(repr(mode) for mode in sdk.MODES)
        hint = "; modern protocol versions need mcp 2 or later" if sdk.SDK_GENERATION == 1 else ""
        raise ValueError(f"mode must be one of {words} with the installed mcp; got {self.mode!r}{hint}")

    def _check_seconds(self, name: str) -> None:
        seconds = check_limit_s(getattr(self, name), name)
        if seconds == 0:
            raise ValueError(f"{name} must be more than 0 seconds; got 0")
        self._set(name, seconds)

    def _check_text(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} must be a non-empty string; got {value!r}")

    def _set(self, name: str, value: object) -> None:
        """Store the checked form of a field, while this is being built."""
        object.__setattr__(self, name, value)

    def _shown(self) -> Mapping[str, object]:
        """Return what the `repr` shows besides the id; nothing secret."""
        return {}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            mine is its if name in _BY_IDENTITY else mine == its
            for name, mine, its in (
                (field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
            )
        )

    def __hash__(self) -> int:
        return hash((type(self), getattr(self, "id", None)))

    def __repr__(self) -> str:
        shown = "".join(f", {name}={value!r}" for name, value in self._shown().items())
        return f"{type(self).__name__}(id={getattr(self, 'id', None)!r}{shown})"


def _check_permits(permits: object) -> None:
    if permits is None:
        return
    if isinstance(permits, bool) or not isinstance(permits, int) or permits < 1:
        raise ValueError(f"call_permits must be None or a whole number, 1 or more; got {permits!r}")


def _call_granularity(value: object) -> LockGranularity:
    for granularity in (LockGranularity.SESSION, LockGranularity.TRANSPORT):
        if value == granularity:
            return granularity
    raise ValueError(f"call_granularity must be 'session' or 'transport'; got {value!r}")


def check_id(id: object) -> None:
    """Raise ValueError unless `id` can be a transport's id and a metric label."""
    if not isinstance(id, str) or not id.strip() or len(id) > MAX_ID_LENGTH or not id.isprintable():
        raise ValueError(
            f"a transport's id must be a printable string of 1 to {MAX_ID_LENGTH} characters; got {id!r}"
        )


def checked_mapping(name: str, value: object) -> dict[str, str]:
    """Return a copy of a mapping of strings; its values never appear in the error.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a mapping of strings to strings; got {type(value).__name__}")
    for key, text in value.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ValueError(f"{name} must map strings to strings; the one for {key!r} does not")
    return dict(value)
