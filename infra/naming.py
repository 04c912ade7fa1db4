"""Names and tags of what is deployed, so that everybody with the repository finds it again.

Nothing is remembered on a machine: a stack is found by its name, which is made from domain and
step, and its tags say whose it is. The tags of a stack never change: they pass to its resources,
and ARC replaces a cluster or panel whose tags change.

Downside: two topologies with the same domain are the same deployment, whatever else they say.
"""

from __future__ import annotations

import hashlib
import re

from infra.steps import Step
from infra.topology import Topology

TAG_DOMAIN = "two-region-api:domain"
TAG_STEP = "two-region-api:step"
TAG_REGIONS = "two-region-api:regions"
TAG_SOURCE = "two-region-api:source"

TOKEN_PREFIX = "infra-"  # noqa: S105 - no password; begins every ClientRequestToken of this tool


def label(topology: Topology) -> str:
    """The domain as the first part of names; a stack's name begins with a letter."""
    text = re.sub(r"[^a-z0-9]+", "-", topology.domain)
    return text if text[0].isalpha() else f"d{text}"


def stack_name(topology: Topology, step: Step) -> str:
    """At most 122 characters (CloudFormation takes 128): domain 62, step 59."""
    return f"{label(topology)}-{step.name}"


def logical_id(name: str) -> str:
    """A name in a logical id: letters and digits; a piece of a hash keeps a-1 and a1 apart."""
    words = "".join(part.title() for part in name.replace(".", "-").split("-"))
    return f"{words[:40]}{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def tags(topology: Topology, step: Step) -> dict[str, str]:
    return {
        TAG_DOMAIN: topology.domain,
        TAG_STEP: step.name,
        TAG_REGIONS: "+".join(topology.regions),
    }


NAMESPACE, METRIC = "TwoRegionApi", "TakeOver"
"""Of the metric behind every take-over alarm, as takeover.yaml names it."""


def takeover_dimensions(topology: Topology, service: str, region: str) -> dict[str, str]:
    """Of the metric that takes a service out of `region`."""
    return {"Domain": topology.domain, "Service": service, "Region": region}
