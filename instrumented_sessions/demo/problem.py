"""What a person can mend: told in a sentence, never as a traceback."""

from __future__ import annotations


class Problem(Exception):
    """An expected problem of a command; `str()` says what to do about it.

    Attributes:
        exit_code: 2 for bad input or a missing part (default), 1 for something that failed while it ran.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
