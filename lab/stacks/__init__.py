"""What CloudFormation would have made of the stack list: the real templates, resolved in memory.

`deploy` goes through the steps in order, resolves each template with the parameters that the
deployment would pass, hands outputs on, and returns all resources that a lab module imitates. So
nothing about routing is written a second time for the lab, and a template that would not deploy
does not start a lab either.

    resource type   emulated (a lab module reads it), inert (no run-time behaviour), or refused
    faults          all at once: unsupported types first, then what cannot be resolved, then what
                    AWS would refuse (see `errors` for the tree)

Downside: this is the result of a deployment, not its course. There are no events, no roll-back, no
drift and no updates in place; a changed template is loaded by the next `lab up`.
"""

from lab.stacks.applications import PackagedApplication
from lab.stacks.catalog import DEFAULT_CONTROL_PANEL
from lab.stacks.errors import RefusedError, StackError, TemplateError, UnsupportedResourceType
from lab.stacks.loading import deploy, outputs_before_applications

__all__ = [
    "DEFAULT_CONTROL_PANEL",
    "PackagedApplication",
    "RefusedError",
    "StackError",
    "TemplateError",
    "UnsupportedResourceType",
    "deploy",
    "outputs_before_applications",
]
