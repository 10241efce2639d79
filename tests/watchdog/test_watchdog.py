"""Real loops that really stall; the stall lasts until its report came, so nothing sleeps."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from instrumented_sessions import SessionManager, ThreadLock, live
from instrumented_sessions.chain import BlockingChain, Party
from instrumented_sessions.events import Event, LoopHeartbeat, LoopRecovered, LoopStalled, StallReport
from instrumented_sessions.observer import AMBIENT, Announcer
from instrumented_sessions.vocabulary import Phase, StallCause
from instrumented_sessions.watchdog import (
    LoopWatchdog,
    current_stalls,
    heartbeat_ages,
    process_watchdog,
    watch_loop,
    watched,
)
from instrumented_sessions.watchdog.engine import ENGINE
from instrumented_sessions.watchdog.stall import DetailBudget
from tests.watchdog.loops import RUNNERS, run_on

PATIENCE_S = 60.0


class Witness:
    """Keeps what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def on_event(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(
        self, kind: type[Event], count: int = 1, where: Callable[[Any], bool] = lambda _: True
    ) -> list[Any]:
        def found() -> list[Any]:
            return [event for event in self.events if isinstance(event, kind) and where(event)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, PATIENCE_S), self.events
            return found()

    def blaming(self) -> list[StallReport]:
        """Return the reports that blame code; a full machine adds some that blame nobody."""
        return [report for report in self.reports() if report.cause.blames_code]

    def reports_of_health(self) -> list[LoopHeartbeat]:
        return [event for event in self.events if isinstance(event, LoopHeartbeat)]

    def reports(self, kind: type[Event] = LoopStalled) -> list[StallReport]:
        return [event.report for event in self.events if isinstance(event, kind)]  # type: ignore[attr-defined]


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def watchdog(witness: Witness) -> Iterator[LoopWatchdog]:
    with LoopWatchdog(
        observers=[witness], stall_threshold_s=0.05, heartbeat_interval_s=0.02, heartbeat_span_interval_s=0.2
    ) as watchdog:
        yield watchdog


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("runner", RUNNERS)
def test_stall_is_reported_while_it_lasts_with_its_line(
    runner: str, witness: Witness, watchdog: LoopWatchdog
) -> None:
    """The program is stuck until the report of its being stuck has come."""

    def culprit() -> None:
        assert told.wait(PATIENCE_S)

    async def main() -> None:
        watchdog.watch(name="agent")
        culprit()

    told = threading.Event()
    witness.on_event = _and_then(witness.on_event, told)  # type: ignore[method-assign]
    run_on(runner, main)
    stalled = witness.blaming()[0]
    assert stalled.ongoing
    assert stalled.loop == "agent"
    assert stalled.cause is StallCause.BLOCKING_CALL
    assert stalled.culprit is not None
    assert (stalled.culprit.function, stalled.culprit.file) == ("culprit", __file__)
    assert stalled.duration_s >= 0.05
    assert stalled.stacks
    assert stalled.task
    [recovered] = witness.wait_for(LoopRecovered, where=lambda e: e.report.stall_id == stalled.stall_id)
    assert not recovered.report.ongoing
    assert recovered.report.duration_s >= stalled.duration_s


def _and_then(on_event: Callable[[Event], None], told: threading.Event) -> Callable[[Event], None]:
    def both(event: Event) -> None:
        on_event(event)
        if isinstance(event, LoopStalled) and event.report.cause.blames_code:
            told.set()

    return both


@pytest.mark.parametrize("runner", RUNNERS)
def test_healthy_loop_is_summed_up_and_never_reported(
    runner: str, witness: Witness, watchdog: LoopWatchdog
) -> None:
    """A loop that answers makes heartbeats with their lags, and no stall."""

    run_on(runner, lambda: _until_summed_up(watchdog, witness, "healthy"))
    heartbeat = witness.wait_for(LoopHeartbeat)[0]
    assert heartbeat.loop == "healthy"
    assert heartbeat.lags_s
    assert all(lag_s > -0.01 for lag_s in heartbeat.lags_s)
    assert heartbeat.window_s >= 0.2


@pytest.mark.parametrize("runner", RUNNERS)
def test_loop_that_never_waits_is_healthy(runner: str, witness: Witness, watchdog: LoopWatchdog) -> None:
    """It takes the GIL from everybody, first of all from the watchdog, but every step is short."""
    windows = 8

    async def main() -> None:
        watchdog.watch(name="saturated")
        await _until(lambda: len(witness.reports_of_health()) >= 1, pause_s=0.01)
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(_until, lambda: len(witness.reports_of_health()) >= windows)

    run_on(runner, main)
    assert witness.blaming() == []
    late = [lag_s for heartbeat in witness.reports_of_health() for lag_s in heartbeat.lags_s if lag_s > 0.05]
    assert len(late) <= len(witness.reports())  # Only what the machine added, which blames nobody.


async def _until(is_so: Callable[[], bool], pause_s: float = 0.0) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        await anyio.sleep(pause_s)


async def _until_summed_up(watchdog: LoopWatchdog, witness: Witness, name: str) -> None:
    watchdog.watch(name=name)
    while not any(isinstance(event, LoopHeartbeat) and event.loop == name for event in witness.events):
        await anyio.sleep(0.01)


def test_one_thread_watches_many_loops_and_blames_the_right_one(witness: Witness) -> None:
    """Nineteen loops beat, the twentieth is stuck: only that one is reported."""
    told = threading.Event()
    ready = threading.Barrier(20)

    def stuck() -> None:
        assert told.wait(PATIENCE_S)

    def run(number: int, watchdog: LoopWatchdog) -> None:
        async def main() -> None:
            watchdog.watch(name=f"loop-{number}")
            await asyncio.get_running_loop().run_in_executor(None, ready.wait)
            if number == 7:
                stuck()
            while not told.is_set():
                await asyncio.sleep(0.01)

        asyncio.run(main())

    witness.on_event = _and_then(witness.on_event, told)  # type: ignore[method-assign]
    with LoopWatchdog(observers=[witness], stall_threshold_s=0.5, heartbeat_interval_s=0.1) as watchdog:
        threads = [in_thread(lambda number=number: run(number, watchdog)) for number in range(20)]  # type: ignore[misc]
        for thread in threads:
            thread.join(PATIENCE_S)
    assert {report.loop for report in witness.blaming()} == {"loop-7"}
    assert _watchdog_threads() == []


def _watchdog_threads() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread.name == "instrumented-sessions-watchdog"
    ]


def test_closed_loop_is_forgotten_and_never_a_stall(witness: Witness, watchdog: LoopWatchdog) -> None:
    """A loop that was closed is no stall; its last window is summed up, and nothing of it is kept."""
    loop = asyncio.new_event_loop()
    watchdog.watch(loop, "closed")
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    witness.wait_for(LoopHeartbeat, where=lambda event: event.loop == "closed")
    assert witness.blaming() == []
    watchdog.close()  # A turn has the frames of every thread, and those have what their functions refer to.
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("runner", RUNNERS)
def test_loop_that_ends_while_it_is_busy_is_forgotten(
    runner: str, witness: Witness, watchdog: LoopWatchdog
) -> None:
    """A heartbeat that was on its way will never come, and is no stall."""

    async def main() -> None:
        watchdog.watch(name="busy")
        await _until(lambda: watchdog.statistics().heartbeats > before)

    before = watchdog.statistics().heartbeats
    run_on(runner, main)
    anyio.run(_until, lambda: watchdog.statistics().loops == 0, 0.01)
    assert witness.reports() == []


def test_loop_that_cannot_be_looked_at_does_not_hide_the_others(
    witness: Witness, watchdog: LoopWatchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails for one loop is counted, and the next one is looked at."""
    glance = watched.WatchedLoop.glance

    def glance_or_fail(self: watched.WatchedLoop, turn: Any) -> float | None:
        if self.name == "odd":
            raise LookupError
        return glance(self, turn)

    monkeypatch.setattr(watched.WatchedLoop, "glance", glance_or_fail)
    failures = watchdog.statistics().failures
    done = threading.Event()

    async def odd() -> None:
        watchdog.watch(name="odd")
        await _until(done.is_set, 0.01)

    thread = in_thread(lambda: asyncio.run(odd()))
    run_on("asyncio", lambda: _until_summed_up(watchdog, witness, "even"))
    done.set()
    thread.join(PATIENCE_S)
    assert watchdog.statistics().failures > failures


def test_nothing_of_the_program_is_kept_alive_while_observers_are_told(
    witness: Witness, watchdog: LoopWatchdog
) -> None:
    """A turn reads the frames of every thread, and is done with them before it tells anybody."""

    class Thing:
        """What a function of the program has."""

    def function() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        begun.set()
        assert told.wait(PATIENCE_S)

    def wait_for_its_end(event: Event) -> None:
        if isinstance(event, LoopHeartbeat) and begun.is_set() and not told.is_set():
            told.set()
            thread.join(PATIENCE_S)
            kept.append(things[0]() is not None)
        on_event(event)

    things: list[weakref.ref[Thing]] = []
    kept: list[bool] = []
    begun, told = threading.Event(), threading.Event()
    on_event, witness.on_event = witness.on_event, wait_for_its_end  # type: ignore[method-assign]
    thread = in_thread(function)
    assert begun.wait(PATIENCE_S)
    run_on("asyncio", lambda: _until_summed_up(watchdog, witness, "healthy"))
    assert kept == [False]


def test_loop_that_does_not_run_is_not_stalled(witness: Witness, watchdog: LoopWatchdog) -> None:
    """Between two runs a loop has nothing to answer."""
    loop = asyncio.new_event_loop()
    try:
        watchdog.watch(loop, "paused")
        loop.run_until_complete(asyncio.sleep(0))
        run_on("asyncio", lambda: _until_summed_up(watchdog, witness, "another"))
        assert "paused" not in live.read().heartbeat_age_s
        if sys.platform.startswith("linux"):
            assert "paused" not in heartbeat_ages(os.getpid())

        async def first_step() -> None:
            # Its first beat is still to come, or came just now if it was asked for before the pause.
            age_s = live.read().heartbeat_age_s.get("paused", 0.0)
            assert age_s <= time.monotonic() - resumed_at

        resumed_at = time.monotonic()
        loop.run_until_complete(first_step())
        loop.run_until_complete(asyncio.sleep(0.05))
    finally:
        loop.close()
    assert witness.blaming() == []


def test_watching_needs_no_lock_that_a_reader_waits_for(
    watchdog: LoopWatchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads holds the lock of `live` and asks for the registry's: taken the other way they never end."""
    free: list[bool] = []

    def register(source: Any) -> None:
        lock = ENGINE._registry.lock

        def ask() -> None:
            if lock.acquire(timeout=PATIENCE_S / 10):
                lock.release()
                free.append(True)

        in_thread(ask).join(PATIENCE_S)
        real(source)

    real = live.register
    monkeypatch.setattr(live, "register", register)

    async def main() -> None:
        watchdog.watch(name="asked")

    asyncio.run(main())
    assert free


def test_loop_without_a_name_is_called_after_its_thread(witness: Witness, watchdog: LoopWatchdog) -> None:
    """The main thread's loop is `main`, any other `other`; a name given later wins."""

    async def main() -> None:
        watchdog.watch()
        await asyncio.sleep(0.05)

    asyncio.run(main())
    witness.wait_for(LoopHeartbeat, where=lambda event: event.loop == "main")
    in_thread(lambda: asyncio.run(main())).join(PATIENCE_S)
    witness.wait_for(LoopHeartbeat, where=lambda event: event.loop == "other")

    async def named() -> None:
        watchdog.watch()
        watchdog.watch(name="given")
        await asyncio.sleep(0.05)

    asyncio.run(named())
    witness.wait_for(LoopHeartbeat, where=lambda event: event.loop == "given")


def test_heartbeat_ages_are_readable_while_the_loop_is_stalled(
    witness: Witness, watchdog: LoopWatchdog
) -> None:
    """Age grows while the loop is stuck, for this process and for others."""
    told = threading.Event()
    ages: list[float] = []

    def look(event: Event) -> None:
        if isinstance(event, LoopStalled):
            ages.append(live.read().heartbeat_age_s["aged"])
            if sys.platform.startswith("linux"):
                ages.append(heartbeat_ages(os.getpid())["aged"])
            told.set()

    witness.on_event = look  # type: ignore[method-assign]

    async def main() -> None:
        watchdog.watch(name="aged")
        told.wait(PATIENCE_S)

    asyncio.run(main())
    assert len(ages) >= 1
    assert all(age_s >= 0.05 for age_s in ages)


def test_age_and_cause_of_a_stall_are_readable_while_it_lasts(
    witness: Witness, watchdog: LoopWatchdog
) -> None:
    """A stall's age is told with its cause while it lasts, and is zero as soon as the loop runs again."""
    told = threading.Event()
    during: list[dict[str, float]] = []
    after: list[dict[str, float]] = []

    def ages() -> dict[str, float]:
        return {cause: age for (loop, cause), age in live.read().stall_age_s.items() if loop == "aging"}

    def look(event: Event) -> None:
        if isinstance(event, LoopStalled) and event.report.loop == "aging":
            during.append({event.report.cause.value: event.report.duration_s, **_nonzero(ages())})
            told.set()

    witness.on_event = look  # type: ignore[method-assign]

    async def main() -> None:
        watchdog.watch(name="aging")
        told.wait(PATIENCE_S)
        while not after or _nonzero(after[-1]):  # The machine may stall the loop once more.
            await asyncio.sleep(0.05)
            after.append(ages())

    asyncio.run(main())
    assert len(during[0]) == 1  # One cause, and it is the report's.
    assert all(age_s >= 0.05 for age_s in during[0].values())
    assert after[-1] == dict.fromkeys((cause.value for cause in StallCause), 0.0)
    assert ages() == {}  # A loop that has ended is forgotten.


def _nonzero(ages: dict[str, float]) -> dict[str, float]:
    return {cause: age_s for cause, age_s in ages.items() if age_s}


def test_cost_of_watching_is_told(witness: Witness, watchdog: LoopWatchdog) -> None:
    """The watchdog's own CPU time is read live, and only grows."""
    costs_s: list[float] = []

    async def main() -> None:
        watchdog.watch(name="costs")
        for count in (1, 2):
            await asyncio.to_thread(witness.wait_for, LoopHeartbeat, count)
            cost_s = live.read().watchdog_cpu_s
            assert cost_s is not None
            costs_s.append(cost_s)

    asyncio.run(main())
    assert 0 < costs_s[0] <= costs_s[1]


def test_shared_watchdog_tells_everybody_once() -> None:
    """Two managers and an ambient observer hear each event of a shared loop exactly once."""
    ambient, first, second = Witness(), Witness(), Witness()
    AMBIENT.add(ambient)
    one = process_watchdog().subscribe(
        Announcer([first]), stall_threshold_s=0.05, heartbeat_interval_s=0.02, heartbeat_span_interval_s=0.2
    )
    two = process_watchdog().subscribe(Announcer([second]), stall_threshold_s=5.0, heartbeat_interval_s=1.0)
    told = threading.Event()
    first.on_event = _and_then(first.on_event, told)  # type: ignore[method-assign]

    async def main() -> None:
        one.watch(name="shared")
        two.watch()
        watch_loop()
        told.wait(PATIENCE_S)

    try:
        asyncio.run(main())
        for each in (ambient, first, second):
            recovered = each.wait_for(LoopRecovered, where=lambda event: event.report.loop == "shared")
            ids = [event.report.stall_id for event in recovered]
            assert len(ids) == len(set(ids))
            assert len(each.blaming()) == 1
    finally:
        one.close()
        two.close()
        process_watchdog().close()
        AMBIENT.remove(ambient)


def test_observer_that_raises_harms_nobody(witness: Witness) -> None:
    """A failing observer is removed; the loop and the others go on."""

    class Bad:
        def on_event(self, event: Event) -> None:
            raise RuntimeError("bad observer")

    told = threading.Event()
    witness.on_event = _and_then(witness.on_event, told)  # type: ignore[method-assign]

    async def main() -> None:
        watchdog.watch()
        assert told.wait(PATIENCE_S)

    with LoopWatchdog(
        observers=[Bad(), witness], stall_threshold_s=0.05, heartbeat_interval_s=0.02
    ) as watchdog:
        asyncio.run(main())
    assert len(witness.blaming()) == 1


def test_closing_is_idempotent_and_ends_the_thread(watchdog: LoopWatchdog) -> None:
    """After `close` no thread and no heartbeat is left."""

    async def main() -> None:
        watchdog.watch()
        await asyncio.sleep(0.05)
        await asyncio.get_running_loop().run_in_executor(None, watchdog.close)

    asyncio.run(main())
    watchdog.close()
    assert _watchdog_threads() == []
    with pytest.raises(RuntimeError, match="closed"):
        watchdog.watch()


def test_only_loops_can_be_watched(watchdog: LoopWatchdog) -> None:
    """What is no loop is refused, and so is a thread without one."""
    with pytest.raises(TypeError, match="asyncio loops"):
        watchdog.watch(object())
    with pytest.raises(RuntimeError, match="no event loop runs"):
        watchdog.watch()
    with pytest.raises(ValueError, match="stall_threshold_s"):
        LoopWatchdog(stall_threshold_s=0)


def test_report_has_what_waits_on_that_loop(witness: Witness, watchdog: LoopWatchdog) -> None:
    """A lock that stalls the loop is told with its holder; several sources tell of one wait once."""

    class Source:
        def read_live(self) -> live.Reading:
            return live.Reading()

        def waits_live(self, thread_id: int) -> list[BlockingChain]:
            waiter = Party("main", thread_id)
            return [BlockingChain(None, Phase.LOCK, waited_s, waiter, 1.0) for waited_s in (0.2, 0.1)]

    sources = [Source(), Source()]
    told = threading.Event()
    witness.on_event = _and_then(witness.on_event, told)  # type: ignore[method-assign]
    found: list[list[StallReport]] = []

    async def main() -> None:
        watchdog.watch(name="waits")
        assert told.wait(PATIENCE_S)
        found.append(current_stalls())

    for source in sources:
        live.register(source)
    try:
        asyncio.run(main())
    finally:
        for source in sources:
            live.retire(source)
    report = witness.blaming()[0]
    assert [chain.waited_s for chain in report.waits] == [0.2]
    assert report.waits[0].waiter.thread_id == report.thread_id
    [stall] = [stall for stall in found[0] if stall.loop == "waits"]
    assert stall.stall_id == report.stall_id
    assert stall.duration_s >= report.duration_s
    assert str(stall).startswith("loop 'waits' has stood still for ")
    assert str(report.waits[0]) in str(stall)
    witness.wait_for(LoopRecovered, where=lambda event: event.report.stall_id == report.stall_id)
    assert [stall for stall in watchdog.stalls() if stall.loop == "waits"] == []


def test_stall_in_a_lock_is_told_with_its_holder_and_explained(
    witness: Witness, watchdog: LoopWatchdog
) -> None:
    """The manager knows who holds what the loop's thread waits for; `explain()` has the line of the stall."""
    lock, taken = ThreadLock("ledger"), threading.Event()
    explained: list[str] = []
    reports: list[LoopStalled] = []

    def of_the_lock(event: Any) -> bool:
        return event.report.culprit is not None and event.report.culprit.function == "culprit"

    def hold() -> None:
        with lock:
            taken.set()
            reports.extend(witness.wait_for(LoopStalled, where=of_the_lock))
            explained.append(manager.explain())

    def culprit() -> None:
        with lock:
            pass

    async def main() -> None:
        watchdog.watch(name="ledger-loop")
        assert await asyncio.get_running_loop().run_in_executor(None, taken.wait, PATIENCE_S)
        culprit()

    with SessionManager() as manager:
        holder = in_thread(hold)
        asyncio.run(main())
        holder.join(PATIENCE_S)
    [chain] = reports[0].report.waits
    assert "ledger" in chain.links[0].waits_for
    assert chain.links[0].holder is not None
    assert chain.links[0].holder.thread_id == holder.ident
    assert "Loop 'ledger-loop' has stood still for" in explained[0]
    assert "culprit (watchdog/test_watchdog.py:" in explained[0]


def test_one_of_very_many_stalls_is_told_without_details(
    witness: Witness, watchdog: LoopWatchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the budget a stall is still counted, and told with its line."""
    monkeypatch.setattr(watched, "DetailBudget", lambda: DetailBudget(per_minute=0))
    told = threading.Event()
    witness.on_event = _and_then(witness.on_event, told)  # type: ignore[method-assign]

    async def main() -> None:
        watchdog.watch(name="many")
        assert told.wait(PATIENCE_S)

    asyncio.run(main())
    report = witness.blaming()[0]
    assert not report.detailed
    assert report.stacks == report.waits == ()
    assert report.culprit is not None
    assert report.culprit.function == "main"
