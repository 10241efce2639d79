"""A server that is a child process and speaks over its standard input and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TextIO

from . import sdk
from .base import Options, checked_mapping
from .opening import opening
from .streams import Link


@dataclass(frozen=True, eq=False, repr=False)
class StdioTransport(Options):
    """Starts a server as a child process for each session and talks over its stdin and stdout.

    The child inherits only a few safe variables (PATH, HOME, ...); `env` is added to them.
    It runs in a session of its own, so Ctrl-C in a terminal does not reach it.

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

    def _streams(self, link: Link) -> AbstractAsyncContextManager[Any]:
        stdio = sdk.module("client.stdio")
        parameters = stdio.StdioServerParameters(
            command=self.command,
            args=list(self.args),
            env=self.env,
            cwd=self.cwd,
            encoding=self.encoding,
            encoding_error_handler=self.encoding_error_handler,
        )
        streams: AbstractAsyncContextManager[Any] = stdio.stdio_client(parameters, self.errlog or sys.stderr)
        return streams

    def _shown(self) -> Mapping[str, object]:
        # Arguments and variables may carry tokens: only how many, and which.
        return {"command": self.command, "args": f"<{len(self.args)}>", "env": sorted(self.env or ())}


def _checked_args(args: object) -> tuple[str, ...]:
    if isinstance(args, (list, tuple)) and all(isinstance(arg, str) for arg in args):
        return tuple(args)
    raise ValueError(f"args must be a list or tuple of strings; got {type(args).__name__}")
