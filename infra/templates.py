"""The CloudFormation templates: `infra/templates/*.yaml`, six of them completed by code.

`template(name, topology)` gives a template as plain data, YAML short forms (`!Ref`, `!Sub`, …)
written out, exactly as it is deployed. Most are deployed as they stand in the file. `gateway.yaml`
gets the OpenAPI document of the topology as the external API's Body, and a Deployment whose logical
id ends in a hash of that Body, because API Gateway serves a snapshot: without a new Deployment a
changed Body would be stored and never served. `alarms.yaml` and `overview.yaml` get what
`infra.monitoring` makes for the services of the topology, `readiness.yaml` and `region-switch.yaml`
what `infra.option_templates` makes, and `takeover.yaml` whom `infra.notifications` says to tell.

Downside: what is deployed for these six stands in no file; `infra template gateway` prints it.

Errors: `TemplateFileError`, alone in its tree, for a file that is not a template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gateway.openapi import render
from infra.monitoring import with_alarms, with_overview
from infra.notifications import with_takeover_actions
from infra.option_templates import with_readiness, with_region_switch
from infra.topology import Topology

TEMPLATES = Path(__file__).parent / "templates"
GATEWAY = "gateway.yaml"


_COMPLETED: Mapping[str, Callable[[Mapping[str, Any], Topology], dict[str, Any]]] = {
    "alarms.yaml": with_alarms,
    "overview.yaml": with_overview,
    "readiness.yaml": with_readiness,
    "region-switch.yaml": with_region_switch,
    "takeover.yaml": with_takeover_actions,
}


class TemplateFileError(Exception):
    """A file below `infra/templates` cannot be read as a template."""


class _Loader(yaml.CSafeLoader):
    """Safe YAML plus the short forms of CloudFormation's intrinsic functions."""

    # CloudFormation keeps 2012-10-17 a string. YAML 1.1 would make it a date.
    yaml_implicit_resolvers = {  # noqa: RUF012 - the shape that PyYAML reads
        first: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":timestamp")]
        for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def parse(text: str) -> dict[str, Any]:
    """A template's text (YAML or JSON) as data, short forms written out.

    Raises TemplateFileError when it is not YAML or not a mapping with Resources.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from CSafeLoader
    except yaml.YAMLError as error:
        raise TemplateFileError(f"not YAML: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise TemplateFileError("not a template: it has no Resources")
    return document


@cache
def _file(path: Path) -> dict[str, Any]:
    try:
        return parse(path.read_text())
    except FileNotFoundError:
        raise TemplateFileError(f"{path}: there is no such file") from None
    except TemplateFileError as error:
        raise TemplateFileError(f"{path}: {error}") from None


def template(name: str, topology: Topology) -> Mapping[str, Any]:
    """The template `name` (a file name below `infra/templates`) as it is deployed.

    Not to be changed by the caller: files are read once. Raises TemplateFileError.
    """
    document = _file(TEMPLATES / name)
    if name == GATEWAY:
        return with_body(document, render(topology))
    complete = _COMPLETED.get(name)
    return complete(document, topology) if complete else document


def with_body(document: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """`gateway.yaml` with this Body and a Deployment named after it; `document` stays as it is."""
    content = json.dumps(body, sort_keys=True).encode()
    deployment = f"Deployment{hashlib.sha256(content).hexdigest()[:10]}"
    resources = dict(document["Resources"])
    api = resources["RestApi"]
    resources["RestApi"] = {**api, "Properties": {**api["Properties"], "Body": body}}
    resources[deployment] = resources.pop("Deployment")
    stage = resources["Stage"]
    properties = {**stage["Properties"], "DeploymentId": {"Ref": deployment}}
    resources["Stage"] = {**stage, "Properties": properties}
    return {**document, "Resources": resources}
