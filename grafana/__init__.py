"""Dashboards and alerts as code: `make grafana` writes grafana/generated/ from the telemetry's catalog."""
