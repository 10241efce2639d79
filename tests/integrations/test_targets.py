"""Labels of foreign sessions: few values, and no secret in any of them."""

from __future__ import annotations

import pytest

from instrumented_sessions.integrations.auto.targets import OTHER, Labels, Target, of_command, of_url


@pytest.mark.parametrize(
    ("line", "id"),
    [
        ("python weather_server.py --token secret", "weather_server.py"),
        ("/usr/bin/python3.12 -u -m weather.server secret", "weather.server"),
        ("npx -y @scope/server-github secret", "server-github"),
        ("uv run server.py", "server.py"),
        ("uvx --quiet mcp-server-time", "mcp-server-time"),
        ("/opt/bin/my-server --token secret", "my-server"),
        ("my-server secret", "my-server"),
        ("uvx git+https://user:secret@host/", "uvx"),
        ("python", "python"),
        ("python -c secret", "python"),
    ],
)
def test_child_process_is_named_by_its_program(line: str, id: str) -> None:
    """A launcher by what it launches, anything else by itself; options never."""
    command, *args = line.split()
    assert of_command(command, args) == Target("stdio", id)


@pytest.mark.parametrize(
    ("url", "id"),
    [
        ("https://user:secret@mcp.example.com/s/secret/mcp?token=secret", "mcp.example.com"),
        ("http://127.0.0.1:8000/mcp", "127.0.0.1:8000"),
        ("nonsense", "http"),
    ],
)
def test_address_is_named_by_host_and_port(url: str, id: str) -> None:
    """User, path and query stay out of it."""
    assert of_url("http", url) == Target("http", id)


def test_number_of_labels_is_bounded() -> None:
    """What comes later is one label, and what was known stays known."""
    labels = Labels(max_ids=2)
    first, second, third = (Target("http", name) for name in "abc")
    assert [labels.bounded(target).id for target in (first, second, third, first)] == ["a", "b", OTHER, "a"]
