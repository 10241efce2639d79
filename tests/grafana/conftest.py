"""The engines' tests run in an environment of their own: `make test-grafana`."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("grafana_foundation_sdk") else ["engines"]
