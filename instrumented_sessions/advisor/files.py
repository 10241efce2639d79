"""Recordings in files: JSON lines, a header and then a line for each opening."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from typing import Any

from ..vocabulary import LockGranularity
from .options import Option
from .recording import OpeningRecord, Recording, RecordingError

FORMAT = "instrumented-sessions openings"
VERSION = 1


def save(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write a recording; an existing file is replaced.

    Raises:
        OSError: The file cannot be written.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "granularity": recording.in_force.granularity,
        "permits": recording.in_force.permits,
        "cut": recording.cut,
    }
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(header) + "\n")
        file.writelines(json.dumps(vars(opening)) + "\n" for opening in recording.openings)


def load(path: str | os.PathLike[str]) -> Recording:
    """Read a recording that `save` has written.

    Raises:
        OSError: The file cannot be read.
        RecordingError: It is no recording; the message names the file and the line.
    """
    with open(path, "rb") as file:
        return _read(file, os.fspath(path))


def _read(lines: Iterable[bytes], name: str) -> Recording:
    header: tuple[Option, int] | None = None
    openings: list[OpeningRecord] = []
    number = 1
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("not a JSON object")
            if header is None:
                header = _header(value)
            else:
                openings.append(_opening(value))
        except ValueError as error:  # What is no JSON or no UTF-8 is one, too.
            said = "not JSON" if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) else error
            raise RecordingError(f"{name}, line {number}: {said}") from error
    if header is None:
        raise RecordingError(f"{name}, line 1: the file is empty")
    if not openings:
        raise RecordingError(f"{name}, line {number}: no opening was recorded")
    return Recording(header[0], tuple(sorted(openings, key=lambda each: each.asked_at)), header[1])


def _header(value: dict[str, Any]) -> tuple[Option, int]:
    if value.get("format") != FORMAT:
        raise ValueError("not a recording: one begins with a header, see docs/tuning.md")
    if value.get("version") != VERSION:
        raise ValueError(f"version {value.get('version')!r} is not known; this release reads {VERSION}")
    permits, cut = value.get("permits"), value.get("cut", 0)
    if type(permits) not in (int, type(None)) or type(cut) is not int:
        raise ValueError("permits and cut must be whole numbers")
    return Option(LockGranularity(value.get("granularity")), permits), cut


def _opening(value: dict[str, Any]) -> OpeningRecord:
    for name in ("transport", "conversation"):
        if not isinstance(value.get(name), str):
            raise ValueError(f"{name} must be a text; got {value.get(name)!r}")
    if not isinstance(value.get("caller"), (str, type(None))):
        raise ValueError(f"caller must be a text or null; got {value['caller']!r}")
    if not isinstance(value.get("ended", True), bool):
        raise ValueError(f"ended must be true or false; got {value['ended']!r}")
    return OpeningRecord(
        _number(value, "asked_at"),
        value["transport"],
        value["conversation"],
        _number(value, "waited_s"),
        None if value.get("held_s") is None else _number(value, "held_s"),
        value.get("caller"),
        value.get("ended", True),
    )


def _number(value: dict[str, Any], name: str) -> float:
    number = value.get(name)
    if isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number < math.inf:
        return float(number)
    raise ValueError(f"{name} must be a number of seconds, 0 or more; got {number!r}")
