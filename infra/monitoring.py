"""Alarms and dashboards: the steps, and the parts of their templates that the topology decides.

    alarms-<region>      5xx and latency of every API of the region, lag and proxy of the database
    dashboard-<service>  one service, both regions
    overview             all services

Nothing needs them, and their failure does not end a deployment before the rest is up, so a fault
here keeps nothing from serving. They only tell: nothing is moved because of one of these alarms
(those of takeover.yaml are switches, and not here). Whom they tell is `infra.notifications`: with
`[options] alarm_email` or `alarm_topics` each has an action, else none.

Which region a service is in is shown by the health checks of its two records. With the switch "arc"
exactly one is 1. With the others both are 1 at rest and the primary answers; one that is 0 is out,
and with both 0 the primary answers again. The titles say so.

Downside: AWS names the metrics of a REST API by its name alone, so another API of the same name in
the account would be counted in. Whether Route 53 reports HealthCheckStatus for a check that follows
a routing control or an alarm is assumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.data_stacks import database_step, has_database
from infra.naming import logical_id
from infra.notifications import alarm_parameters, notification_steps, with_actions
from infra.steps import OutputRef, Stack, Value
from infra.topology import API, Topology

OVERVIEW = "overview"
TITLES = {
    "arc": "active region (1 = On)",
    "alarm": "1 = not taken over; the primary answers unless it alone is 0",
    "health": "1 = healthy and not taken over; the primary answers unless it alone is 0",
}
"""Switch -> what the status of the two records' health checks means."""
ERROR_SHARE = 0.05
LATENCY_MS = 3000


def alarms_step(region: str) -> str:
    return f"alarms-{region}"


def dashboard_step(service: str) -> str:
    return f"dashboard-{service}"


def api_names(topology: Topology) -> dict[str, str]:
    """Service -> name of its REST API; the external API is the last."""
    return {**{name: name for name in topology.services}, API: f"{API}.{topology.domain}"}


def monitoring_steps(topology: Topology, region: str) -> Iterator[Stack]:
    """The steps. `region`: where the dashboards' stacks are; dashboards belong to no region."""
    yield from notification_steps(topology)
    for each in topology.regions:
        parameters = alarm_parameters(topology, each)
        if has_database(topology):
            parameters["ProxyName"] = OutputRef(database_step(each), "ProxyName")
        yield Stack(alarms_step(each), each, "alarms.yaml", parameters)
    for service in api_names(topology):
        yield _dashboard(topology, service, region)
    parameters = {
        f"{role}HealthCheckIds": tuple(
            OutputRef(f"routing-{service}", f"{role}HealthCheckId")
            for service in api_names(topology)
        )
        for role in ("Primary", "Secondary")
    }
    if has_database(topology):
        for role, each in zip(("Primary", "Secondary"), topology.regions, strict=True):
            parameters[f"{role}ProxyName"] = OutputRef(database_step(each), "ProxyName")
    yield Stack(OVERVIEW, region, "overview.yaml", parameters)


def _dashboard(topology: Topology, service: str, region: str) -> Stack:
    declared = next(entry for entry in topology.entries if entry.name == service)
    parameters: dict[str, Value] = {
        "ServiceName": service,
        "ApiName": api_names(topology)[service],
        "StateTitle": TITLES[declared.switch],
    }
    for role, each in zip(("Primary", "Secondary"), topology.regions, strict=True):
        parameters[f"{role}Region"] = each
        name = f"{role}HealthCheckId"
        parameters[name] = OutputRef(f"routing-{service}", name)
        if declared.database:
            parameters[f"{role}ProxyName"] = OutputRef(database_step(each), "ProxyName")
    return Stack(dashboard_step(service), region, "dashboard.yaml", parameters)


# ---- what is filled in


def with_alarms(document: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """`alarms.yaml` with two alarms for each API, and whom all of them tell."""
    resources = dict(document["Resources"])
    for api in api_names(topology).values():
        name = logical_id(api)
        resources[f"{name}Errors"] = _alarm(
            api, "5XXError", f"More than {ERROR_SHARE:.0%} of the answers are 5xx.",
            {"Statistic": "Average", "Threshold": ERROR_SHARE},
        )  # fmt: skip
        resources[f"{name}Latency"] = _alarm(
            api, "Latency", f"95 % of the answers take up to {LATENCY_MS} ms or longer.",
            {"ExtendedStatistic": "p95", "Threshold": LATENCY_MS},
        )  # fmt: skip
    return with_actions({**document, "Resources": resources}, topology)


def _alarm(api: str, metric: str, text: str, limit: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": f"{api}: {text}",
            "Namespace": "AWS/ApiGateway",
            "MetricName": metric,
            "Dimensions": [{"Name": "ApiName", "Value": api}],
            "Period": 60,
            "EvaluationPeriods": 5,
            "DatapointsToAlarm": 3,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            **limit,
        },
    }


def with_overview(document: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """`overview.yaml` with the page of all services."""
    variables = {
        f"{role}{index}": {"Fn::Select": [index, {"Ref": f"{role}HealthCheckIds"}]}
        for role in ("Primary", "Secondary")
        for index in range(len(api_names(topology)))
    }
    body = json.dumps({"widgets": list(_widgets(topology))}, separators=(",", ":"))
    overview = document["Resources"]["Overview"]
    properties = {**overview["Properties"], "DashboardBody": {"Fn::Sub": [body, variables]}}
    return {
        **document,
        "Resources": {**document["Resources"], "Overview": {**overview, "Properties": properties}},
    }


def _widgets(topology: Topology) -> Iterator[dict[str, Any]]:
    states = [
        [
            "AWS/Route53", "HealthCheckStatus", "HealthCheckId", f"${{{role}{index}}}",
            {"label": f"{service} {region}"},
        ]
        for role, region in zip(("Primary", "Secondary"), topology.regions, strict=True)
        for index, service in enumerate(api_names(topology))
    ]  # fmt: skip
    yield _widget(0, 0, 24, _states_title(topology), "us-east-1", "Minimum", states)
    for column, region in enumerate(topology.regions):
        for row, (metric, stat) in enumerate((("5XXError", "Sum"), ("Latency", "p95"))):
            metrics = [
                ["AWS/ApiGateway", metric, "ApiName", api] for api in api_names(topology).values()
            ]
            title = f"{metric}, {stat}, {region}"
            yield _widget(12 * column, 6 + 6 * row, 12, title, region, stat, metrics)
    if has_database(topology):
        yield from _database_widgets(topology)


def _database_widgets(topology: Topology) -> Iterator[dict[str, Any]]:
    """Cluster and proxy of a region share a name. Only the region that does not write has a lag."""
    lags: list[Any] = []
    proxies: list[Any] = []
    for role, region in zip(("Primary", "Secondary"), topology.regions, strict=True):
        name, where = f"${{{role}ProxyName}}", {"region": region}
        lags.append(
            ["AWS/RDS", "AuroraGlobalDBRPOLag", "DBClusterIdentifier", name,
             {"label": region, **where}]
        )  # fmt: skip
        proxies += [
            ["AWS/RDS", "AvailabilityPercentage", "ProxyName", name, "TargetGroup", "default",
             "TargetRole", target, {"label": f"{region} {people}", **where}]
            for target, people in (("READ_WRITE", "writer"), ("READ_ONLY", "readers"))
        ]  # fmt: skip
    primary = topology.primary
    yield _widget(0, 18, 12, "lag of the replica, ms", primary, "Maximum", lags)
    yield _widget(12, 18, 12, "proxies: available, percent", primary, "Average", proxies)


def _states_title(topology: Topology) -> str:
    if len(topology.switched_by("arc")) == len(topology.entries):
        return "active region of every service (1 = On)"
    return "which records may answer (1); of two the primary's does, and of none, too"


def _widget(
    x: int, y: int, width: int, title: str, region: str, stat: str, metrics: list[Any]
) -> dict[str, Any]:
    properties = {"title": title, "region": region, "stat": stat, "period": 60, "metrics": metrics}
    return {"type": "metric", "x": x, "y": y, "width": width, "height": 6, "properties": properties}
