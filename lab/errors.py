"""What the lab's commands can fail with, and the exit code of each.

    LabError                1  something in the lab failed
    ├── UsageError          2  the command line or an input file is wrong
    └── PreconditionError   4  the lab is not in a state in which this can be done
"""

from __future__ import annotations


class LabError(Exception):
    """Shown to the user as it is, without a traceback."""

    exit_code = 1


class UsageError(LabError):
    exit_code = 2


class PreconditionError(LabError):
    exit_code = 4
