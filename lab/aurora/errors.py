"""What this package can fail with.

    LabError
    └── AuroraError             a database of the lab cannot be made or started; for `lab up`
        ├── SqlFailed           a server refused a statement or did not answer in time
        ├── StateError          aurora.json cannot be read, written or locked
        └── OperationLost       this process is no longer the one that runs the operation
    ApiError                    an AWS API call is refused: code, message, HTTP status
"""

from __future__ import annotations

from lab.errors import LabError


class AuroraError(LabError):
    """Shown to the user as it is."""


class SqlFailed(AuroraError):
    """`number` is MariaDB's error number, 0 if there is none."""

    def __init__(self, message: str, number: int = 0) -> None:
        self.number = number
        super().__init__(message)


class StateError(AuroraError):
    pass


class OperationLost(AuroraError):
    pass


class ApiError(Exception):
    """A refusal in the terms of the AWS API that was called."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")
