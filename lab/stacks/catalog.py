"""Resource types: which the lab imitates, which have no run-time behaviour, what each is called.

For each type a function gives the physical id (what `Ref` returns) and the attributes (what
`GetAtt` returns), in the form that AWS uses ("Return values" of each type's page in the
CloudFormation template reference). Ids are made from the stack and the logical id, so a lab that is
started again has the same ones and an ARN that was written down stays right.

A type in neither table is refused by name. Downside: supporting one means adding it here, even when
nothing reads it.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lab.settings import ARC_REGIONS
from lab.stacks.intrinsics import ACCOUNT_ID, PARTITION

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Declared:
    """A resource before it has a name; the source of its ids."""

    stack: str
    region: str
    logical_id: str
    type: str
    properties: Mapping[str, Any]
    """Resolved."""

    def hex(self, length: int, salt: str = "") -> str:
        """`length` hexadecimal digits (64 at most)."""
        text = f"{self.stack}/{self.region}/{self.logical_id}/{salt}"
        return hashlib.sha256(text.encode()).hexdigest()[:length]

    def letters(self, length: int) -> str:
        """`length` of a-z and 0-9 (up to 30), beginning with a letter as AWS's ids mostly do."""
        number = int(self.hex(40), 16)
        characters = [_LETTERS[number % 26]]
        while len(characters) < length:
            number //= 36
            characters.append(_LETTERS[number % 36])
        return "".join(characters)

    def uuid(self) -> str:
        return str(uuid.UUID(self.hex(32)))

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{PARTITION}:{service}:{self.region}:{ACCOUNT_ID}:{resource}"


Identity = tuple[str, dict[str, Any]]
"""Physical id and attributes."""


def regional_zone_id(region: str) -> str:
    """The hosted zone id of API Gateway in `region`, for alias records."""
    return "Z" + hashlib.sha256(f"apigateway/{region}".encode()).hexdigest()[:13].upper()


def _hosted_zone(declared: Declared) -> Identity:
    zone_id = "Z" + declared.letters(20).upper()
    servers = [
        f"ns-{i}.awsdns-{declared.hex(2, str(i))}.{end}"
        for i, end in enumerate(("com", "net", "org", "co.uk"), 1)
    ]
    return zone_id, {"Id": zone_id, "NameServers": servers}


def _record(declared: Declared) -> Identity:
    return str(declared.properties.get("Name", "")), {}


def _named(declared: Declared) -> Identity:
    return f"{declared.stack}-{declared.logical_id}-{declared.letters(12).upper()}", {}


def _health_check(declared: Declared) -> Identity:
    return declared.uuid(), {"HealthCheckId": declared.uuid()}


def _arc_arn(resource: str) -> str:
    return f"arn:{PARTITION}:route53-recovery-control::{ACCOUNT_ID}:{resource}"


def _cluster(declared: Declared) -> Identity:
    arn = _arc_arn(f"cluster/{declared.uuid()}")
    endpoints = [
        {
            "Endpoint": f"https://{declared.hex(8, region)}.route53-recovery-cluster"
            f".{region}.amazonaws.com/v1",
            "Region": region,
        }
        for region in ARC_REGIONS
    ]
    return arn, {"ClusterArn": arn, "ClusterEndpoints": endpoints, "Status": "DEPLOYED"}


def _control_panel(declared: Declared) -> Identity:
    arn = _arc_arn(f"controlpanel/{declared.hex(32)}")
    return arn, {
        "ControlPanelArn": arn,
        "DefaultControlPanel": False,
        "Status": "DEPLOYED",
    }


def default_panel_arn(cluster_arn: str) -> str:
    """The panel that a cluster has from the start."""
    return _arc_arn(f"controlpanel/{hashlib.sha256(cluster_arn.encode()).hexdigest()[:32]}")


def completed(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    """`properties` with what AWS fills in by itself and others refer to.

    A routing control without a panel goes to its cluster's default one (semantics 36).
    """
    if kind == "AWS::Route53RecoveryControl::RoutingControl" and "ClusterArn" in properties:
        properties.setdefault("ControlPanelArn", default_panel_arn(properties["ClusterArn"]))
    return properties


def _routing_control(declared: Declared) -> Identity:
    arn = f"{declared.properties.get('ControlPanelArn')}/routingcontrol/{declared.hex(16)}"
    return arn, {"RoutingControlArn": arn, "Status": "DEPLOYED"}


def _safety_rule(declared: Declared) -> Identity:
    arn = f"{declared.properties.get('ControlPanelArn')}/safetyrule/{declared.hex(16)}"
    return arn, {"SafetyRuleArn": arn, "Status": "DEPLOYED"}


def _certificate(declared: Declared) -> Identity:
    return declared.arn("acm", f"certificate/{declared.uuid()}"), {}


def _domain_name(declared: Declared) -> Identity:
    name = str(declared.properties.get("DomainName", ""))
    host = f"d-{declared.letters(10)}.execute-api.{declared.region}.amazonaws.com"
    return name, {
        "DomainNameArn": f"arn:{PARTITION}:apigateway:{declared.region}::/domainnames/{name}",
        "RegionalDomainName": host,
        "RegionalHostedZoneId": regional_zone_id(declared.region),
    }


def _base_path_mapping(declared: Declared) -> Identity:
    path = declared.properties.get("BasePath") or "(none)"
    return f"{declared.properties.get('DomainName')}|{path}", {}


def _rest_api(declared: Declared) -> Identity:
    api_id = declared.letters(10)
    return api_id, {"RestApiId": api_id, "RootResourceId": declared.hex(10, "root")}


def _deployment(declared: Declared) -> Identity:
    return declared.letters(6), {"DeploymentId": declared.letters(6)}


def _stage(declared: Declared) -> Identity:
    return str(declared.properties.get("StageName", "")), {}


def _serverless_api(declared: Declared) -> Identity:
    return declared.letters(10), {"RootResourceId": declared.hex(10, "root")}


def _log_group(declared: Declared) -> Identity:
    name = str(declared.properties.get("LogGroupName", _named(declared)[0]))
    return name, {"Arn": declared.arn("logs", f"log-group:{name}:*")}


def _role(declared: Declared) -> Identity:
    name = str(declared.properties.get("RoleName", _named(declared)[0]))
    role_id = "AROA" + declared.letters(17).upper()
    return name, {"Arn": f"arn:{PARTITION}:iam::{ACCOUNT_ID}:role/{name}", "RoleId": role_id}


def _alarm(declared: Declared) -> Identity:
    name = str(declared.properties.get("AlarmName", _named(declared)[0]))
    return name, {"Arn": declared.arn("cloudwatch", f"alarm:{name}")}


def _topic(declared: Declared) -> Identity:
    name = str(declared.properties.get("TopicName", _named(declared)[0]))
    arn = declared.arn("sns", name)
    return arn, {"TopicArn": arn, "TopicName": name}


def _subscription(declared: Declared) -> Identity:
    arn = f"{declared.properties.get('TopicArn')}:{declared.uuid()}"
    return arn, {"Arn": arn}


def _distribution(declared: Declared) -> Identity:
    distribution_id = "E" + declared.letters(13).upper()
    return distribution_id, {
        "Id": distribution_id,
        "DomainName": f"d{declared.letters(13)}.cloudfront.net",
    }


def _plan(declared: Declared) -> Identity:
    name = str(declared.properties.get("Name", ""))
    arn = f"arn:{PARTITION}:arc-region-switch::{ACCOUNT_ID}:plan/{name}:{declared.hex(6)}"
    return arn, {"Arn": arn, "Owner": ACCOUNT_ID, "Version": "1"}


def _readiness(kind: str) -> Callable[[Declared], Identity]:
    """`kind`: what the properties with name and ARN are called after."""
    resource = re.sub("(?<!^)(?=[A-Z])", "-", kind).lower()

    def identity(declared: Declared) -> Identity:
        name = str(declared.properties.get(f"{kind}Name") or _named(declared)[0])
        arn = f"arn:{PARTITION}:route53-recovery-readiness::{ACCOUNT_ID}:{resource}/{name}"
        return name, {f"{kind}Arn": arn}

    return identity


def _build_project(declared: Declared) -> Identity:
    name = str(declared.properties.get("Name", _named(declared)[0]))
    return name, {"Arn": declared.arn("codebuild", f"project/{name}")}


def _bucket(declared: Declared) -> Identity:
    name = str(declared.properties.get("BucketName", _named(declared)[0])).lower()
    return name, {
        "Arn": f"arn:{PARTITION}:s3:::{name}",
        "DomainName": f"{name}.s3.amazonaws.com",
        "RegionalDomainName": f"{name}.s3.{declared.region}.amazonaws.com",
    }


def _identified(prefix: str) -> Callable[[Declared], Identity]:
    """An id such as `subnet-` and 17 hexadecimal digits."""

    def identity(declared: Declared) -> Identity:
        return prefix + declared.hex(17), {}

    return identity


def _security_group(declared: Declared) -> Identity:
    group_id = f"sg-{declared.hex(17)}"
    return group_id, {"GroupId": group_id, "VpcId": str(declared.properties.get("VpcId", ""))}


def _key(declared: Declared) -> Identity:
    key_id = declared.uuid()
    return key_id, {"Arn": declared.arn("kms", f"key/{key_id}"), "KeyId": key_id}


def _secret(declared: Declared) -> Identity:
    name = str(declared.properties.get("Name", _named(declared)[0]))
    arn = declared.arn("secretsmanager", f"secret:{name}-{declared.letters(6)}")
    return arn, {"Id": arn}


def _by_property(name: str) -> Callable[[Declared], Identity]:
    """A resource whose id its author chooses, in small letters as RDS keeps it."""

    def identity(declared: Declared) -> Identity:
        return str(declared.properties.get(name) or _named(declared)[0]).lower(), {}

    return identity


def _db_cluster(declared: Declared) -> Identity:
    name = _by_property("DBClusterIdentifier")(declared)[0]
    host = f"{_account_code(declared)}.{declared.region}.rds.amazonaws.com"
    return name, {
        "DBClusterArn": declared.arn("rds", f"cluster:{name}"),
        "DBClusterResourceId": "cluster-" + declared.letters(26).upper(),
        "Endpoint.Address": f"{name}.cluster-{host}",
        "Endpoint.Port": "3306",
        "ReadEndpoint.Address": f"{name}.cluster-ro-{host}",
    }


def _db_instance(declared: Declared) -> Identity:
    name = _by_property("DBInstanceIdentifier")(declared)[0]
    host = f"{name}.{_account_code(declared)}.{declared.region}.rds.amazonaws.com"
    return name, {
        "DBInstanceArn": declared.arn("rds", f"db:{name}"),
        "Endpoint.Address": host,
        "Endpoint.Port": "3306",
    }


def _db_proxy(declared: Declared) -> Identity:
    name = _by_property("DBProxyName")(declared)[0]
    return name, {
        "DBProxyArn": declared.arn("rds", f"db-proxy:prx-{declared.hex(17)}"),
        "Endpoint": f"{name}.proxy-{_account_code(declared)}.{declared.region}.rds.amazonaws.com",
    }


def _db_proxy_endpoint(declared: Declared) -> Identity:
    name = _by_property("DBProxyEndpointName")(declared)[0]
    code = _account_code(declared)
    return name, {
        "DBProxyEndpointArn": declared.arn("rds", f"db-proxy-endpoint:prx-{declared.hex(17)}"),
        "Endpoint": f"{name}.endpoint.proxy-{code}.{declared.region}.rds.amazonaws.com",
        "IsDefault": "false",
    }


def _account_code(declared: Declared) -> str:
    """The part of RDS host names that is the same for all of an account in a region."""
    return hashlib.sha256(f"rds/{declared.region}".encode()).hexdigest()[:12]


def _target_group(declared: Declared) -> Identity:
    arn = declared.arn("rds", f"target-group:prx-tg-{declared.hex(17)}")
    return arn, {"TargetGroupArn": arn}


def _user_pool(declared: Declared) -> Identity:
    pool_id = f"{declared.region}_{declared.letters(9)}"
    host = f"cognito-idp.{declared.region}.amazonaws.com"
    return pool_id, {
        "Arn": declared.arn("cognito-idp", f"userpool/{pool_id}"),
        "ProviderName": f"{host}/{pool_id}",
        "ProviderURL": f"https://{host}/{pool_id}",
        "UserPoolId": pool_id,
    }


def _user_pool_client(declared: Declared) -> Identity:
    """Without ClientSecret: nobody may find it in what is deployed. See `lab.cognito.keys`."""
    client_id = declared.letters(26)
    name = str(declared.properties.get("ClientName", client_id))
    return client_id, {"ClientId": client_id, "Name": name}


def _user_pool_domain(declared: Declared) -> Identity:
    return str(declared.properties.get("Domain", "")), {}


def _resource_server(declared: Declared) -> Identity:
    return str(declared.properties.get("Identifier", "")), {}


CLUSTER = "AWS::Route53RecoveryControl::Cluster"
DEFAULT_CONTROL_PANEL = "DefaultControlPanel"
"""The panel that every cluster has and that takes controls which name none."""

EMULATED: Mapping[str, Callable[[Declared], Identity]] = {
    "AWS::ApiGateway::BasePathMapping": _base_path_mapping,
    "AWS::ApiGateway::Deployment": _deployment,
    "AWS::ApiGateway::DomainName": _domain_name,
    "AWS::ApiGateway::RestApi": _rest_api,
    "AWS::ApiGateway::Stage": _stage,
    "AWS::CertificateManager::Certificate": _certificate,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::Cognito::UserPool": _user_pool,
    "AWS::Cognito::UserPoolClient": _user_pool_client,
    "AWS::Cognito::UserPoolDomain": _user_pool_domain,
    "AWS::Cognito::UserPoolResourceServer": _resource_server,
    "AWS::RDS::DBCluster": _db_cluster,
    "AWS::RDS::DBInstance": _db_instance,
    "AWS::RDS::DBProxy": _db_proxy,
    "AWS::RDS::DBProxyEndpoint": _db_proxy_endpoint,
    "AWS::RDS::DBProxyTargetGroup": _target_group,
    "AWS::RDS::GlobalCluster": _by_property("GlobalClusterIdentifier"),
    "AWS::Route53::HealthCheck": _health_check,
    "AWS::Route53::HostedZone": _hosted_zone,
    "AWS::Route53::RecordSet": _record,
    "AWS::Route53::RecordSetGroup": _named,
    CLUSTER: _cluster,
    "AWS::Route53RecoveryControl::ControlPanel": _control_panel,
    "AWS::Route53RecoveryControl::RoutingControl": _routing_control,
    "AWS::Route53RecoveryControl::SafetyRule": _safety_rule,
    "AWS::SecretsManager::Secret": _secret,
    "AWS::Serverless::Api": _serverless_api,
}
"""Types whose run-time behaviour a lab module imitates. Functions are in `applications`, because
their names come from the service."""

INERT: Mapping[str, Callable[[Declared], Identity]] = {
    "AWS::ARCRegionSwitch::Plan": _plan,
    "AWS::ApiGateway::Account": _named,
    "AWS::ApiGateway::UsagePlan": _named,
    "AWS::CloudFormation::WaitConditionHandle": _named,
    "AWS::CloudFront::Distribution": _distribution,
    "AWS::CloudWatch::CompositeAlarm": _alarm,
    "AWS::CloudWatch::Dashboard": _named,
    "AWS::CodeBuild::Project": _build_project,
    "AWS::CodePipeline::Pipeline": _named,
    "AWS::EC2::RouteTable": _identified("rtb-"),
    "AWS::EC2::SecurityGroup": _security_group,
    "AWS::EC2::SecurityGroupEgress": _identified("sgr-"),
    "AWS::EC2::SecurityGroupIngress": _identified("sgr-"),
    "AWS::EC2::Subnet": _identified("subnet-"),
    "AWS::EC2::SubnetRouteTableAssociation": _identified("rtbassoc-"),
    "AWS::EC2::VPC": _identified("vpc-"),
    "AWS::EC2::VPCEndpoint": _identified("vpce-"),
    "AWS::IAM::ManagedPolicy": _named,
    "AWS::IAM::Policy": _named,
    "AWS::IAM::Role": _role,
    "AWS::KMS::Alias": _named,
    "AWS::KMS::Key": _key,
    "AWS::Lambda::Permission": _named,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::RDS::DBClusterParameterGroup": _named,
    "AWS::RDS::DBParameterGroup": _named,
    "AWS::RDS::DBSubnetGroup": _named,
    "AWS::Route53RecoveryReadiness::Cell": _readiness("Cell"),
    "AWS::Route53RecoveryReadiness::ReadinessCheck": _readiness("ReadinessCheck"),
    "AWS::Route53RecoveryReadiness::RecoveryGroup": _readiness("RecoveryGroup"),
    "AWS::Route53RecoveryReadiness::ResourceSet": _readiness("ResourceSet"),
    "AWS::S3::Bucket": _bucket,
    "AWS::S3::BucketPolicy": _named,
    "AWS::SNS::Subscription": _subscription,
    "AWS::SNS::Topic": _topic,
    "AWS::SNS::TopicPolicy": _named,
    "AWS::XRay::Group": _named,
    "AWS::XRay::SamplingRule": _named,
}
"""Types without run-time behaviour in the lab: resolved and checked, but no one reads them."""

_INTEGER = re.compile(r"-?\d+")

_NUMBERS = frozenset({
    "BackupRetentionPeriod", "ConnectionBorrowTimeout", "DatapointsToAlarm", "EvaluationPeriods",
    "FailureThreshold", "HealthThreshold", "MemorySize", "MinimumCompressionSize", "Period",
    "Port", "RequestInterval", "ReservedConcurrentExecutions", "TTL", "Threshold",
    "ThrottlingBurstLimit", "ThrottlingRateLimit", "Timeout", "WaitPeriodMs", "Weight",
})  # fmt: skip
_BOOLEANS = frozenset({
    "DisableExecuteApiEndpoint", "Disabled", "EnableSNI", "EvaluateTargetHealth", "Inverted",
    "MeasureLatency", "MetricsEnabled", "MultiValueAnswer", "TracingEnabled",
})  # fmt: skip
_DOCUMENTS = frozenset({"Body", "DefinitionBody", "Environment"})
"""Properties that hold documents of other kinds; nothing in them is touched."""


def typed(value: Any) -> Any:
    """Numbers and booleans that came as strings, from a parameter for one, as what they are.

    CloudFormation does the same by each type's schema. A value that does not fit stays a string.
    """
    if isinstance(value, dict):
        return {
            key: item if key in _DOCUMENTS else _member(key, item) for key, item in value.items()
        }
    if isinstance(value, list):
        return [typed(item) for item in value]
    return value


def _member(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return typed(value)
    if key in _NUMBERS and _INTEGER.fullmatch(value):
        return int(value)
    if key in _BOOLEANS and value in ("true", "false"):
        return value == "true"
    return value
