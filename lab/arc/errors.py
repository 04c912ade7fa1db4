"""What can go wrong with the cluster itself, as opposed to one request's refusal.

    LabError (lab.errors)
    └── ArcError
        ├── ArcConfigError   the deployment describes no usable cluster; lists every problem
        ├── ArcStateError    the state file cannot be read or written
        ├── ArcStartError    addresses or ports cannot be listened on; lists every one
        └── ArcRefusedError  `set_states` was refused, as an operator's request would be

Refusals of requests that come over the wire are values (`rules.Refusal`, `wire.ApiError`) and reach
the caller as AWS's own error codes.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.errors import LabError


class ArcError(LabError):
    """Base of all errors of this package."""


class ArcConfigError(ArcError):
    """The deployment's cluster, panels, controls or safety rules are unusable."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("unusable recovery cluster: " + "; ".join(self.problems))


class ArcStateError(ArcError):
    """The file with the switch positions is corrupt, or cannot be read or written."""


class ArcStartError(ArcError):
    """At least one of the five endpoints cannot listen."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("cannot start the cluster's endpoints: " + "; ".join(self.problems))


class ArcRefusedError(ArcError):
    """A change asked for by the lab itself was refused; nothing was changed."""
