"""What a deployment left behind: resources with resolved properties, as every lab module reads it.

`lab.stacks` resolves the real templates once and writes a `Deployment`; each data plane (Route 53,
ARC, API Gateway, Lambda, …) builds its own configuration from the resources of its types. So
nothing about routing is written twice, and a process can be restarted from the file alone.

Downside: it is a snapshot. The lab has no control plane; a template change needs `lab up` again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CLOUDFRONT_ZONE = "Z2FDTNDATAQYW2"
"""Hosted zone of every alias to CloudFront (CloudFormation reference, AWS::Route53::RecordSet)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of one stack, after resolution."""

    stack: str
    region: str
    """The region of its stack."""
    logical_id: str
    type: str
    """For example `AWS::Route53::RecordSet`."""
    physical_id: str
    """What `Ref` returns."""
    properties: Mapping[str, Any]
    attributes: Mapping[str, Any]
    """What `Fn::GetAtt` returns, by attribute name."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """All resources and outputs, in the order in which the stacks were resolved."""

    resources: tuple[Resource, ...]
    outputs: Mapping[str, Mapping[str, Any]]
    """Stack name -> output name -> value."""

    def of_type(self, *types: str, region: str | None = None) -> tuple[Resource, ...]:
        """The resources of these types, in one region or in all."""
        return tuple(
            r for r in self.resources if r.type in types and (region is None or r.region == region)
        )

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Deployment:
        document = json.loads(path.read_text())
        return cls(tuple(Resource(**r) for r in document["resources"]), document["outputs"])
