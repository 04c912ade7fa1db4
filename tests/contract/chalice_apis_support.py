"""API Gateway in memory, as far as Chalice and `infra.api_settings` call it: REST APIs imported
from Swagger, with their stages.

Where AWS documents nothing it does the worst: overwriting an API opens its `execute-api` address
again. That the address is off is in force from the stage's next update on, as documented.

Downside: a stage has the settings that are patched here and no others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from aws_protocol_support import Refused, Request
from chalice_services_support import ACCOUNT, Account, RestApi, Result, Stage

METHODS = {"delete", "get", "head", "options", "patch", "post", "put"}
METHODS |= {"x-amazon-apigateway-any-method"}
LIMITS = {
    "/*/*/throttling/rateLimit": "throttlingRateLimit",
    "/*/*/throttling/burstLimit": "throttlingBurstLimit",
}
LOGS = {
    "/accessLogSettings/destinationArn": "destinationArn",
    "/accessLogSettings/format": "format",
}
"""Paths of patch operations -> members of a stage (API Gateway API reference, UpdateStage)."""


def definition_faults(document: Any, region: str) -> Iterator[str]:
    """What would make an import of Chalice's Swagger fail or serve nothing."""
    if not isinstance(document, dict) or document.get("swagger") != "2.0":
        yield "not a Swagger 2.0 document"
        return
    if not document.get("info", {}).get("title"):
        yield "info.title is missing"
    authorizers = document.get("securityDefinitions", {})
    for name, authorizer in authorizers.items():
        yield from _authorizer_faults(name, authorizer)
    siblings: dict[str, str] = {}
    for path, methods in document.get("paths", {}).items():
        *_, last = parts = path.split("/")
        if not path.startswith("/"):
            yield f"{path}: a path begins with /"
        if last.startswith("{") and siblings.setdefault("/".join(parts[:-1]), last) != last:
            yield f"{path}: a sibling path part already has another name"
        for method, operation in methods.items():
            at = f"{method} {path}"
            yield from _operation_faults(at, method, operation, path, region)
            for entry in operation.get("security", []):
                yield from (f"{at}: no authorizer {n!r}" for n in entry if n not in authorizers)


def _authorizer_faults(name: str, authorizer: Mapping[str, Any]) -> Iterator[str]:
    given = authorizer.get("x-amazon-apigateway-authorizer", {})
    pool = re.compile(r"arn:aws:cognito-idp:[a-z0-9-]+:\d{12}:userpool/[\w-]+_[0-9A-Za-z]+")
    if given.get("type") != "cognito_user_pools":
        yield f"authorizer {name}: type {given.get('type')!r}"
    arns = given.get("providerARNs") or [None]
    for arn in arns:
        if not isinstance(arn, str) or not pool.fullmatch(arn):
            yield f"authorizer {name}: {arn!r} is not the ARN of a user pool"


def _operation_faults(
    at: str, method: str, operation: Mapping[str, Any], path: str, region: str
) -> Iterator[str]:
    if method not in METHODS:
        yield f"{at}: no such method"
    integration = operation.get("x-amazon-apigateway-integration", {})
    function = rf"arn:aws:lambda:{region}:{ACCOUNT}:function:[\w-]+"
    uri = rf"arn:aws:apigateway:{region}:lambda:path/2015-03-31/functions/{function}/invocations"
    if integration.get("type") == "aws_proxy":
        if not re.fullmatch(uri, integration.get("uri", "")):
            yield f"{at}: integration {integration.get('uri')!r} is no function of {region}"
        if integration.get("httpMethod") != "POST":
            yield f"{at}: a function is invoked with POST"
    elif integration.get("type") != "mock":
        yield f"{at}: integration type {integration.get('type')!r}"
    declared = {p["name"] for p in operation.get("parameters", []) if p.get("in") == "path"}
    if missing := sorted(set(re.findall(r"\{(\w+)\+?\}", path)) - declared):
        yield f"{at}: path parameters {missing} are not declared"


class ApiGateway:
    """REST APIs imported from Swagger, with their stages."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.operations: dict[str, Callable[[Request], Result]] = {
            "ImportRestApi": self.import_,
            "PutRestApi": self.put,
            "GetRestApi": self.get,
            "UpdateRestApi": self.update,
            "CreateDeployment": self.deploy,
            "DeleteRestApi": self.delete,
            "GetStage": self.stage,
            "UpdateStage": self.update_stage,
        }

    def find(self, request: Request) -> RestApi:
        found = self._account.region(request.region).apis.get(request.params["restApiId"])
        if found is None:
            raise Refused("NotFoundException", "Invalid API identifier specified")
        return found

    def shown(self, api: RestApi) -> Result:
        return {
            "id": api.id,
            "name": api.definition["info"]["title"],
            "createdDate": datetime(2026, 1, 1, tzinfo=UTC),
            "endpointConfiguration": {"types": [api.endpoint]},
            "disableExecuteApiEndpoint": api.address_off,
        }

    def definition(self, request: Request) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads(request.params["body"])
        except ValueError as error:
            raise Refused("BadRequestException", f"not JSON: {error}") from None
        if faults := list(definition_faults(document, request.region)):
            raise Refused("BadRequestException", "; ".join(faults))
        return document

    def import_(self, request: Request) -> Result:
        endpoint = request.params.get("parameters", {}).get("endpointConfigurationTypes", "EDGE")
        if endpoint not in ("EDGE", "REGIONAL", "PRIVATE"):
            raise Refused("BadRequestException", f"endpoint type {endpoint!r}")
        api = RestApi(self._account.new_id(), self.definition(request), endpoint)
        self._account.region(request.region).apis[api.id] = api
        return self.shown(api)

    def put(self, request: Request) -> Result:
        if request.params.get("mode") != "overwrite":
            raise Refused("BadRequestException", "only overwriting is imitated")
        api = self.find(request)
        api.definition = self.definition(request)
        api.address_off = False  # not documented; the worst case
        return self.shown(api)

    def get(self, request: Request) -> Result:
        return self.shown(self.find(request))

    def update(self, request: Request) -> Result:
        api = self.find(request)
        for patch in request.params["patchOperations"]:
            op, path, value = patch["op"], patch["path"], patch.get("value", "")
            small = value.isdecimal() and int(value) <= 10_485_760
            if (op, path) == ("replace", "/minimumCompressionSize") and (small or not value):
                api.compression = value
            elif (op, path) == ("replace", f"/endpointConfiguration/types/{api.endpoint}"):
                api.endpoint = value
            elif (op, path) == ("replace", "/disableExecuteApiEndpoint"):
                api.address_off = value.lower() == "true"
            else:
                raise Refused("BadRequestException", f"Invalid patch {op} {path} {value}")
        return self.shown(api)

    def deploy(self, request: Request) -> Result:
        api, name = self.find(request), request.params["stageName"]
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise Refused("BadRequestException", "Stage name only allows a-zA-Z0-9_-")
        api.deployments += 1
        stage = api.stages.setdefault(name, Stage(False, {}))
        stage.tracing = request.params.get("tracingEnabled", False)
        stage.definition, stage.address_off = api.definition, api.address_off
        return {"id": f"{api.id[:6]}{api.deployments}"}

    def stage(self, request: Request) -> Result:
        name = request.params["stageName"]
        found = self.find(request).stages.get(name)
        if found is None:
            raise Refused("NotFoundException", "Invalid stage identifier specified")
        settings = {"*/*": dict(found.limits)} if found.limits else {}
        return {"stageName": name, "methodSettings": settings, "accessLogSettings": found.log}

    def update_stage(self, request: Request) -> Result:
        """All operations or none; with the first one what the API says of its address holds."""
        self.stage(request)
        api = self.find(request)
        stage = api.stages[request.params["stageName"]]
        limits, log = dict(stage.limits), dict(stage.log)
        for patch in request.params["patchOperations"]:
            op, path, value = patch["op"], patch["path"], patch.get("value", "")
            if op == "replace" and path in LIMITS and value.isdecimal():
                limits[LIMITS[path]] = int(value)
            elif op == "replace" and path in LOGS and value:
                log[LOGS[path]] = value
            else:
                raise Refused("BadRequestException", f"Invalid patch {op} {path} {value}")
        if log and not self._account.log_roles.get(request.region):
            text = "CloudWatch Logs role ARN must be set in account settings to enable logging"
            raise Refused("BadRequestException", text)
        if log and (log.keys() != {"destinationArn", "format"} or "\n" in log["format"]):
            raise Refused("BadRequestException", f"Invalid access log {log}")
        stage.limits, stage.log, stage.address_off = limits, log, api.address_off
        return self.stage(request)

    def delete(self, request: Request) -> Result:
        del self._account.region(request.region).apis[self.find(request).id]
        return {}
