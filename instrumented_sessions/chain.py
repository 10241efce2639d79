"""Who waits for whom: the blocking chain, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from .vocabulary import Phase, SessionKey


class CodeLocation(NamedTuple):
    """A line of code."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.function} ({self.file}:{self.line})"

    def short(self) -> str:
        """Return it for a sentence, with the last two parts of the file's path."""
        return f"{self.function} ({'/'.join(PurePath(self.file).parts[-2:])}:{self.line})"


@dataclass(frozen=True)
class Party:
    """Somebody who waits or holds: a thread, a task, an opening or a call."""

    name: str
    """What a person calls it: the task's name, else the thread's, or `opening weather/c-7 #2`."""
    thread_id: int
    """`threading.get_ident()` of the thread it runs in; 0 if not known."""
    thread_name: str = ""
    task_name: str | None = None
    """The asyncio or trio task's name; None for a thread that runs no loop."""
    location: CodeLocation | None = None
    """The line of the program (not of this library) that asked."""

    def __str__(self) -> str:
        where = f" at {self.location.short()}" if self.location else ""
        if self.task_name is not None:
            return f"task {self.task_name!r} in thread {self.thread_name!r}{where}"
        if self.name != self.thread_name:
            return f"{self.name}{where}"
        return f"thread {self.thread_name!r}{where}"


@dataclass(frozen=True)
class ChainLink:
    """One step of a blocking chain."""

    waits_for: str
    """The lock, the opening or the answer that is waited for."""
    holder: Party | None
    """Who has it; None when nobody in this process does, such as a server that does not answer."""
    held_s: float
    """For how long, in seconds; 0 when nobody holds it."""
    doing: str
    """What the holder is doing now, in words."""
    stack: tuple[str, ...] = ()
    """The holder's stack, outermost call first, one `function (file:line)` an entry."""

    def __str__(self) -> str:
        text = self.waits_for
        if self.holder is not None and text.startswith(self.holder.name):
            text += f", begun {self.held_s:.1f} s ago"  # An opening is its own holder.
        elif self.holder is not None:
            text += f", held for {self.held_s:.1f} s by {self.holder}"
        return f"{text}, which {self.doing}" if self.doing else text


@dataclass(frozen=True)
class BlockingChain:
    """Why somebody waits: caller, lock or opening, holder, and what the holder is doing.

    Follows the links to their end, or round to a cycle.
    """

    key: SessionKey | None
    """The session that is waited for; None for the users' own locks."""
    phase: Phase
    waited_s: float
    """Seconds so far."""
    waiter: Party
    started_at: float
    """When the wait began, in Unix seconds."""
    links: tuple[ChainLink, ...] = ()
    is_cycle: bool = False
    """Whether the chain comes back to the waiter, so that nobody in it can go on."""
    trace_id: str | None = None
    """The waiter's trace, 32 hexadecimal digits; None when it has none."""
    waiter_stack: tuple[str, ...] = field(default=(), repr=False)
    """The waiter's stack, outermost call first."""

    def __str__(self) -> str:
        target = f" for session {self.key}" if self.key else ""
        text = f"{self.waiter} has waited {self.waited_s:.1f} s{target}, phase {self.phase}"
        waits = "it waits for"
        for link in self.links:
            text += f"; {waits} {link}"
            waits = "that one waits for"
        if self.is_cycle:
            text += "; this is a cycle: nobody in it can go on"
        return text
