"""One attempt at one region's CloudWatch, by botocore: positions are published and alarms are read.

The address is the region's usual one unless recovery.json has another. A data point carries no
time of its own, so that CloudWatch takes the time at which it arrived (CloudWatch user guide,
"Publishing custom metrics"): the clock of the operator's machine may be wrong, and a position that
lay in the future would undo what came after it. The downside is that a request that is delayed on
its way counts when it arrives; the read-back is there for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from failover.aws import CREDENTIAL_CODES, Clients, headers_of
from failover.errors import CallRejected, CredentialsError
from failover.ports import EndpointFailed
from failover.recovery import Recovery, TakeOver

SERVICE = "cloudwatch"
CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 2.0
"""Seconds, both, for one attempt."""
NOT_CLOUDWATCH = "the answer is not CloudWatch's; something else answers at this address"
PAGE = 100
"""Alarms in one DescribeAlarms (API reference)."""

FINAL_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "NotAuthorized",
        "OptInRequired",
        "ValidationError",
        "ValidationException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "InvalidParameterCombination",
        "InvalidParameterCombinationException",
        "MissingParameter",
        "MissingRequiredParameterException",
        "InvalidAction",
    }
)
"""Asking again would not help (API reference, "Common errors" and those of both operations)."""


def judge(code: str, text: str, region: str) -> Exception:
    """What an error answer of CloudWatch means. Pure."""
    if code in FINAL_CODES:
        return CallRejected(code, text, f"CloudWatch in {region}")
    if code in CREDENTIAL_CODES:
        return CredentialsError(
            f"CloudWatch in {region} does not accept the credentials: {code}: {text}"
        )
    return EndpointFailed(f"{code}: {text}" if text else code, ambiguous=True)


class BotocoreCloudWatch:
    """`ports.CloudWatch`."""

    def __init__(
        self,
        recovery: Recovery,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._recovery = recovery
        self._clients = Clients(SERVICE, connect_timeout, read_timeout)

    def publish(self, takeover: TakeOver, taken: bool) -> None:
        self._call(
            takeover.region,
            "put_metric_data",
            Namespace=takeover.namespace,
            MetricData=[
                {
                    "MetricName": takeover.metric,
                    "Dimensions": [
                        {"Name": name, "Value": value}
                        for name, value in takeover.dimensions.items()
                    ],
                    "Value": 1.0 if taken else 0.0,
                    "Unit": "None",
                }
            ],
        )

    def alarms(self, region: str, names: Sequence[str]) -> dict[str, str]:
        found = {}
        for start in range(0, len(names), PAGE):
            answer = self._call(
                region,
                "describe_alarms",
                AlarmNames=list(names[start : start + PAGE]),
                AlarmTypes=["MetricAlarm"],
                MaxRecords=PAGE,
            )
            for alarm in answer.get("MetricAlarms", []):
                found[str(alarm.get("AlarmName", ""))] = str(alarm.get("StateValue", ""))
        return found

    def _call(self, region: str, operation: str, **parameters: Any) -> dict[str, Any]:
        url = self._recovery.endpoints.get(region, {}).get(SERVICE)
        answer = self._clients.call(
            region, url, operation, lambda code, text, _: judge(code, text, region), **parameters
        )
        if "html" in headers_of(answer).get("content-type", ""):
            # botocore takes any 200 for a success, also a proxy's login page.
            raise EndpointFailed(NOT_CLOUDWATCH, ambiguous=True)
        return answer
