"""What the REST API of a service has and Chalice cannot set: no address of its own, limits, a log.

    API      the `execute-api` address is off, so that no caller goes past the failover records
    stage    requests per second and at once, and the access log, as the external API has them

`patches` is pure: what is there and what is wanted gives the operations for UpdateRestApi and for
UpdateStage; nothing when all is as wanted. `read` and `apply` ask and tell AWS.

What Chalice's next deployment (PutRestApi with mode=overwrite, CreateDeployment) leaves of these
settings is not documented. So they are compared with what AWS has after every application step,
also when the application was not deployed again.

That the address is off takes effect when a stage is updated after that. So the API comes first, and
whenever it is changed the stage is updated as well, with a value that it has if need be.

Sources: API Gateway developer guide, "Disable the default endpoint for REST APIs", "Throttle
requests to your REST APIs for better throughput" and "Set up CloudWatch logging for REST APIs"; API
reference, "Patch operations" (paths of RestApi and Stage).

Downside: limits or a log that somebody gave to a single method by hand are neither seen nor taken
back. And between Chalice's deployment and these calls, some seconds, an API may be without them.

Errors: those of boto3, for `infra.errors.explained`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from infra.templates import GATEWAY, TEMPLATES, parse

RATE_LIMIT = 5000
"""Requests per second: half of what an account has in a region, as for the external API. One
service cannot use up the account, and a request through the external API counts for both."""
BURST_LIMIT = 2500
"""Requests at once, half of the account's in the same way."""

ADDRESS_OFF = "/disableExecuteApiEndpoint"
RATE, BURST = "/*/*/throttling/rateLimit", "/*/*/throttling/burstLimit"
LOG, FORMAT = "/accessLogSettings/destinationArn", "/accessLogSettings/format"
_NAMES = {
    ADDRESS_OFF: "execute-api address off",
    RATE: "requests per second",
    BURST: "requests at once",
    LOG: "access log",
    FORMAT: "fields of the access log",
}

Patch = Mapping[str, str]
"""`op`, `path` and `value`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is wanted of one API and its stage."""

    access_log: str
    """ARN of the log group."""
    log_format: str
    rate_limit: int = RATE_LIMIT
    burst_limit: int = BURST_LIMIT


@dataclass(frozen=True, slots=True)
class Patches:
    """The operations that make an API as wanted; `api` first."""

    api: tuple[Patch, ...] = ()
    stage: tuple[Patch, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What is set, for a person."""
        return tuple(_NAMES[patch["path"]] for patch in (*self.api, *self.stage))


@cache
def log_format() -> str:
    """The fields of the external API's access log, from its template: both logs have the same."""
    stage = parse((TEMPLATES / GATEWAY).read_text())["Resources"]["Stage"]
    return str(stage["Properties"]["AccessLogSetting"]["Format"])


def patches(api: Mapping[str, Any], stage: Mapping[str, Any], wanted: Settings) -> Patches:
    """What has to be told so that `api` (an answer of GetRestApi) and `stage` (of GetStage) are as
    `wanted`."""
    of_api = () if api.get("disableExecuteApiEndpoint") else (_replace(ADDRESS_OFF, "True"),)
    there, log = stage.get("methodSettings", {}).get("*/*", {}), stage.get("accessLogSettings", {})
    differs = {
        RATE: there.get("throttlingRateLimit") != wanted.rate_limit,
        BURST: there.get("throttlingBurstLimit") != wanted.burst_limit,
        LOG: _group(log.get("destinationArn", "")) != _group(wanted.access_log),
        FORMAT: log.get("format") != wanted.log_format,
    }
    if of_api and not any(differs.values()):
        differs[RATE] = True  # so that the stage is updated after the API
    values = {
        RATE: str(wanted.rate_limit),
        BURST: str(wanted.burst_limit),
        LOG: _group(wanted.access_log),
        FORMAT: wanted.log_format,
    }
    return Patches(of_api, tuple(_replace(path, values[path]) for path in values if differs[path]))


def _replace(path: str, value: str) -> Patch:
    return {"op": "replace", "path": path, "value": value}


def _group(arn: str) -> str:
    """CloudFormation ends the ARN of a log group with `:*`; what API Gateway makes of that is not
    documented, so it gets the ARN without, and either is the same."""
    return arn.removesuffix(":*")


def read(client: Any, rest_api: str, stage: str, wanted: Settings) -> Patches | None:
    """What has to be told AWS; None when the API has no such stage. `client`: API Gateway's."""
    api = client.get_rest_api(restApiId=rest_api)
    try:
        found = client.get_stage(restApiId=rest_api, stageName=stage)
    except ClientError as error:
        if error.response["Error"]["Code"] == "NotFoundException":
            return None
        raise
    return patches(api, found, wanted)


def apply(client: Any, rest_api: str, stage: str, told: Patches) -> None:
    """Tells AWS; nothing is sent for nothing."""
    if told.api:
        client.update_rest_api(restApiId=rest_api, patchOperations=list(told.api))
    if told.stage:
        client.update_stage(restApiId=rest_api, stageName=stage, patchOperations=list(told.stage))
