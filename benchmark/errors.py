"""What a user did or met that stops a command: told in one line, with an exit status, never as a traceback."""

from __future__ import annotations


class BenchError(Exception):
    """The message names the place, what came and what would be valid. Nothing was written."""

    status = 2


class Interrupted(BenchError):
    """The user (or the system) asked to stop."""

    status = 4


class IntegrityError(BenchError):
    """A stored file is not what was written to it."""

    status = 5
