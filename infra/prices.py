"""What things cost a month while nobody uses them: a small table with dates, not a bill.

List prices of us-east-1 in US dollars, 730 hours a month. What is paid per use (requests, traffic,
storage, I/O, replicated writes, logs, tokens) is left out: it depends on load. `docs/costs.md`
shows this table with its sources and says which prices were looked up.

Health checks are all counted at the price for endpoints on AWS (API Gateway is one), with a
surcharge for each optional feature: HTTPS, an interval of 10 seconds, matching of a string,
measuring of latency. Route 53's pricing page names no other price for checks that follow an alarm,
a routing control or other checks. It lets an account have 50 basic checks of endpoints on AWS for
nothing, which is not counted here, as others in the account may have used them. The metric behind a
take-over alarm ($0.30 a month) is billed only for hours in which something is published, so it
costs nothing here.

Downside: prices of other regions differ by up to a third, and the table ages. `AS_OF` is printed
with every sum.

Sources: Route 53 pricing page, "Health checks" (as quoted by a public repository on 2026-09-20);
CloudWatch pricing page, "Custom metrics".
"""

from __future__ import annotations

from collections.abc import Mapping

AS_OF = "November 2026"
HOURS = 730

_PER_MONTH: Mapping[str, float] = {
    "AWS::Route53::HostedZone": 0.50,
    "AWS::Route53::HealthCheck": 0.50,
    "AWS::Route53RecoveryControl::Cluster": 2.50 * HOURS,
    "AWS::KMS::Key": 1.00,
    "AWS::SecretsManager::Secret": 0.40,
    "AWS::CloudWatch::Alarm": 0.10,
    "AWS::CloudWatch::Dashboard": 3.00,
    "AWS::Cognito::UserPoolClient": 6.00,
    "AWS::EC2::VPCEndpoint": 0.01 * HOURS,
    "AWS::ARCRegionSwitch::Plan": 70.00,
    "AWS::Route53RecoveryReadiness::ReadinessCheck": 0.045 * HOURS,
}
"""Resource type -> dollars a month; types that are not here cost nothing by themselves. A pipeline
is one of those: CodePipeline (V2) and CodeBuild are paid for the minutes that they run."""

_CHECK_FEATURE = 1.00
"""Each optional feature of a health check of an endpoint on AWS."""

_INSTANCE_HOUR = {"db.r7g.large": 0.276, "db.r7g.xlarge": 0.552, "db.r7g.2xlarge": 1.104}
_INSTANCE_VCPUS = {"db.r7g.large": 2, "db.r7g.xlarge": 4, "db.r7g.2xlarge": 8}
_PROXY_VCPU_HOUR = 0.015


def monthly(
    kind: str, properties: Mapping[str, object], instance_class: str = "", instances: int = 0
) -> float:
    """Dollars a month of one resource. `instance_class` and `instances` are those of the stack's
    database; an unknown class counts as db.r7g.large."""
    if kind == "AWS::Route53::HealthCheck":
        return _PER_MONTH[kind] + _CHECK_FEATURE * _features(properties.get("HealthCheckConfig"))
    if kind == "AWS::RDS::DBInstance":
        return _INSTANCE_HOUR.get(instance_class, _INSTANCE_HOUR["db.r7g.large"]) * HOURS
    if kind == "AWS::RDS::DBProxy":  # billed by the vCPUs of the instances behind it, 2 at least
        vcpus = _INSTANCE_VCPUS.get(instance_class, 2) * instances
        return _PROXY_VCPU_HOUR * HOURS * max(vcpus, 2)
    if kind == "AWS::RDS::DBProxyEndpoint":  # its interface endpoint
        return 0.01 * HOURS * 2
    if kind == "AWS::EC2::VPCEndpoint":
        subnets = properties.get("SubnetIds")
        return _PER_MONTH[kind] * (len(subnets) if isinstance(subnets, list) else 1)
    if kind == "AWS::SecretsManager::Secret":  # a replica is billed as a secret
        replicas = properties.get("ReplicaRegions")
        return _PER_MONTH[kind] * (1 + (len(replicas) if isinstance(replicas, list) else 0))
    return _PER_MONTH.get(kind, 0.0)


def _features(config: object) -> int:
    """How many optional features a health check has."""
    if not isinstance(config, Mapping):
        return 0
    kind = str(config.get("Type"))
    features = (
        kind.startswith("HTTPS"),
        kind.endswith("STR_MATCH"),
        str(config.get("RequestInterval")) == "10",
        str(config.get("MeasureLatency")).lower() == "true",
    )
    return sum(features)
