"""Labels of foreign sessions: few values, and no secret in any of them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instrumented_sessions.integrations.auto import launchers
from instrumented_sessions.integrations.auto.targets import OTHER, Labels, Target, of_command, of_url

LAUNCHERS = [*launchers._LAUNCHERS, "python3.12", "/usr/bin/node"]
_KNOWN = launchers._LAUNCHERS.values()
KNOWN_WITH_VALUE = sorted({word for launcher in _KNOWN for word in launcher.valued})
KNOWN_WITHOUT_VALUE = {word for launcher in _KNOWN for word in (*launcher.flags, *launcher.naming)}


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
        ("python -X dev weather.py", "weather.py"),
        ("python -W ignore -m pkg.server --token secret", "pkg.server"),
        ("python run secret", "run"),
        ("node --api-key secret server.js", "server.js"),
        ("node --require ./secret.js server.js", "server.js"),
        ("node --unheard-of server.js secret.js", "node"),
        ("npx --unheard-of server secret", "npx"),
        ("npx -p typescript tsx server.ts", "tsx"),
        ("uv run --with mcp server.py", "server.py"),
        ("uv --directory /home/secret run server.py", "server.py"),
        ("uv run --with mcp python -m pkg.server", "pkg.server"),
        ("uv tool run --from secret server", "server"),
        ("uvx --from git+https://u:secret@host/x server", "server"),
        ("uvx git+https://u:secret@host/secret", "uvx"),
        ("bash -lc TOKEN=secret", "bash"),
        ("bash start.sh secret", "start.sh"),
        ("java -Dtoken=secret -jar /opt/server.jar", "server.jar"),
        ("docker run -e TOKEN=secret image", "docker"),
        ("env TOKEN=a/secret node x.js", "env"),
        ("http://host/secret", "stdio"),
    ],
)
def test_child_process_is_named_by_its_program(line: str, id: str) -> None:
    """A launcher by what it launches, anything else by itself; options never."""
    command, *args = line.split()
    assert of_command(command, args) == Target("stdio", id)


_secrets = st.text(string.ascii_letters + string.digits + "_", min_size=3).map("sk_live_SECRET".__add__)
_names = st.text(string.ascii_lowercase, min_size=2, max_size=12)
_spaced = st.tuples(
    st.one_of(
        _names.map("--{}".format),
        st.sampled_from(string.ascii_letters).map("-{}".format),
        st.sampled_from([*KNOWN_WITH_VALUE]),
    ),
    _secrets,
)
_option = st.one_of(
    _spaced.filter(lambda pair: pair[0] not in KNOWN_WITHOUT_VALUE),
    _spaced.map(lambda pair: (f"{pair[0]}={pair[1]}",)),
    st.tuples(_names.map("--{}".format), _secrets, _secrets),
)


@given(
    launcher=st.sampled_from(LAUNCHERS),
    options=st.lists(_option, min_size=1, max_size=4),
    program=st.sampled_from([[], ["server.py"], ["server"], ["--", "server"], ["run", "server.js"]]),
    arguments=st.lists(_secrets, max_size=3),
)
def test_value_of_an_option_is_never_a_label(
    launcher: str, options: list[tuple[str, ...]], program: list[str], arguments: list[str]
) -> None:
    """Whatever options a launcher may have, known here or not, and whatever follows its program."""
    words = [word for option in options for word in option]
    assert "SECRET" not in of_command(launcher, [*words, *program, *(arguments if program else [])]).id


@pytest.mark.parametrize(
    "text", ["node --key SECRET", "/bin/sh -c 'x a/SECRET'", "a=b/SECRET", "u:p@h/SECRET"]
)
def test_command_that_is_no_path_is_no_label(text: str) -> None:
    """A whole command line, an assignment or an address, given as the command."""
    assert of_command(text) == Target("stdio", "stdio")


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
