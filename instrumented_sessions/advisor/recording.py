"""What a replay needs to know of one run: each opening's arrival, wait and hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..events import (
    Event,
    LockAcquired,
    LockReleased,
    LockWaitAbandoned,
    LockWaitStarted,
    OpeningStarted,
    SessionRequested,
)
from ..settings import Settings
from ..vocabulary import LockGranularity, LockKind
from .options import Option


class RecordingError(ValueError):
    """A recording cannot be used; the message says why, and where in its file."""


@dataclass(frozen=True)
class OpeningRecord:
    """One opening's way through its lock."""

    asked_at: float
    """When it asked for its permit, in Unix seconds."""
    transport: str
    conversation: str
    waited_s: float
    """Until the grant, or until it gave up."""
    held_s: float | None
    """From the grant to the release; None when it gave up before the grant."""
    caller: str | None = None
    """The thread or task that asked first, as far as it is known: it asks one after the other."""
    ended: bool = True
    """False when the recording ended first: its last duration is what was seen of it."""

    @property
    def ended_at(self) -> float:
        """When it gave its permit back, or gave up, in Unix seconds."""
        return self.asked_at + self.waited_s + (self.held_s or 0.0)


@dataclass(frozen=True)
class Recording:
    """The openings of one manager's run."""

    in_force: Option
    """The settings it ran under."""
    openings: tuple[OpeningRecord, ...]
    """In the order of asking."""
    cut: int = 0
    """Openings of which only the end was recorded; they are left out."""

    @property
    def transports(self) -> list[str]:
        """The transports' ids, sorted."""
        return sorted({opening.transport for opening in self.openings})

    @property
    def lasted_s(self) -> float:
        """From the first request for a permit to the end of the last opening, in seconds."""
        if not self.openings:
            return 0.0
        return max(opening.ended_at for opening in self.openings) - self.openings[0].asked_at

    @classmethod
    def of(cls, events: Iterable[Event], *, permits: int | None = None) -> Recording:
        """Return what the events of one manager say, such as `Recorder.events`.

        Args:
            events: In the order they were announced; only those of openings are looked at.
            permits: The setting of that name. Default: what the waits show of it; without any wait the
                default of `Settings`, or what was seen at once if that is more.

        Raises:
            RecordingError: There are no openings, or managers of different granularities are mixed.
        """
        reader = _Reader()
        for event in events:
            reader.read(event)
        return reader.recording(permits)


class _Reader:
    """Puts openings together from their events."""

    def __init__(self) -> None:
        self._callers: dict[int, str] = {}  # By request.
        self._caller_of: dict[int, str] = {}  # By opening.
        self._found: dict[int, OpeningRecord] = {}  # By wait.
        self._granularities: set[LockGranularity] = set()
        self._permits_seen = 0  # All permits of a lock are taken when somebody waits.
        self._held: Counter[str] = Counter()  # By lock.
        self._at_once = 0
        self._last_at = 0.0
        self._cut = 0

    def read(self, event: Event) -> None:
        self._last_at = max(self._last_at, event.at)
        if isinstance(event, SessionRequested):
            party = event.caller
            self._callers[event.request_id] = f"{party.thread_id}/{party.task_name or party.thread_name}"
        elif isinstance(event, OpeningStarted):
            if event.request_id in self._callers:
                self._caller_of[event.opening_id] = self._callers[event.request_id]
        elif isinstance(event, (LockWaitStarted, LockAcquired, LockWaitAbandoned, LockReleased)):
            if event.lock is LockKind.OPENING:
                self._read_lock(event)

    def _read_lock(self, event: LockWaitStarted | LockAcquired | LockWaitAbandoned | LockReleased) -> None:
        if event.granularity is not None:
            self._granularities.add(event.granularity)
        if isinstance(event, LockWaitStarted):
            self._permits_seen = max(self._permits_seen, len(event.holder_ids))
            self._found[event.wait_id] = self._begun(event, event.at, 0.0)
        elif isinstance(event, LockAcquired):
            begun = self._begun(event, event.at - event.waited_s, event.waited_s)
            self._found[event.wait_id] = replace(begun, held_s=0.0)
            self._held[event.lock_name] += 1
            self._at_once = max(self._at_once, self._held[event.lock_name])
        elif event.wait_id not in self._found:
            self._cut += 1
        elif isinstance(event, LockReleased):
            self._held[event.lock_name] -= 1
            self._found[event.wait_id] = replace(self._found[event.wait_id], held_s=event.held_s, ended=True)
        else:
            self._found[event.wait_id] = replace(
                self._found[event.wait_id], waited_s=event.waited_s, ended=True
            )

    def _begun(self, event: LockWaitStarted | LockAcquired, at: float, waited_s: float) -> OpeningRecord:
        transport, conversation = event.key or ("", "")
        caller = self._caller_of.get(event.owner_id) if event.owner_id is not None else None
        return OpeningRecord(at, transport, conversation, waited_s, None, caller, ended=False)

    def recording(self, permits: int | None) -> Recording:
        if not self._found:
            raise RecordingError("no opening was recorded")
        if len(self._granularities) != 1:
            words = " and ".join(sorted(self._granularities))
            raise RecordingError(f"openings under {words} are mixed: record each manager by itself")
        (granularity,) = self._granularities
        seen = self._permits_seen or max(Settings().permits, self._at_once)
        openings = sorted(map(self._up_to_now, self._found.values()), key=lambda each: each.asked_at)
        return Recording(Option(granularity, permits or seen), tuple(openings), self._cut)

    def _up_to_now(self, opening: OpeningRecord) -> OpeningRecord:
        if opening.ended:
            return opening
        rest_s = max(0.0, self._last_at - opening.ended_at)
        if opening.held_s is None:
            return replace(opening, waited_s=rest_s)
        return replace(opening, held_s=rest_s)
