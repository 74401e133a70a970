"""How a command ends: the exit status for scripts, a line for people."""

from __future__ import annotations

import os
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses; those from 64 on are of ``sysexits.h``."""

    OK = 0
    FAILED = 1
    USAGE = 64
    CANNOT_CREATE = 73
    CONFIG = os.EX_CONFIG
    INTERRUPTED = 130


class Refused(Exception):
    """The command cannot do what was asked; the message is one line that says why."""

    def __init__(self, message: str, status: int = ExitStatus.FAILED) -> None:
        super().__init__(message)
        self.status = status
