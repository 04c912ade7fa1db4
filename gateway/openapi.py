"""The external API's OpenAPI document: `openapi.yaml`, its two paths repeated for each service.

A service's route follows from its line in `topology.toml`. It points to the failover name,
never to a region: which region answers is decided by DNS at each request, per service, so moving
one service touches nothing here.

Downside: API Gateway's address cache lies between a move and its effect (AWS documents none for
HTTP integrations), and paths are decoded before they are forwarded, so `%2F` becomes `/`.

Sources: API Gateway Developer Guide, "OpenAPI extensions for API Gateway", "HTTP proxy
integrations", "Important notes" (header rules), "Quotas" (time-out 50 to 29,000 ms).
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.topology import Topology

DOCUMENT = Path(__file__).with_name("openapi.yaml")


def render(topology: Topology) -> dict[str, Any]:
    """The OpenAPI 3 document with `/<service>` and `/<service>/{proxy+}` for every service.

    It is the Body of an AWS::ApiGateway::RestApi. The caller may change it.
    """
    document = copy.deepcopy(_base())
    pattern = document.pop("paths")
    document["paths"] = {
        path: item
        for name in topology.services
        for path, item in _filled(pattern, name, topology.host(name)).items()
    }
    return document


@cache
def _base() -> dict[str, Any]:
    document = yaml.safe_load(DOCUMENT.read_text())
    assert isinstance(document, dict)
    return document


def _filled(node: Any, service: str, host: str) -> Any:
    """A copy of `node` with SERVICE and HOST replaced in every text and key."""
    if isinstance(node, dict):
        return {
            _filled(key, service, host): _filled(value, service, host)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_filled(item, service, host) for item in node]
    if isinstance(node, str):
        return node.replace("SERVICE", service).replace("HOST", host)
    return node
