"""A stdio server without the SDK that misbehaves in the way its first argument names.

silent: reads, never answers. exits: ends at once with status 3. noise: prints lines that are no messages.
html: answers the handshake with a page. version: offers a protocol from another world.
deaf: after the handshake reads no more. stubborn: ignores the end of its input and SIGTERM.
mute: after the handshake closes its output and stays. parent: dies on a call, while a child of its own
keeps the pipes open. dies: ends with status 4 on a call. good: nothing of the kind.
The pid is written to the file that the second argument names; a third one is for what else there is to tell.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def read_line() -> bytes:
    """Read one line and nothing beyond it, so that what follows stays in the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def sleep_for_ever() -> None:
    while True:
        signal.pause()


def main() -> None:
    way = sys.argv[1]
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="utf-8") as file:
            file.write(str(os.getpid()))
    if way == "exits":
        sys.exit(3)
    if way == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if way == "noise":
        print("Starting up...\n\nlistening\n", flush=True)
    for line in iter(read_line, b""):
        message = json.loads(line)
        method, request_id = message.get("method"), message.get("id")
        if request_id is None or way == "silent":
            if method == "notifications/initialized" and way == "deaf":
                sleep_for_ever()
            if method == "notifications/initialized" and way == "mute":
                os.close(1)
                sleep_for_ever()
            continue
        if way == "html":
            print("<html></html>", flush=True)
            sleep_for_ever()
        if method == "initialize":
            version = "1999-01-01" if way == "version" else message["params"]["protocolVersion"]
            info = {"name": "raw", "version": "0"}
            say(
                {
                    "id": request_id,
                    "result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info},
                }
            )
        elif method == "tools/call":
            if way == "parent":
                child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
                with open(sys.argv[3], "w", encoding="utf-8") as file:
                    file.write(str(child.pid))
                os._exit(5)
            if way == "dies":
                os._exit(4)
            say({"id": request_id, "result": {"content": [{"type": "text", "text": "ok"}]}})
        elif method == "tools/list":
            say(
                {"id": request_id, "result": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}}
            )
        elif method == "ping":
            say({"id": request_id, "result": {}})
        else:
            say({"id": request_id, "error": {"code": -32601, "message": "Method not found"}})
    if way == "stubborn":
        if len(sys.argv) > 3:
            with open(sys.argv[3], "w", encoding="utf-8") as file:
                file.write("the input has ended")
        sleep_for_ever()


if __name__ == "__main__":
    main()
