"""Alarms and the metrics they watch, read from the resources of a deployment. Pure.

Downside: an alarm on a metric-math expression is listed and stays in INSUFFICIENT_DATA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.model import Deployment, Resource

CLOUDWATCH_PORT = 8446

ALARM_TYPE = "AWS::CloudWatch::Alarm"

Dimensions = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Metric:
    """What identifies a metric: every dimension counts, their order does not."""

    namespace: str
    name: str
    dimensions: Dimensions


@dataclass(frozen=True, slots=True)
class Alarm:
    """One metric alarm; members are those of the API's `MetricAlarm`."""

    name: str
    arn: str
    metric: Metric | None
    """None: it watches an expression, which is not imitated."""
    statistic: str
    period: int
    """Seconds, as on AWS; the profile shortens them."""
    evaluation_periods: int
    datapoints_to_alarm: int
    threshold: float
    comparison: str
    treat_missing: str
    unit: str | None
    described: Mapping[str, Any]
    """Members that only `DescribeAlarms` shows."""


def read_alarms(deployment: Deployment, region: str) -> dict[str, Alarm]:
    """The alarms of a region by name, sorted."""
    alarms = map(_alarm, deployment.of_type(ALARM_TYPE, region=region))
    return {alarm.name: alarm for alarm in sorted(alarms, key=lambda alarm: alarm.name)}


def followed_alarms(deployment: Deployment) -> dict[str, tuple[str, ...]]:
    """Region -> names of the alarms there that a Route 53 health check follows, sorted."""
    found: dict[str, set[str]] = {}
    for resource in deployment.of_type("AWS::Route53::HealthCheck"):
        alarm = resource.properties.get("HealthCheckConfig", {}).get("AlarmIdentifier")
        if alarm:
            found.setdefault(str(alarm["Region"]), set()).add(str(alarm["Name"]))
    return {region: tuple(sorted(names)) for region, names in found.items()}


def _alarm(resource: Resource) -> Alarm:
    given = resource.properties
    periods = int(given.get("EvaluationPeriods", 1))
    return Alarm(
        name=resource.physical_id,
        arn=str(resource.attributes["Arn"]),
        metric=_metric(given),
        statistic=str(given.get("Statistic", "")),
        period=int(given.get("Period", 60)),
        evaluation_periods=periods,
        datapoints_to_alarm=int(given.get("DatapointsToAlarm", periods)),
        threshold=float(given.get("Threshold", 0)),
        comparison=str(given["ComparisonOperator"]),
        treat_missing=str(given.get("TreatMissingData", "missing")),
        unit=given.get("Unit"),
        described={
            "AlarmDescription": given.get("AlarmDescription"),
            "ActionsEnabled": given.get("ActionsEnabled", True),
            **{
                key: list(given.get(key, ()))
                for key in ("OKActions", "AlarmActions", "InsufficientDataActions")
            },
        },
    )


def _metric(given: Mapping[str, Any]) -> Metric | None:
    if "Metrics" in given or "Statistic" not in given:
        return None
    dimensions = frozenset(
        (str(d["Name"]), str(d["Value"])) for d in given.get("Dimensions", ())
    )
    return Metric(str(given["Namespace"]), str(given["MetricName"]), dimensions)
