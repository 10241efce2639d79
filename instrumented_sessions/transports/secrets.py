"""Texts that nothing may show: taken out of exceptions, and out of what the libraries below log."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import sdk

MIN_LENGTH = 4
"""Shorter texts are not taken for secrets, in characters: they are in every other word."""
_WORD_LENGTH = 8  # The same for parts of what was given.


def in_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """Return what may be secret in headers: their values, and a token behind its scheme."""
    for value in headers.values():
        yield value
        yield from (word for word in value.split() if len(word) >= _WORD_LENGTH)


def in_url(url: str) -> Iterator[str]:
    """Return what may be secret in an address: userinfo and query, as written and as meant."""
    parts = urlsplit(url)
    found = [parts.username or "", parts.password or "", parts.netloc.rpartition("@")[0], parts.query]
    found += [pair.partition("=")[2] for pair in parts.query.split("&")]
    found += [value for _, value in parse_qsl(parts.query)]
    yield from found
    yield from map(unquote, found)


def in_args(args: Sequence[str]) -> Iterator[str]:
    """Return what may be secret in a command line: long words, and what follows a `=`."""
    for arg in args:
        yield from (word for word in (arg, arg.partition("=")[2]) if len(word) >= _WORD_LENGTH)


class Secrets:
    """The secrets of one connection; while it is there, logs of the SDK do not show them either."""

    def __init__(self) -> None:
        self._fixed: frozenset[str] = frozenset()
        self._changing: frozenset[str] = frozenset()

    def keep(self, texts: Iterable[str]) -> None:
        """Note texts that stay secret for all of the connection."""
        self._fixed = self._replace(self._fixed, self._fixed | _long_enough(texts))

    def keep_for_now(self, texts: Iterable[str]) -> None:
        """Note texts in the place of those of the last time, such as a request's signature."""
        self._changing = self._replace(self._changing, _long_enough(texts))

    def forget(self) -> None:
        """Let the logs be; the connection is gone."""
        self.keep_for_now(())
        self._fixed = self._replace(self._fixed, frozenset())

    def scrub(self, exc: BaseException) -> None:
        """Take the secrets out of the texts of an exception, and of all it is made of and caused by."""
        _scrub(exc, _longest_first(self._fixed | self._changing))

    def cleaned(self, item: Any) -> Any:
        """Return what a read stream gave; an answer that shows a secret, without it."""
        message = getattr(item, "message", None)
        error = getattr(getattr(message, "root", message), "error", None)  # 1.x has a root model.
        if error is not None:
            _clean_fields(error, _longest_first(self._fixed | self._changing))
        return item

    @staticmethod
    def _replace(old: frozenset[str], new: frozenset[str]) -> frozenset[str]:
        if old != new:
            _registry.replace(old, new)
        return new


class _Registry(logging.Filter):
    """The secrets of all connections, and the filter of the loggers that might show them."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()  # Protects both below.
        self._known: Counter[str] = Counter()
        self._sorted: tuple[str, ...] | None = ()  # None: not since the last change.

    def replace(self, old: Iterable[str], new: Iterable[str]) -> None:
        """Count `new` in the place of `old`."""
        with self._lock:
            self._known.update(new)
            self._known.subtract(old)
            for text in old:
                if not self._known[text]:
                    del self._known[text]
            self._sorted = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the secrets out of a record; it is logged in any case."""
        with self._lock:
            if self._sorted is None:
                self._sorted = _longest_first(self._known)
            secrets = self._sorted
        if secrets:
            try:
                text = record.getMessage()
            except Exception:
                return True  # A format that does not fit: `logging` tells, and nothing was put into the text.
            if (clean := _clean(text, secrets)) != text:
                record.msg, record.args = clean, None
            if record.exc_info and record.exc_info[1] is not None:
                _scrub(record.exc_info[1], secrets)
        return True

    def forsake(self) -> None:
        """Begin anew in a forked child; another thread of the parent may have held the lock."""
        self.__init__()  # type: ignore[misc]


def _long_enough(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text for text in texts if len(text) >= MIN_LENGTH)


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=len, reverse=True))


def _clean(value: Any, secrets: tuple[str, ...]) -> Any:
    """Return a text without secrets; for other things that show one, a text in their place."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "***")
        return value
    return "***" if any(secret in str(value) for secret in secrets) else value


def _scrub(exc: BaseException, secrets: tuple[str, ...]) -> None:
    for one in _all(exc) if secrets else ():
        one.args = tuple(_clean(arg, secrets) for arg in one.args)
        if isinstance(one, sdk.MCPError):
            _clean_fields(getattr(one, "error", None), secrets)


def _clean_fields(error: Any, secrets: tuple[str, ...]) -> None:
    """Take the secrets out of a JSON-RPC error object."""
    for name in ("message", "data"):
        if getattr(error, name, None) is not None:
            setattr(error, name, _clean(getattr(error, name), secrets))


def _all(exc: BaseException) -> Iterator[BaseException]:
    waiting, seen = [exc], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [*getattr(one, "exceptions", ()), *filter(None, (one.__cause__, one.__context__))]


_registry = _Registry()
_HTTP = "httpx2" if sdk.SDK_GENERATION == 2 else "httpx"
_CORE = _HTTP.replace("httpx", "httpcore")
# A logger's filter sees what is logged with it, not with those below it.
for _name in (
    _HTTP,
    *(f"{_CORE}.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
    *(f"mcp.client.{part}" for part in ("sse", "streamable_http", "auth.oauth2", "auth.utils", "client")),
    "client",
    "mcp.shared.jsonrpc_dispatcher",
):
    logging.getLogger(_name).addFilter(_registry)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.forsake)
