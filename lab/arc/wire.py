"""The wire format of `route53-recovery-cluster` (awsJson 1.0): requests checked, answers packed.

botocore checks only presence and minimum lengths before it sends; enum values, patterns and
maximum lengths pass to the server. So everything is checked here, and every fault of a request is
reported at once in `fields`.

The signature itself is not verified: the lab knows no secret keys. That a request is signed at
all, for this service and in SigV4's form, is checked, because forgetting it is the mistake that a
rehearsal can find. Downside: a wrong secret key is first noticed on AWS.

Source: the service's API model 2019-12-02 (shapes, statuses), page "SigV4 signed request elements".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.arc.rules import Entry, duplicate_faults

SERVICE = "route53-recovery-cluster"
PATHS = frozenset({"/", "/v1", "/v1/"})
TARGET_PREFIX = "ToggleCustomerAPI."
OPERATIONS = frozenset(
    {
        "GetRoutingControlState",
        "ListRoutingControls",
        "UpdateRoutingControlState",
        "UpdateRoutingControlStates",
    }
)
UPDATES = frozenset({"UpdateRoutingControlState", "UpdateRoutingControlStates"})
STATUS = {
    "AccessDeniedException": 403,
    "ValidationException": 400,
    "ResourceNotFoundException": 404,
    "ConflictException": 409,
    "ServiceLimitExceededException": 402,
    "ThrottlingException": 429,
    "InternalServerException": 500,
    "EndpointTemporarilyUnavailableException": 503,
}
_NAMESPACE = "com.amazonaws.route53recoverycluster#"
_ARN = re.compile(r"[A-Za-z0-9:./_-]*")
_TOKEN = re.compile(r"\S*")
_MAX_INTEGER = 2**31 - 1
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[a-z0-9-]+)/"
    r"(?P<service>[a-z0-9-]+)/aws4_request, *SignedHeaders=(?P<headers>[a-z0-9;-]+), *"
    r"Signature=[0-9a-f]{64}"
)

Members = Mapping[str, Any]


class ApiError(Exception):
    """A refusal in AWS's terms. `members` are the error's further members."""

    def __init__(
        self, code: str, message: str, retry_after: int | None = None, **members: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.members = members


@dataclass(frozen=True, slots=True)
class Credential:
    """Who signed, and for where."""

    access_key: str
    region: str


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Input of ListRoutingControls."""

    panel_arn: str | None
    max_results: int | None
    next_token: str | None


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """Input of both updates."""

    entries: tuple[Entry, ...]
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def operation(method: str, path: str, target: str | None) -> str:
    """The operation's name. Raises ApiError (ValidationException, unknownOperation)."""
    name = (target or "").removeprefix(TARGET_PREFIX)
    if method != "POST" or path not in PATHS or name not in OPERATIONS or name == target:
        raise ApiError(
            "ValidationException",
            f"unknown operation: {method} {path} with X-Amz-Target {target}",
            reason="unknownOperation",
        )
    return name


def credential(headers: Mapping[str, str]) -> Credential:
    """Who signed. Raises ApiError (AccessDeniedException) when the signature is not in order."""
    match = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
    if match is None:
        raise _denied("the request has no well-formed Signature Version 4 Authorization header")
    if match["service"] != SERVICE:
        raise _denied(f"the credential is scoped to service {match['service']}, not {SERVICE}")
    if "host" not in match["headers"].split(";"):
        raise _denied("the Host header is not signed")
    if not headers.get("X-Amz-Date", headers.get("Date", "")).startswith(match["date"]):
        raise _denied("the date of the credential is not that of X-Amz-Date")
    return Credential(match["key"], match["region"])


def document(body: bytes) -> Members:
    """The request's JSON object. Raises ApiError (ValidationException, cannotParse)."""
    try:
        parsed = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError(
            "ValidationException", f"the body is not JSON: {error}", reason="cannotParse"
        ) from error
    if not isinstance(parsed, dict):
        raise ApiError("ValidationException", "the body is not an object", reason="cannotParse")
    return parsed


class _Faults:
    """Collects what is wrong with the fields of one request."""

    def __init__(self) -> None:
        self._fields: list[tuple[str, str]] = []

    def add(self, name: str, message: str) -> None:
        self._fields.append((name, message))

    def check(self) -> None:
        """Raises ApiError (ValidationException) if there is any fault."""
        if self._fields:
            raise invalid(self._fields)

    def text(
        self, name: str, value: Any, pattern: re.Pattern[str], longest: int, required: bool
    ) -> str | None:
        if value is None:
            if required:
                self.add(name, "is required")
        elif not isinstance(value, str):
            self.add(name, "must be a string")
        elif not 1 <= len(value) <= longest:
            self.add(name, f"must have 1 to {longest} characters, has {len(value)}")
        elif not pattern.fullmatch(value):
            self.add(name, f"must match ^{pattern.pattern}$")
        else:
            return value
        return None

    def arn(self, name: str, value: Any, required: bool = True) -> str | None:
        return self.text(name, value, _ARN, 255, required)

    def state(self, name: str, value: Any) -> str | None:
        if value is None:
            self.add(name, "is required")
        elif value not in ("On", "Off"):
            self.add(name, "must be exactly On or Off")
        else:
            return str(value)
        return None

    def overrides(self, value: Any) -> tuple[str, ...]:
        if value is not None and not isinstance(value, list):
            self.add("SafetyRulesToOverride", "must be a list")
            return ()
        checked = [
            self.arn(f"SafetyRulesToOverride.{index}", arn) for index, arn in enumerate(value or ())
        ]
        return tuple(arn for arn in checked if arn is not None)

    def entry(self, prefix: str, value: Members) -> Entry:
        arn = self.arn(prefix + "RoutingControlArn", value.get("RoutingControlArn"))
        state = self.state(prefix + "RoutingControlState", value.get("RoutingControlState"))
        return Entry(arn or "", state == "On")


def invalid(fields: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> ApiError:
    """ValidationException with these (field, message) pairs."""
    return ApiError(
        "ValidationException",
        "; ".join(f"{name} {message}" for name, message in fields),
        reason="fieldValidationFailed",
        fields=[{"name": name, "message": message} for name, message in fields],
    )


def get_request(body: Members) -> str:
    """The routing control's ARN. Raises ApiError, as do the two functions below."""
    faults = _Faults()
    arn = faults.arn("RoutingControlArn", body.get("RoutingControlArn"))
    faults.check()
    return arn or ""


def list_request(body: Members) -> ListRequest:
    faults = _Faults()
    panel = faults.arn("ControlPanelArn", body.get("ControlPanelArn"), required=False)
    token = faults.text("NextToken", body.get("NextToken"), _TOKEN, 8096, required=False)
    size = body.get("MaxResults")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        faults.add("MaxResults", "must be a whole number")
    elif size is not None and not 1 <= size <= _MAX_INTEGER:
        faults.add("MaxResults", f"must be 1 to {_MAX_INTEGER}")
    faults.check()
    return ListRequest(panel, size, token)


def update_request(name: str, body: Members) -> UpdateRequest:
    faults = _Faults()
    if name == "UpdateRoutingControlState":
        entries = [faults.entry("", body)]
    else:
        entries = _entries(faults, body.get("UpdateRoutingControlStateEntries"))
    overrides = faults.overrides(body.get("SafetyRulesToOverride"))
    faults.check()
    return UpdateRequest(tuple(entries), overrides)


def _entries(faults: _Faults, value: Any) -> list[Entry]:
    member = "UpdateRoutingControlStateEntries"
    if value is None:
        faults.add(member, "is required")
    elif not isinstance(value, list):
        faults.add(member, "must be a list")
    elif not value:
        faults.add(member, "must have at least one entry")
    else:
        entries = []
        for index, item in enumerate(value):
            if isinstance(item, dict):
                entries.append(faults.entry(f"{member}.{index}.", item))
            else:
                faults.add(f"{member}.{index}", "must be an object")
                entries.append(Entry("", False))
        for name, message in duplicate_faults([entry.control_arn for entry in entries]):
            faults.add(name, message)
        return entries
    return []


def success(output: Members) -> Answer:
    """A 200 answer."""
    return Answer(200, json.dumps(output).encode(), {})


def failure(error: ApiError, all_400: bool) -> Answer:
    """The error's answer: statuses of the service's model, or 400 for all but server faults.

    AWS's two sources disagree: the model has 409, 404, 402, 429, 403 and 503; the pages of the API
    Reference have 400 for every one except InternalServerException. Clients must look at the code.
    """
    body = {"__type": _NAMESPACE + error.code, "message": error.message, **error.members}
    headers = {}
    if error.retry_after is not None:
        body["retryAfterSeconds"] = error.retry_after
        headers["Retry-After"] = str(error.retry_after)
    status = STATUS[error.code]
    if all_400 and status != STATUS["InternalServerException"]:
        status = 400
    return Answer(status, json.dumps(body).encode(), headers)


def _denied(reason: str) -> ApiError:
    return ApiError("AccessDeniedException", f"User is not authorized: {reason}")
