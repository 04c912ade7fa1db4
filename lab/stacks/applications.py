"""A packaged Chalice application becomes resources: the SAM template that `chalice package` writes.

The lab does what the SAM transform, `chalice deploy` and `infra.api_settings` do together: the
function gets its name from service and region, its code is the unzipped package, the step's
environment variables go over those of the package, so that services may share one package and still
know who they are, and the `execute-api` address of the REST API is off.

Downside: a function with Events (schedules, queues) is refused: the lab would never call it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.model import Resource
from lab.stacks import template
from lab.stacks.catalog import Declared, Identity
from lab.stacks.intrinsics import ACCOUNT_ID, PARTITION

FUNCTION = "AWS::Serverless::Function"
API = "AWS::Serverless::Api"
API_HANDLER = "APIHandler"
"""Logical id that Chalice gives to the function behind the REST API."""
TRANSFORM = "AWS::Serverless-2016-10-31"


@dataclass(frozen=True, slots=True)
class PackagedApplication:
    """What `chalice package` made of one code folder for one region."""

    template: Mapping[str, Any]
    """`sam.json`."""
    code: Path
    """The unzipped `deployment.zip`."""


def without_transform(document: Mapping[str, Any]) -> dict[str, Any]:
    """`sam.json` without its SAM transform, which this module performs."""
    return {k: v for k, v in document.items() if (k, v) != ("Transform", TRANSFORM)}


@dataclass(frozen=True, slots=True)
class ApplicationNames:
    """Names and completes the resources of one service in one region."""

    service: str
    region: str
    code: Path
    environment: Mapping[str, str]

    def identify(self, declared: Declared) -> Identity:
        """Physical id and attributes; a function is `<service>-<region>[-<function>]`."""
        if declared.type != FUNCTION:
            return template.identify(declared)
        name = f"{self.service}-{self.region}"
        if declared.logical_id != API_HANDLER:
            name += "-" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", declared.logical_id).lower()
        arn = f"arn:{PARTITION}:lambda:{self.region}:{ACCOUNT_ID}:function:{name}"
        return name, {"Arn": arn}

    def finish(self, resource: Resource) -> Resource:
        """The function with its unzipped code and its service's environment; the REST API without
        an address of its own."""
        if resource.type == API:
            off = {"DisableExecuteApiEndpoint": True}
            return replace(resource, properties={**resource.properties, **off})
        if resource.type != FUNCTION:
            return resource
        given = resource.properties.get("Environment", {}).get("Variables", {})
        properties = {
            **resource.properties,
            "CodeUri": str(self.code),
            "Environment": {"Variables": {**given, **self.environment}},
        }
        return replace(resource, properties=properties)


def event_faults(name: str, document: Mapping[str, Any]) -> list[str]:
    """Functions that something other than the REST API would call, one line each."""
    return [
        f"{name}: {logical_id}: functions with Events are not imitated"
        for logical_id, body in document["Resources"].items()
        if body.get("Type") == FUNCTION and body.get("Properties", {}).get("Events")
    ]
