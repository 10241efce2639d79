"""Names the packages; everything else is in pyproject.toml.

The directory dashboard/ is installed as `instrumented_sessions_dashboard`: a top-level `dashboard` would
clash with the users' own. setuptools can rename a package but not find the packages inside a renamed one.
"""

from setuptools import find_packages, setup

DASHBOARD = "instrumented_sessions_dashboard"

ours = find_packages(include=["instrumented_sessions", "instrumented_sessions.*"])
inside = find_packages(include=["dashboard", "dashboard.*"])

setup(
    packages=ours + [name.replace("dashboard", DASHBOARD, 1) for name in inside],
    package_dir={DASHBOARD: "dashboard"},
)
