"""A server that is a child process and speaks over its standard input and output."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TextIO

import anyio

from ..vocabulary import OpenFailure, Phase
from . import sdk, secrets
from .base import Options, checked_mapping
from .child import IMPATIENCE_S, PATIENCE_S, Child, ServerProcessEnded
from .opening import opening
from .spawning import start
from .streams import Link, WatchedReadStream

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class StdioTransport(Options):
    """Starts a server as a child process for each session and talks over its stdin and stdout.

    The child inherits only a few safe variables (PATH, HOME, ...); `env` is added to them.
    It runs in a session of its own, so Ctrl-C in a terminal does not reach it. Closing closes its input,
    then sends SIGTERM after 2 s, then SIGKILL after 2 s more, to it and to what it has started.
    When this process ends without closing, by SIGKILL even, the server gets the same within 1.5 s.

    Args:
        id: A low-cardinality label, free of secrets.
        command: The program to start.
        args: Its arguments.
        env: Variables for it, on top of the inherited ones.
        cwd: Its working directory. Default: ours.
        encoding: Of messages. Default UTF-8.
        encoding_error_handler: `strict` (default), `ignore` or `replace`.
        errlog: Where its stderr goes, a file with a descriptor. Default: our stderr.
    """

    kind: ClassVar[str] = "stdio"

    id: str
    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    cwd: str | os.PathLike[str] | None = None
    encoding: str = "utf-8"
    encoding_error_handler: Literal["strict", "ignore", "replace"] = "strict"
    errlog: TextIO | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_text("command")
        self._set("args", _checked_args(self.args))
        if self.env is not None:
            self._set("env", checked_mapping("env", self.env))
        if self.cwd is not None:
            self._set("cwd", os.fspath(self.cwd))

    def connect(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that starts the process, yields the client and ends the process."""
        return opening(self, self._streams)

    @asynccontextmanager
    async def _streams(self, link: Link) -> AsyncIterator[Any]:
        link.secrets.keep((*(self.env or {}).values(), *secrets.in_args(self.args)))

        def ended(cause: ServerProcessEnded) -> None:
            if not link.is_closing:
                link.evidence = (OpenFailure.COMMAND, f"{cause} before it answered")
            link.ended(cause)

        child = Child(self.encoding, self.encoding_error_handler, ended)
        await start(
            child,
            self.command,
            *self.args,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errlog if self.errlog is not None else _standard_error(),
            cwd=self.cwd,
            env={**sdk.module("client.stdio").get_default_environment(), **(self.env or {})},
            start_new_session=True,
        )
        patience_s = PATIENCE_S
        # No await before the try: a cancellation in between would leave the process behind.
        try:
            link.probe.is_write_blocked = child.is_blocked
            link.probe.phase = Phase.NEGOTIATE
            yield WatchedReadStream(child, link), child
        except asyncio.CancelledError:
            patience_s = IMPATIENCE_S
            raise
        finally:
            if not link.is_open or link.cause is not None:
                patience_s = IMPATIENCE_S
            link.closing()
            with anyio.CancelScope(shield=True):
                if not await child.end(patience_s):
                    logger.warning("the process %d of transport %r does not end", child.pid, self.id)

    def _shown(self) -> Mapping[str, object]:
        # Arguments and variables may carry tokens: only how many, and which.
        return {"command": self.command, "args": f"<{len(self.args)}>", "env": sorted(self.env or ())}


def _checked_args(args: object) -> tuple[str, ...]:
    if isinstance(args, (list, tuple)) and all(isinstance(arg, str) for arg in args):
        return tuple(args)
    raise ValueError(f"args must be a list or tuple of strings; got {type(args).__name__}")


def _standard_error() -> int | TextIO:
    """Return what a child can inherit as its stderr: ours, where it is a real file."""
    for stream in (sys.stderr, sys.__stderr__):
        try:
            if stream is not None:
                stream.fileno()
                return stream
        except (OSError, ValueError, AttributeError):
            continue  # A notebook's, a test runner's, or what a task queue puts in its place.
    return subprocess.DEVNULL
