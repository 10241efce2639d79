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
from opentelemetry.trace import Link, SpanKind

from ...chain import BlockingChain
from ...clock import SYSTEM_CLOCK, Clock
from ...vocabulary import Phase
from .. import catalog
from ..logs import EVENT_IN_PROGRESS, Logs
from . import attributes
from .spans import add_stacks, nanoseconds
from .work import Attributes, Work, WorkKind, WorkTable

Explain = Callable[[WorkKind, int], "BlockingChain | None"]
"""Tells why the work of that kind and id waits: its phase, its holder, what the holder is doing."""

THREAD_NAME = "instrumented-sessions-in-progress"
_MAX_REPORTS_PER_S = (
    100  # When thousands wait for one lock, a hundred say it; the rest would drown other spans.
)
_QUIET_UNTIL_S = 15.0  # Openings and calls that take less are usual; a log line each would be noise.

logger = logging.getLogger(__name__)


class Reporter:
    """Reports open work when it is due, from a daemon thread of its own that no loop can block.

    Args:
        tracer: Where child spans are made; they are sampled as their parent is.
        logs: Where log events are written.
        table: The open work, to find out who it waits for.
        clock: Tells when a report is due. A test that moves it passes `own_thread=False` and calls
            `report_due()`.
        explain: Tells why something waits; may be set later. One that raises is ignored for that report.
        own_thread: Whether a thread reports. Default True; it starts with the first work.
    """

    def __init__(
        self,
        tracer: trace.Tracer,
        logs: Logs,
        table: WorkTable,
        *,
        clock: Clock = SYSTEM_CLOCK,
        explain: Explain | None = None,
        own_thread: bool = True,
    ) -> None:
        self.explain = explain
        self._tracer = tracer
        self._logs = logs
        self._table = table
        self._clock = clock
        self._own_thread = own_thread
        self._allowance = _Allowance(_MAX_REPORTS_PER_S)
        self.reset()

    @property
    def dropped(self) -> int:
        """How many reports were left out because too much is open."""
        return self._allowance.refused

    def reset(self) -> None:
        """Forget all work; called in the child after a fork, where the thread does not run."""
        self._changed = threading.Condition()  # Protects what follows.
        self._due: list[tuple[float, int, float, Work]] = []  # A heap: due, tie-breaker, opened, work.
        self._tie = itertools.count()
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, work: Work) -> None:
        """Report `work` until it is done."""
        age_s = max(0.0, self._clock.time() - work.started_at)
        opened = self._clock.monotonic() - age_s
        due = opened + catalog.IN_PROGRESS_AFTER_S[0]
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._due, (due, next(self._tie), opened, work))
            if not self._own_thread:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                self._thread.start()
            elif due < self._wakes_at:
                self._changed.notify()

    def report_due(self) -> float:
        """Report what is due and return how many seconds remain until the next report; infinity for none."""
        now = self._clock.monotonic()
        late: list[Work] = []
        with self._changed:
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
                self._report(work)
        return next_due - now

    def close(self, timeout_s: float = 5.0) -> None:
        """Report no more and end the thread, waiting for it at most `timeout_s` seconds."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                remaining_s = self.report_due()
            except Exception:  # Telemetry never harms the program, and the next report may work.
                logger.exception("a report of work in progress failed")
                remaining_s = 1.0
            with self._changed:
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
        facts, links = self._facts(work, chain, open_s)
        parent = trace.set_span_in_context(work.span)
        body = str(chain) if chain is not None else _sentence(work, facts, open_s)
        level = logging.INFO if _is_usual(work, open_s) else logging.WARNING
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
        if self.explain is None or work.kind is WorkKind.STALL:
            return None
        try:
            return self.explain(work.kind, work.id)
        except Exception:
            logger.debug("no explanation of %s %s", work.kind.value, work.id, exc_info=True)
            return None

    def _facts(
        self, work: Work, chain: BlockingChain | None, open_s: float
    ) -> tuple[Attributes, tuple[Link, ...]]:
        """Return what is known now: the work's own facts, then the holder's, as far down as events tell."""
        facts = {key: value for key, value in work.attributes.items() if key != catalog.MCP_METHOD}
        facts.update({catalog.IN_PROGRESS: True, catalog.WAITED_S: open_s})
        if work.party is not None:
            facts.update(attributes.party(work.party))
        links = work.links
        phase = work.phase
        waits_on = work if work.kind is WorkKind.WAIT else work.wait
        opening = self._table.opening_of(work.key) if work.kind is WorkKind.REQUEST else None
        if opening is not None:
            waits_on = opening.wait
            phase = Phase.CONNECT
            if opening.context.is_valid:
                links = (Link(opening.context),)
        if waits_on is not None:
            phase = Phase.LOCK
            if waits_on is not work:
                links = (*links, *waits_on.links)
                for key, value in waits_on.attributes.items():
                    facts.setdefault(key, value)
            held_s = facts.get(catalog.HOLDER_HELD_S)
            if isinstance(held_s, (int, float)):  # It has held on since the wait began.
                facts[catalog.HOLDER_HELD_S] = held_s + max(0.0, self._clock.time() - waits_on.started_at)
        if chain is not None:
            phase = chain.phase
            facts.update(_explained(chain))
        if phase is not None:
            facts[catalog.PHASE] = phase.value
        return facts, links


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


def _explained(chain: BlockingChain) -> Attributes:
    """Return the end of the chain, where the reason is."""
    facts: Attributes = {}
    if chain.waiter_stack:
        facts[catalog.STACK] = "\n".join(chain.waiter_stack)
    for link in chain.links:
        facts[catalog.DOING] = link.doing
        if link.holder is not None:
            facts.update(attributes.holder(link.holder, link.held_s))
        if link.stack:
            facts[catalog.HOLDER_STACK] = "\n".join(link.stack)
    return facts


def _sentence(work: Work, facts: Attributes, open_s: float) -> str:
    """Return one sentence for people: who, what, how long, and whom it waits for."""
    if work.kind is WorkKind.STALL:
        report = work.facts["report"]
        where = f" at {report.culprit}" if report.culprit is not None else ""
        return f"loop {report.loop!r} has not run for {open_s:.1f} s, cause {report.cause}{where}"
    what = f"{work.name} of session {work.key}" if work.key is not None else work.name
    text = f"{what} still in progress after {open_s:.1f} s"
    if catalog.PHASE in facts:
        text += f", phase {facts[catalog.PHASE]!s}"
    if work.party is not None:
        text += f", asked by {work.party}"
    if catalog.HOLDER in facts:
        text += f"; waits for {facts[catalog.LOCK_NAME]!s}, held"
        if isinstance(held_s := facts[catalog.HOLDER_HELD_S], float):
            text += f" for {held_s:.1f} s"
        text += f" by {facts[catalog.HOLDER]!s}"
    return text


def _is_usual(work: Work, open_s: float) -> bool:
    """Return whether a report deserves no warning; the wait for a lock inside has a report of its own."""
    return work.kind in (WorkKind.OPENING, WorkKind.CALL) and open_s < _QUIET_UNTIL_S


def _next_report_s(age_s: float) -> float:
    """Return at which age work that is `age_s` old is reported next."""
    *_, last = catalog.IN_PROGRESS_AFTER_S
    return next((after for after in catalog.IN_PROGRESS_AFTER_S if after > age_s), last * (age_s // last + 1))
