"""What is concluded from which evidence; nobody is blamed without any."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrumented_sessions.vocabulary import StallCause
from instrumented_sessions.watchdog.causes import Evidence, decide

QUIET = Evidence(
    window_s=0.1,
    cpu_s=0.0,
    run_delay_s=0.0,
    throttled_s=0.0,
    own_run_delay_s=0.0,
    gil_wait_s=0.0,
    process_cpu_s=0.0,
)
"""Linux, and nothing happened."""
ASLEEP = replace(QUIET, sleeping=1.0)
LATE = replace(QUIET, late_s=0.09)


def test_thread_asleep_outside_its_selector_is_a_blocking_call() -> None:
    """It waits in the system, and not for its next event."""
    assert decide(ASLEEP) is StallCause.BLOCKING_CALL


def test_loop_that_waits_for_its_next_event_is_nobodys_fault() -> None:
    """With an overdue timer somebody is late, but not the program."""
    assert decide(replace(QUIET, idle=1.0)) is StallCause.UNKNOWN


def test_thread_on_a_cpu_is_cpu_while_others_can_run() -> None:
    """The watchdog came in time, so the GIL was free now and then."""
    assert decide(replace(QUIET, cpu_s=0.09, runnable=1.0)) is StallCause.CPU


def test_thread_on_a_cpu_that_lets_nobody_run_holds_the_gil() -> None:
    """The watchdog wanted to run and could not."""
    assert decide(replace(LATE, cpu_s=0.09, runnable=1.0, gil_wait_s=0.08)) is StallCause.GIL


def test_late_watchdog_that_had_no_cpu_proves_nothing_about_the_gil() -> None:
    """On a full machine the loop's thread runs and the watchdog waits for a CPU: the code is still busy."""
    assert decide(replace(LATE, cpu_s=0.09, own_run_delay_s=0.08)) is StallCause.CPU
    asking = replace(LATE, cpu_s=0.09, own_run_delay_s=0.05, gil_wait_s=0.04)
    assert decide(asking) is StallCause.GIL


def test_watchdog_that_meant_to_sleep_for_most_of_it_judges_by_the_rest() -> None:
    """It had not looked yet when the GIL was taken; all the time it wanted to look, it could not."""
    late = replace(QUIET, cpu_s=0.09, late_s=0.03, asleep_s=0.07, gil_wait_s=0.03)
    assert decide(late) is StallCause.GIL
    assert decide(replace(late, gil_wait_s=0.005)) is StallCause.CPU


def test_native_code_that_sleeps_with_the_gil_is_found_by_the_watchdogs_own_wait() -> None:
    """Nobody is on a CPU, but the watchdog was awake all the time."""
    assert decide(replace(LATE, gil_wait_s=0.08, sleeping=1.0)) is StallCause.GIL


def test_process_in_which_nobody_ran_and_nobody_waited_was_suspended() -> None:
    """A stopped process, or a paused machine."""
    assert decide(LATE) is StallCause.SUSPENDED


@pytest.mark.parametrize("late_s", [0.0, 0.09])
def test_runnable_thread_without_a_cpu_is_starved(late_s: float) -> None:
    """The system did not schedule it, whether the watchdog came in time or not."""
    starved = replace(QUIET, run_delay_s=0.09, runnable=1.0, late_s=late_s)
    assert decide(starved) is StallCause.STARVED


def test_busy_code_on_a_busy_machine_is_still_busy_code() -> None:
    """A thread that gets a good part of what it asks for is slow by itself; one that gets little starves."""
    shared = replace(QUIET, cpu_s=0.04, run_delay_s=0.06, runnable=1.0)
    assert decide(shared) is StallCause.CPU
    assert decide(replace(shared, run_delay_s=0.0)) is StallCause.CPU
    assert decide(replace(shared, late_s=0.09, own_run_delay_s=0.09)) is StallCause.CPU
    assert decide(replace(shared, cpu_s=0.01, run_delay_s=0.09)) is StallCause.STARVED


def test_delay_that_still_goes_on_counts_though_the_system_has_not_booked_it() -> None:
    """Runnable in every sample and never on a CPU."""
    assert decide(replace(QUIET, runnable=1.0)) is StallCause.STARVED


def test_starved_watchdog_says_that_the_machine_is_full() -> None:
    """It was the watchdog that waited for a CPU; of the loop nothing is known."""
    assert decide(replace(LATE, own_run_delay_s=0.08)) is StallCause.STARVED


@pytest.mark.parametrize("late_s", [0.0, 0.09])
def test_quota_that_is_used_up_is_throttled(late_s: float) -> None:
    """The control group may not run, so it is neither the code nor the machine."""
    throttled = replace(QUIET, throttled_s=0.09, run_delay_s=0.09, runnable=1.0, late_s=late_s)
    assert decide(throttled) is StallCause.THROTTLED


def test_thread_asleep_is_not_throttled() -> None:
    """Other CPUs of the group may be throttled while this thread waits by itself."""
    assert decide(replace(ASLEEP, throttled_s=0.09)) is StallCause.BLOCKING_CALL


def test_collector_that_ran_for_most_of_it_is_gc() -> None:
    """It holds the GIL and uses a CPU, so it has to be told before both; known on every system."""
    assert decide(replace(LATE, cpu_s=0.09, gc_s=0.08, gil_wait_s=0.08)) is StallCause.GC
    assert decide(Evidence(window_s=0.1, gc_s=0.08)) is StallCause.GC


def test_code_that_ran_long_enough_is_blamed_however_slowly_it_was_scheduled() -> None:
    """It would have stalled the loop on an empty machine as well."""
    slow = Evidence(window_s=1.0, enough_s=0.25, cpu_s=0.3, run_delay_s=0.7, runnable=1.0)
    assert decide(slow) is StallCause.CPU
    assert decide(replace(slow, late_s=0.9, gil_wait_s=0.9)) is StallCause.GIL
    assert decide(replace(slow, enough_s=0.5, cpu_s=0.1)) is StallCause.STARVED


@given(
    st.builds(
        Evidence,
        window_s=st.floats(0.01, 10),
        runnable=st.floats(0, 1),
        sleeping=st.floats(0, 1),
        idle=st.floats(0, 1),
        late_s=st.floats(0, 10),
    )
)
def test_without_evidence_nobody_is_blamed(evidence: Evidence) -> None:
    """Where the system tells nothing of threads, the cause is unknown, never a guess."""
    assert decide(evidence) is StallCause.UNKNOWN


@given(window_s=st.floats(0.01, 10), share=st.floats(0, 0.45))
def test_idle_or_stopped_loop_is_never_blamed(window_s: float, share: float) -> None:
    """Whatever little it ran."""
    for quiet in (replace(QUIET, idle=1.0), replace(QUIET, late_s=window_s)):
        assert not decide(replace(quiet, window_s=window_s, cpu_s=share * window_s)).blames_code
