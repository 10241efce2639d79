"""A program to put on a leash: sleeps for an hour, or shows its arguments."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from instrumented_sessions.demo import leash

if "--arguments" in sys.argv:
    print(sys.argv[1:])
    sys.exit()
if "--deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ.get("DEMO_TEST_WITHOUT_KERNEL"):
    # Take the kernel's leash off and use the other one.
    import ctypes

    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
    threading.Thread(target=leash._poll, args=(os.getppid(),), daemon=True).start()
print("asleep", flush=True)
time.sleep(3600)
