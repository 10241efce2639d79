"""The pins of requirements/ fit what pyproject.toml and requirements/*.in ask for, and tell no addresses."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
ALL = ("otel", "prometheus", "dashboard")
EXTRAS = {
    "core": (),
    "demo": ALL,
    "dev": ALL,
    "grafana": ALL,
    "mcp1": ALL,
    "mcp1-oldest": ALL,
    "otel-oldest": ("otel", "prometheus"),
    "recipes": ALL,
}
"""Each environment, and the extras of pyproject.toml that it has."""
WITHOUT = {"grafana": ("3.10",)}
"""The Pythons that an environment does not work on."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MACHINES = [
    {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": system, "extra": ""}
    for version, system in itertools.product(["3.10", "3.11", "3.12", "3.13"], ["linux", "darwin"])
]

every_environment = pytest.mark.parametrize("name", sorted(EXTRAS))


def pins(name: str, machine: dict[str, str]) -> dict[str, Version]:
    """The pins of one environment that apply to one machine."""
    found = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.rstrip(" \\"))
            if pin.marker is None or pin.marker.evaluate(machine):
                (only,) = pin.specifier
                assert only.operator == "==", line
                found[canonicalize_name(pin.name)] = Version(only.version)
    return found


def asked(name: str) -> Iterator[Requirement]:
    """What an environment's input asks for, its includes and this project's own requirements too."""
    for line in (ROOT / "requirements" / f"{name}.in").read_text().splitlines():
        if line.startswith("-r "):
            yield from asked(line[3:].removesuffix(".in"))
        elif line and not line.startswith("#"):
            yield Requirement(line)


def ours(extras: tuple[str, ...]) -> Iterator[Requirement]:
    """This project's own requirements, those of some extras included."""
    texts = [
        *PROJECT["dependencies"],
        *(text for one in extras for text in PROJECT["optional-dependencies"][one]),
    ]
    yield from map(Requirement, texts)


def test_extra_all_is_all_of_them() -> None:
    """`[all]` names every other extra."""
    extras = PROJECT["optional-dependencies"]
    (alias,) = map(Requirement, extras["all"])
    assert alias.name == PROJECT["name"]
    assert alias.extras == set(ALL) == set(extras) - {"all"}


def test_every_environment_is_known() -> None:
    """No pin file is left behind by an environment that is gone, and none is missing."""
    folder = ROOT / "requirements"
    assert {path.stem for path in folder.glob("*.txt")} == set(EXTRAS)
    assert {path.stem for path in folder.glob("*.in")} == {*EXTRAS, "tools"}


@every_environment
def test_pins_fit_what_is_asked_for(name: str) -> None:
    """On every supported Python and system each requirement has a pin that satisfies it."""
    wanted = [*asked(name), *ours(EXTRAS[name])]
    for machine in MACHINES:
        if machine["python_version"] in WITHOUT.get(name, ()):
            continue
        pinned = pins(name, machine)
        for requirement in wanted:
            if requirement.marker is not None and not requirement.marker.evaluate(machine):
                continue
            version = pinned.get(canonicalize_name(requirement.name))
            where = (
                f"on Python {machine['python_version']}, {machine['sys_platform']}: run `make requirements`"
            )
            assert version is not None, f"{requirement} has no pin {where}"
            assert version in requirement.specifier, f"{requirement} has the pin {version} {where}"


@every_environment
def test_every_pin_has_hashes(name: str) -> None:
    """pip refuses a file whose content is not the one that was pinned."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    for pin in re.split(r"\n(?=[a-z0-9])", text):
        assert "--hash=sha256:" in pin, pin.splitlines()[0]


@every_environment
def test_no_file_tells_addresses(name: str) -> None:
    """No address of an index, and no path, is written beside the pins."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    for telltale in ("://", "--index", "--extra-index", "--find-links", " @ ", "file:", "/tmp", "/home"):
        assert telltale not in text


def test_pins_cover_what_they_need_in_turn() -> None:
    """What is installed here is what dev.txt pins, and whatever that needs is pinned too."""
    if not (Path(sys.prefix) / ".ready").exists():
        pytest.skip("not an environment that requirements/install.sh made")
    pinned = pins("dev", {**default_environment(), "extra": ""})
    different = [
        f"{name} {metadata.version(name)}, pinned {version}"
        for name, version in pinned.items()
        if metadata.version(name) != str(version)
    ]
    assert not different
    for name in pinned:
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                version = pinned.get(canonicalize_name(requirement.name))
                assert version is not None, f"{name} needs {requirement}, which is not pinned"
                assert requirement.specifier.contains(version, prereleases=True), (
                    f"{name} needs {requirement}"
                )


def test_no_lock_file_with_addresses_is_committed() -> None:
    """A lock file that records download addresses records whose machine wrote it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = {Path(line).name for line in listed.stdout.splitlines()}
    assert not names & {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"}
