"""The demo: real MCP servers, a mixed load, a dashboard, and a summary of what was measured.

Started by `instrumented-sessions demo`; `run` puts the parts together.
"""
