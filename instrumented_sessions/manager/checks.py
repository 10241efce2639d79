"""What a manager refuses at its doors."""

from __future__ import annotations

import sys
from typing import Any

from ..settings import check_limit_s


def limit_of(timeout_s: float | None, default_s: float) -> float:
    """Return the limit of a call in seconds.

    Raises:
        ValueError: It is no number of seconds, 0 or more.
    """
    return default_s if timeout_s is None else check_limit_s(timeout_s)


def check_target(transport: Any, conversation: Any) -> None:
    """Refuse what no session can be opened for.

    Raises:
        ValueError: It is no transport, or no name of a conversation.
    """
    if not isinstance(conversation, str) or not conversation:
        raise ValueError(f"conversation must be a non-empty string; got {conversation!r}")
    kind = getattr(transport, "kind", None)
    if not callable(getattr(transport, "connect", None)) or not isinstance(kind, str):
        raise ValueError(
            f"transport must have id, kind and connect(), such as StdioTransport; got {transport!r}"
        )
    if not isinstance(transport.id, str) or not transport.id:
        raise ValueError(f"a transport's id must be a non-empty string; got {transport.id!r}")


def refuse_green_threads() -> None:
    """Refuse patched threads and locks, which would run the portal on the thread that waits for it.

    Raises:
        RuntimeError: gevent or eventlet has patched this process.
    """
    for name, patched in (
        ("gevent.monkey", "is_anything_patched"),
        ("eventlet.patcher", "is_monkey_patched"),
    ):
        module = sys.modules.get(name)
        check = getattr(module, patched, None)
        if check is not None and (check("thread") if name.startswith("eventlet") else check()):
            raise RuntimeError(
                f"{name.split('.')[0]} has patched this process, so the portal's thread would be a"
                " green thread of the one that waits for it; use instrumented-sessions without it"
            )
