"""From the deployment's resources to the host names of one region's gateway. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.apigateway.definition import Api, DefinitionError, read_api
from lab.apigateway.domains import CustomDomain, DefaultEndpoint, Hosts, Stage
from lab.model import Deployment, Resource


class GatewayConfigError(Exception):
    """The region's resources do not fit together; `reasons` lists everything."""

    def __init__(self, region: str, reasons: list[str]) -> None:
        self.reasons = tuple(reasons)
        lines = "\n".join(f"  - {r}" for r in reasons)
        super().__init__(f"API Gateway in {region} cannot be run:\n{lines}")


def hosts_of(deployment: Deployment, region: str) -> Hosts:
    """Custom domains and default endpoints of a region. Raises GatewayConfigError."""
    reasons: list[str] = []
    stages = _stages(deployment, region, reasons)
    hosts: dict[str, CustomDomain | DefaultEndpoint] = {}
    for api_id, by_name in stages.items():
        api = next(iter(by_name.values())).api
        hosts[f"{api_id}.execute-api.{region}.amazonaws.com"] = DefaultEndpoint(api, by_name)
    mapped: dict[str, dict[str, Stage]] = {
        resource.physical_id.lower(): {}
        for resource in deployment.of_type("AWS::ApiGateway::DomainName", region=region)
    }
    for mapping in deployment.of_type("AWS::ApiGateway::BasePathMapping", region=region):
        _add_mapping(mapping, mapped, stages, reasons)
    for name, mappings in mapped.items():
        hosts[name] = CustomDomain(name, mappings)
    if reasons:
        raise GatewayConfigError(region, reasons)
    return Hosts(hosts)


def _stages(deployment: Deployment, region: str, reasons: list[str]) -> dict[str, dict[str, Stage]]:
    """API id -> stage name -> stage."""
    found: dict[str, dict[str, Stage]] = {}
    rest_apis = {
        resource.physical_id: resource
        for resource in deployment.of_type("AWS::ApiGateway::RestApi", region=region)
    }
    for stage in deployment.of_type(
        "AWS::ApiGateway::Stage", "AWS::ApiGateway::Deployment", region=region
    ):
        name = stage.properties.get("StageName")
        rest_api = rest_apis.get(str(stage.properties.get("RestApiId")))
        if name is None:
            continue  # a deployment that makes no stage of its own
        if rest_api is None:
            reasons.append(f"{stage.logical_id}: there is no API {stage.properties['RestApiId']}")
            continue
        _add_stage(found, rest_api, "Body", str(name), stage.properties, reasons)
    for resource in deployment.of_type("AWS::Serverless::Api", region=region):
        name = str(resource.properties.get("StageName"))
        _add_stage(found, resource, "DefinitionBody", name, resource.properties, reasons)
    return found


def _add_stage(
    found: dict[str, dict[str, Stage]],
    resource: Resource,
    body: str,
    name: str,
    stage_properties: Mapping[str, Any],
    reasons: list[str],
) -> None:
    variables = {k: str(v) for k, v in (stage_properties.get("Variables") or {}).items()}
    api = _api(resource, body, variables, reasons)
    if api is not None:
        found.setdefault(api.id, {})[name] = Stage(api, name, variables)


def _api(
    resource: Resource, body: str, variables: Mapping[str, str], reasons: list[str]
) -> Api | None:
    document = resource.properties.get(body)
    if not isinstance(document, Mapping):
        reasons.append(f"{resource.logical_id}: {body} is not an OpenAPI document")
        return None
    disabled = str(resource.properties.get("DisableExecuteApiEndpoint", False)).lower() == "true"
    try:
        return read_api(
            resource.physical_id,
            document,
            stage_variables=variables,
            execute_api_enabled=not disabled,
        )
    except DefinitionError as error:
        reasons.extend(f"{resource.logical_id}: {reason}" for reason in error.reasons)
        return None


def _add_mapping(
    mapping: Resource,
    mapped: dict[str, dict[str, Stage]],
    stages: dict[str, dict[str, Stage]],
    reasons: list[str],
) -> None:
    given = mapping.properties
    domain = mapped.get(str(given.get("DomainName", "")).lower())
    stage = stages.get(str(given.get("RestApiId")), {}).get(str(given.get("Stage")))
    if domain is None:
        reasons.append(f"{mapping.logical_id}: there is no domain name {given.get('DomainName')}")
    if stage is None:
        reasons.append(
            f"{mapping.logical_id}: API {given.get('RestApiId')} has no stage {given.get('Stage')}"
        )
    if domain is None or stage is None:
        return
    base = str(given.get("BasePath") or "").strip("/")
    base = "" if base == "(none)" else base
    if base in domain:
        reasons.append(f"{mapping.logical_id}: base path {base or '(none)'!r} is mapped twice")
    domain[base] = stage
