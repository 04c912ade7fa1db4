"""What this package can fail with; the tree is drawn in the package's docstring.

Downside: a file for two classes; it keeps the pure modules free of each other.
"""

from __future__ import annotations

from lab.errors import LabError


class CloudWatchError(LabError):
    """Shown to the user as it is."""


class ApiError(Exception):
    """A refusal in AWS's terms.

    `code` is the one of the Query protocol, which boto3 shows; `shape` the model's name of the
    error, if it has one.
    """

    def __init__(self, code: str, message: str, *, shape: str = "", status: int = 400) -> None:
        self.code = code
        self.shape = shape or code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")
