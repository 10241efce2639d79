"""Reports of work that is still open, because a span is exported only when it ends.

While a wait lasts, its span is invisible to every backend. So after 1, 5, 15 and 60 s, and then each
60 s, a short child span is made that is back-dated to the start, and a log event in the open span.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from ... import live
from ...chain import BlockingChain
from ...clock import SYSTEM_CLOCK, Clock
from .. import catalog
from ..logs import EVENT_IN_PROGRESS, Logs
from .facts import facts_of, sentence
from .spans import add_stacks, nanoseconds
from .work import Work, WorkKind, WorkTable

Explain = Callable[[int], "BlockingChain | None"]
"""Tells why the request, opening, call or wait of that id waits, and what its holder is doing."""

THREAD_NAME = "instrumented-sessions-in-progress"
_MAX_REPORTS_PER_S = 100  # When thousands wait for one lock, all their reports would drown other spans.
_USUAL_S = {WorkKind.REQUEST: 5.0, WorkKind.OPENING: 5.0, WorkKind.CALL: 15.0}
"""What is no news while it takes less, in seconds; a wait for a lock inside has a report of its own."""

logger = logging.getLogger(__name__)


class Reporter:
    """Reports open work when it is due, from a daemon thread of its own that no loop can block.

    Args:
        tracer: Where child spans are made; they are sampled as their parent is.
        logs: Where log events are written.
        table: The open work, to find out who it waits for.
        clock: Tells when a report is due. A test that moves it passes `own_thread=False` and calls
            `report_due()`.
        explain: Tells why something waits. Default `live.explain`. When it raises, the report does without.
        own_thread: Whether a thread reports. Default True; it starts with the first work.
    """

    def __init__(
        self,
        tracer: trace.Tracer,
        logs: Logs,
        table: WorkTable,
        *,
        clock: Clock = SYSTEM_CLOCK,
        explain: Explain = live.explain,
        own_thread: bool = True,
    ) -> None:
        self.explain = explain
        self._tracer = tracer
        self._logs = logs
        self._table = table
        self._clock = clock
        self._own_thread = own_thread
        self._closed = False
        self._allowance = _Allowance(_MAX_REPORTS_PER_S)
        self.reset()

    @property
    def dropped(self) -> int:
        """How many reports were left out because too much is open."""
        return self._allowance.refused

    def reset(self) -> None:
        """Forget all work; called in the child after a fork, where the thread does not run."""
        # Protects what follows. Callers take the lock itself: Ctrl-C in a condition's `__enter__`, which is
        # Python, would leave it taken for ever.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._due: list[tuple[float, int, float, Work]] = []  # A heap: due, tie-breaker, opened, work.
        self._tie = itertools.count()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None

    def add(self, work: Work) -> None:
        """Report `work` until it is done."""
        age_s = max(0.0, self._clock.time() - work.started_at)
        opened = self._clock.monotonic() - age_s
        due = opened + catalog.IN_PROGRESS_AFTER_S[0]
        with self._lock:
            if self._closed:
                return
            heapq.heappush(self._due, (due, next(self._tie), opened, work))
            if not self._own_thread:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # The system gives no thread; the next work tries again.
                    self._thread = None
            elif due < self._wakes_at:
                self._changed.notify()

    def report_due(self) -> float:
        """Report what is due and return how many seconds remain until the next report; infinity for none."""
        now = self._clock.monotonic()
        late: list[Work] = []
        with self._lock:
            while self._due and (self._due[0][3].done or self._due[0][0] <= now):
                _, _, opened, work = heapq.heappop(self._due)
                if work.done:
                    continue
                late.append(work)
                # Counted from now: a process that was held up reports once, not for each instant it missed.
                due = opened + _next_report_s(now - opened)
                heapq.heappush(self._due, (due, next(self._tie), opened, work))
            next_due = self._due[0][0] if self._due else float("inf")
        for work in late:
            if not work.done and self._allowance.take(now):
                try:
                    self._report(work)
                except Exception:  # Telemetry never harms the program, and the next report may work.
                    logger.exception("a report of %s in progress failed", work.name)
        return next_due - now

    def close(self, timeout_s: float = 5.0) -> None:
        """Report no more and end the thread, waiting for it at most `timeout_s` seconds."""
        with self._lock:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            remaining_s = self.report_due()
            with self._lock:
                if self._closed:
                    return
                if self._due:  # Work may have come since.
                    remaining_s = min(remaining_s, self._due[0][0] - self._clock.monotonic())
                if remaining_s > 0:
                    self._wakes_at = self._clock.monotonic() + remaining_s
                    self._changed.wait(None if remaining_s == float("inf") else remaining_s)
                    self._wakes_at = float("-inf")

    def _report(self, work: Work) -> None:
        at = self._clock.time()
        open_s = max(0.0, at - work.started_at)
        chain = self._chain(work)
        facts, links = facts_of(work, self._table, chain, at)
        parent = trace.set_span_in_context(work.span)
        body = str(chain) if chain is not None else sentence(work, facts, open_s)
        level = logging.INFO if open_s < _USUAL_S.get(work.kind, 0.0) else logging.WARNING
        self._logs.write(EVENT_IN_PROGRESS, body, level=level, attributes=facts, context=parent, at=at)
        if not work.context.trace_flags.sampled:
            return
        span = self._tracer.start_span(
            work.name + catalog.IN_PROGRESS_SUFFIX,
            context=parent,
            kind=SpanKind.INTERNAL,
            attributes=facts,
            links=links,
            start_time=nanoseconds(work.started_at),
        )
        if (report := work.facts.get("report")) is not None and span.is_recording():
            add_stacks(span, report, nanoseconds(at))
        span.end(max(nanoseconds(at), nanoseconds(work.started_at)))

    def _chain(self, work: Work) -> BlockingChain | None:
        if work.kind is WorkKind.STALL:
            return None
        try:
            return self.explain(work.id if work.owner_id is None else work.owner_id)
        except Exception:
            logger.debug("no explanation of %s %s", work.kind.value, work.id, exc_info=True)
            return None


class _Allowance:
    """Allows so many in each second."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._until = float("-inf")
        self._left = 0
        self.refused = 0

    def take(self, now: float) -> bool:
        """Return whether one more is allowed; counts it when not."""
        if now >= self._until:
            self._until, self._left = now + 1.0, self._per_s
        if self._left == 0:
            self.refused += 1
            return False
        self._left -= 1
        return True


def _next_report_s(age_s: float) -> float:
    """Return at which age work that is `age_s` old is reported next."""
    *_, last = catalog.IN_PROGRESS_AFTER_S
    return next((after for after in catalog.IN_PROGRESS_AFTER_S if after > age_s), last * (age_s // last + 1))
