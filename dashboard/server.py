"""Runs the dashboard: one address for the page, the API and OTLP/HTTP."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn

from .app import Dashboard, create_app
from .store import StoreError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4318
"""OTLP/HTTP's own port, so that exporters need no setting."""
TOKEN_VARIABLE = "INSTRUMENTED_SESSIONS_DASHBOARD_TOKEN"
HOSTS_VARIABLE = "INSTRUMENTED_SESSIONS_DASHBOARD_HOSTS"
"""More names the dashboard may be asked for, behind a proxy or in a container; with commas between them."""
_GRACE_S = 1


class ServeError(Exception):
    """The dashboard cannot run as asked; the message says why and what to do."""


class Server(uvicorn.Server):
    """A server that ends live streams first, so that Ctrl-C does not wait for browsers.

    Args:
        app: The dashboard.
        listener: The socket it listens on.
        ready: Called with the address when it answers.
    """

    def __init__(self, app: Dashboard, listener: socket.socket, ready: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
                timeout_keep_alive=75,  # Longer than exporters pause between two requests.
            )
        )
        self._dashboard = app
        self._listener = listener
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._ready(address_of(self._listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        await self._dashboard.hub.close()
        await super().shutdown(sockets)

    def run_here(self) -> None:
        """Serve until told to stop; on the main thread, Ctrl-C and SIGTERM do."""
        self.run([self._listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any that is free.

    Raises:
        ServeError: The address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {host}:{port} ({error.strerror or error});"
            " choose another with --port or --host"
        ) from error


def address_of(listener: socket.socket) -> str:
    """Return the address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    db: str | os.PathLike[str] | None = None,
    token: str | None = None,
) -> None:
    """Run the dashboard until Ctrl-C or SIGTERM; prints its address on one line when it answers.

    Args:
        host: The address to listen on. Default 127.0.0.1; any that others reach needs a token.
        port: The port. Default 4318; 0 for any that is free.
        db: The database file, made when it is not there; None (default) keeps nothing after the end.
        token: The secret every request must show. Default: the environment variable
            `INSTRUMENTED_SESSIONS_DASHBOARD_TOKEN`.

    Raises:
        ServeError: The address is taken or not ours, a token is missing, or the database cannot be used.
    """
    token = token or os.environ.get(TOKEN_VARIABLE) or None
    listener = listen(host, port)
    try:
        hosts = [name.strip() for name in os.environ.get(HOSTS_VARIABLE, "").split(",") if name.strip()]
        app = create_app(db=db, host=host, token=token, allowed_hosts=hosts)
    except ValueError as error:
        listener.close()
        raise ServeError(f"{error}; set {TOKEN_VARIABLE} or pass --token-file") from error
    except StoreError as error:
        listener.close()
        raise ServeError(str(error)) from error
    try:
        Server(app, listener, _announce).run_here()
    except KeyboardInterrupt:
        pass  # The usual way to end it; everything is closed by now.
    finally:
        listener.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line of `instrumented-sessions dashboard` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="instrumented-sessions dashboard", description="Serve the dashboard: OTLP/HTTP in, pictures out."
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument("--db", metavar="FILE", help="database file (default: none is kept)")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"file with the token that requests must show (default: the variable {TOKEN_VARIABLE})",
    )
    arguments = parser.parse_args(argv)
    try:
        token = None
        if arguments.token_file:
            with open(arguments.token_file, encoding="utf-8") as file:
                token = file.read().strip()
        serve(arguments.host, arguments.port, arguments.db, token)
    except (ServeError, OSError) as error:
        print(f"instrumented-sessions dashboard: {error}", file=sys.stderr)  # noqa: T201  # A command's answer.
        return 1
    return 0


def _announce(address: str) -> None:
    print(f"dashboard: {address}", flush=True)  # noqa: T201  # Scripts read it to learn the port.
