"""Why a request cannot be taken."""

from __future__ import annotations


class BadInputError(ValueError):
    """The request is at fault; the message says how, `status` is the HTTP status to answer with."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
