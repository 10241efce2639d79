"""One Prometheus, one Alertmanager and one webhook for a module, and its fixtures' limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from grafana.build import GENERATED
from tests.grafana.engines.programs import Alertmanager, Prometheus, Webhook


@dataclass(frozen=True)
class Watch:
    """The engines, and where more programs may write."""

    prometheus: Prometheus
    webhook: Webhook
    directory: Path


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Prometheus with the project's rules, Alertmanager, and a webhook that notes what it is told."""
    directory = tmp_path_factory.mktemp("engines")
    webhook = Webhook()
    try:
        with Alertmanager(directory, webhook.url) as alertmanager:
            rules = GENERATED / "rules.yml"
            with Prometheus(directory, rules, alertmanager.target) as prometheus:
                alertmanager.wait_until_ready()
                prometheus.wait_until_ready()
                yield Watch(prometheus, webhook, directory)
    finally:
        webhook.close()
