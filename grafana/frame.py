"""What all dashboards share: variables, links, annotations, ids, and the grid."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # See panels.py.
    from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from instrumented_sessions.telemetry import catalog

from . import queries
from .panels import SOURCE, Panel

TAG = "instrumented-sessions"
"""Every dashboard has it; the links between them find each other by it."""

DASHBOARD_ADDRESS = "http://127.0.0.1:4319"
"""Where the compose stack serves the FastAPI dashboard; a text variable of every dashboard."""


@dataclass(frozen=True)
class Page:
    """One dashboard.

    Attributes:
        name: Ends its uid and names its file.
        title: What people read.
        about: What question it answers, in a sentence.
        rows: Titles of rows, with the panels of each, which are laid out from left to right.
    """

    name: str
    title: str
    about: str
    rows: Sequence[tuple[str, Sequence[Panel]]]

    @property
    def uid(self) -> str:
        """The last part of its address in Grafana; never changes."""
        return uid_of(self.name)


def uid_of(name: str) -> str:
    """Return the uid of the dashboard `name`."""
    return f"{TAG}-{name}"


def render(page: Page) -> str:
    """Return the dashboard as Grafana's classic JSON."""
    built = (
        dashboard.Dashboard(f"Instrumented Sessions / {page.title}")
        .uid(page.uid)
        .description(page.about)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time("now-30m", "now")
        .refresh("5s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .version(1)
    )
    for variable in _variables():
        built = built.with_variable(variable)
    built = built.link(_siblings()).link(_live()).annotation(_stalls())
    for title, panels in page.rows:
        built = built.with_row(dashboard.Row(title))
        for panel in panels:
            built = built.with_panel(panel)
    model = built.build()
    for number, numbered in enumerate(model.panels or [], start=1):
        numbered.id_val = number
    for link in model.links or []:
        # In sight, not in the menu that the SDK puts it into.
        link.placement = None  # It leaves out what is None.
    for annotation in model.annotations.list_val or []:
        annotation.placement = None  # As above.
    text = json.dumps(model, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n"


def _variables() -> list[dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.TextBoxVariable]:
    heartbeat = catalog.LOOP_HEARTBEAT_AGE.prometheus_name
    requests = catalog.SESSION_REQUESTS.prometheus_name
    chosen = 'job=~"$job",instance=~"$instance"'
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _choice("job", "Job", f"label_values({heartbeat}, job)"),
        _choice("instance", "Instance", f'label_values({heartbeat}{{job=~"$job"}}, instance)'),
        _choice("transport", "Transport", f"label_values({requests}{{{chosen}}}, transport)"),
        dashboard.TextBoxVariable("live")
        .label("Live dashboard")
        .description("Where `instrumented-sessions dashboard` answers.")
        .default_value(DASHBOARD_ADDRESS),
    ]


def _choice(name: str, label: str, asked: str) -> dashboard.QueryVariable:
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": asked, "refId": name})
        .definition(asked)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _siblings() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Instrumented Sessions")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )


def _live() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Live dashboard")
        .type(models.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip("What waits now, with holders, stacks and traces")
        .url("${live}/?from=${__from}&to=${__to}")
        .target_blank(True)
    )


def _stalls() -> dashboard.AnnotationQuery:
    grown = queries.increase(catalog.LOOP_STALLS, "job, instance, loop, cause", window="$__interval")
    return (
        dashboard.AnnotationQuery()
        .name("Stalls")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("red")
        .expr(f"{grown} > 0")
        .step("10s")
        .title_format("Loop {{loop}} stalled: {{cause}}")
        .tag_keys("loop,cause")
        .target(prometheus.Dataquery().expr(f"{grown} > 0").ref_id("Anno"))
    )
