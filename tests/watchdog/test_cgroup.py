"""How long control groups were throttled, read from files as the kernel writes them."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from instrumented_sessions.watchdog.cgroup import Throttling, between_s


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def throttled_s(root: Path) -> dict[str, float]:
    with closing(Throttling(str(root))) as throttling:
        return throttling.read()


def test_version_2_covers_the_group_and_those_around_it(tmp_path: Path) -> None:
    """A quota is often set on the pod, around the container."""
    write(tmp_path, "proc/self/cgroup", "0::/pod/container\n")
    write(tmp_path, "sys/fs/cgroup/pod/cpu.stat", "usage_usec 9\nnr_throttled 2\nthrottled_usec 1500000\n")
    write(tmp_path, "sys/fs/cgroup/pod/container/cpu.stat", "usage_usec 9\nthrottled_usec 250000\n")
    mount = f"{tmp_path}/sys/fs/cgroup"
    assert throttled_s(tmp_path) == {f"{mount}/pod": 1.5, f"{mount}/pod/container": 0.25}


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_1_is_read_from_the_cpu_controllers_mount(tmp_path: Path, mount: str) -> None:
    """It counts nanoseconds, and other controllers have groups of their own."""
    write(tmp_path, "proc/self/cgroup", f"4:memory:/elsewhere\n2:{mount}:/job\n0::/\n")
    write(tmp_path, f"sys/fs/cgroup/{mount}/job/cpu.stat", "nr_throttled 1\nthrottled_time 300000000\n")
    assert throttled_s(tmp_path) == {f"{tmp_path}/sys/fs/cgroup/{mount}/job": 0.3}


def test_container_that_sees_only_its_mount_is_read_there(tmp_path: Path) -> None:
    """The path in /proc may be that of the host."""
    write(tmp_path, "proc/self/cgroup", "0::/host/only\n")
    write(tmp_path, "sys/fs/cgroup/cpu.stat", "throttled_usec 1000\n")
    assert throttled_s(tmp_path) == {f"{tmp_path}/sys/fs/cgroup": 0.001}


@pytest.mark.parametrize("text", ["", "nonsense", "0::/\n"])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, text: str) -> None:
    """No files, strange files, or no quota: no figures, and no error."""
    write(tmp_path, "proc/self/cgroup", text)
    write(tmp_path, "sys/fs/cgroup/cpu.stat", "a line that is no pair\n")
    assert throttled_s(tmp_path) == {}
    assert throttled_s(tmp_path / "nothing") == {}


def test_group_that_was_throttled_longest_counts() -> None:
    """The time of the groups overlaps, so it is not added."""
    assert between_s({"a": 1.0, "b": 5.0}, {"a": 1.5, "b": 5.1}) == pytest.approx(0.5)


def test_process_that_was_moved_is_not_charged_for_its_new_group() -> None:
    """What that group was throttled before is not known."""
    assert between_s({"old": 1.0}, {"new": 99.0}) is None


def test_figures_are_read_anew_and_from_where_the_process_is_now(tmp_path: Path) -> None:
    """The files stay open, but a process may be moved, and a group may go."""
    write(tmp_path, "proc/self/cgroup", "0::/one\n")
    write(tmp_path, "sys/fs/cgroup/one/cpu.stat", "throttled_usec 1000\n")
    write(tmp_path, "sys/fs/cgroup/two/cpu.stat", "throttled_usec 5000\n")
    mount = f"{tmp_path}/sys/fs/cgroup"
    with closing(Throttling(str(tmp_path))) as throttling:
        assert throttling.read() == {f"{mount}/one": 0.001}
        write(tmp_path, "sys/fs/cgroup/one/cpu.stat", "throttled_usec 2000\n")
        assert throttling.read() == {f"{mount}/one": 0.002}
        write(tmp_path, "proc/self/cgroup", "0::/two\n")
        assert throttling.read() == {f"{mount}/two": 0.005}
        write(tmp_path, "proc/self/cgroup", "0::/gone\n")
        assert throttling.read() == {}


def open_below(directory: Path) -> list[str]:
    descriptors = Path("/proc/self/fd")
    found = [os.readlink(file) for file in descriptors.iterdir() if file.exists()]
    return sorted(path for path in found if path.startswith(str(directory)))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="this system lists no descriptors")
@pytest.mark.parametrize("group", ["/", "/one", "/one/two"])
def test_each_file_is_opened_once_and_given_back(tmp_path: Path, group: str) -> None:
    """Also for a process in the root of all groups."""
    write(tmp_path, "proc/self/cgroup", f"0::{group}\n")
    write(tmp_path, f"sys/fs/cgroup{group}/cpu.stat", "throttled_usec 1000\n")
    write(tmp_path, "sys/fs/cgroup/cpu.stat", "throttled_usec 1000\n")
    with closing(Throttling(str(tmp_path))) as throttling:
        throttling.read()
        opened = open_below(tmp_path)
        assert f"{tmp_path}/sys/fs/cgroup/cpu.stat" in opened
        assert len(opened) == len(set(opened))
    assert open_below(tmp_path) == []
