"""One attempt at one cluster endpoint, by botocore.

No attempt is repeated here; `arc` asks the next endpoint instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from failover.aws import CREDENTIAL_CODES, Clients, headers_of, seconds
from failover.errors import CallRejected, CredentialsError, SafetyRuleRefusal
from failover.ports import EndpointFailed
from failover.recovery import Endpoint, Recovery

SERVICE = "route53-recovery-cluster"
CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 4.0
"""Seconds, both. `arc` does not wait so long; this ends the call that it has left behind."""

FINAL_CODES = frozenset(
    {
        "ValidationException",
        "AccessDeniedException",
        "ResourceNotFoundException",
        "ServiceLimitExceededException",
    }
)
"""Another endpoint would say the same."""
NOT_ARC = "the answer is not ARC's; something else answers at this address"


def judge(
    recovery: Recovery, code: str, text: str, resource: str | None, retry_after: float | None
) -> Exception:
    """What an error answer means. `resource` is its `resourceId`, if it has one. Pure."""
    if code == "ConflictException":
        rule = recovery.rule_of(resource, text)
        name, arn = rule if rule else (None, resource)
        return SafetyRuleRefusal(text, name, arn)
    if code in FINAL_CODES:
        return CallRejected(code, text)
    if code in CREDENTIAL_CODES:
        return CredentialsError(f"ARC does not accept the credentials: {code}: {text}")
    return EndpointFailed(f"{code}: {text}" if text else code, retry_after=retry_after)


class BotocoreTransport:
    """The four data-plane operations' two that are needed, through botocore."""

    def __init__(
        self,
        recovery: Recovery,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._recovery = recovery
        self._clients = Clients(SERVICE, connect_timeout, read_timeout)

    def list_states(self, endpoint: Endpoint) -> dict[str, bool]:
        states: dict[str, bool] = {}
        token: dict[str, str] = {}
        while True:
            page = self._call(endpoint, "list_routing_controls", **token)
            if "RoutingControls" not in page:
                raise EndpointFailed(NOT_ARC)
            for control in page["RoutingControls"]:
                states[control["RoutingControlArn"]] = control["RoutingControlState"] == "On"
            if not page.get("NextToken"):
                return states
            token = {"NextToken": page["NextToken"]}

    def update_states(self, endpoint: Endpoint, entries: Mapping[str, bool]) -> None:
        self._call(
            endpoint,
            "update_routing_control_states",
            UpdateRoutingControlStateEntries=[
                {"RoutingControlArn": arn, "RoutingControlState": "On" if is_on else "Off"}
                for arn, is_on in entries.items()
            ],
        )

    def _call(self, endpoint: Endpoint, operation: str, **parameters: Any) -> dict[str, Any]:
        answer = self._clients.call(
            endpoint.region, endpoint.url, operation, self._judge, **parameters
        )
        if not _is_json(answer):
            raise EndpointFailed(NOT_ARC, ambiguous=True)
        return answer

    def _judge(self, code: str, text: str, answer: Mapping[str, Any]) -> Exception:
        resource = answer.get("resourceId")
        retry_after = seconds(headers_of(answer).get("retry-after"))
        return judge(self._recovery, code, text, str(resource) if resource else None, retry_after)


def _is_json(answer: Mapping[str, Any]) -> bool:
    """Does the answer call itself JSON? botocore takes any 200 for the success of an update,
    also the HTML of a proxy that wants somebody to log in."""
    return "json" in headers_of(answer).get("content-type", "json")
