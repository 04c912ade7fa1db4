"""What `lab.stacks` refuses, and why. Every error carries all reasons of its kind at once.

lab.errors.LabError
└── StackError
    ├── UnsupportedResourceType   a template asks for something that the lab does not imitate
    ├── TemplateError             a parameter, function or reference cannot be resolved
    └── RefusedError              AWS would refuse to create the result
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.errors import LabError


class StackError(LabError):
    """The stacks cannot be loaded. `reasons` lists every fault, one sentence each."""

    headline = "the stacks cannot be loaded"

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"{self.headline}:\n" + "\n".join(f"  - {r}" for r in self.reasons))


class UnsupportedResourceType(StackError):
    """A resource type that is neither emulated nor without run-time behaviour."""

    headline = "the lab does not imitate these resource types"


class TemplateError(StackError):
    """A template that CloudFormation could not resolve with these parameters."""

    headline = "templates cannot be resolved"


class RefusedError(StackError):
    """Resources that API Gateway, Route 53 or ARC would refuse to create."""

    headline = "AWS would refuse these resources"
