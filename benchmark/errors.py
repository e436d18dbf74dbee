"""What a user did or met that stops a command: told in one line, with an exit status, never as a traceback."""

from __future__ import annotations

import errno


class BenchError(Exception):
    """The message names the place, what came and what would be valid. Nothing was written."""

    status = 2


class Interrupted(BenchError):
    """The user (or the system) asked to stop."""

    status = 4


class Unwritable(BenchError):
    """Results cannot be written any more: the disk is full, or has become read-only."""

    status = 1


class IntegrityError(BenchError):
    """A stored file is not what was written to it."""

    status = 5


def storage_ended(error: OSError) -> bool:
    """Whether an error says that nothing more can be written: a full disk, a spent quota, a read-only disk."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
