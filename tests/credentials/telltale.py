"""A stdio server that tells its arguments and variables to everybody: `telltale.py WAY SECRET ...`.

refuses: answers the handshake with an error. dies: prints them and ends. fails: answers calls with an error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

way = sys.argv[1]
told = f"{sys.argv[2:]} {os.environ.get('TOKEN')}"


def say(request: Any, **answer: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}), flush=True)


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    if way == "dies":
        print(told, flush=True)
        sys.exit(told)
    if way == "refuses" or request["method"] == "tools/call":
        text = f"fails to keep {told}" if way == "fails" else told
        say(request, error={"code": -32602, "message": text, "data": told})
    elif request["method"] == "initialize":
        version = request["params"]["protocolVersion"]
        info = {"name": "telltale", "version": "0"}
        say(request, result={"protocolVersion": version, "capabilities": {}, "serverInfo": info})
    else:
        say(request, error={"code": -32601, "message": "Method not found"})
