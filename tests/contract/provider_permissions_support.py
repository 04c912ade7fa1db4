"""What CloudFormation's service role has to be allowed: computed, and written as policies by

    .venv/bin/python tests/contract/provider_permissions_support.py

For every resource type of the templates, its provider's schema says which actions its create, read,
update and delete handlers call (`handlers.permissions`, in the copy that cfn-lint has). What those
need only for properties that no template gives is left out, each with its reason (`NOT_NEEDED`).
Which kinds of resource an action knows is recorded by the same command (`iam_actions_support`, for
the actions of all policies); `ARNS` says how ours of each kind are named.

    cloudformation-traffic    what every deployment has
    cloudformation-network    keys, networks and user pools of services with a database
    cloudformation-database   their database and its logins
    cloudformation-options    what `[options]` adds, beside the first

Downside: a schema lists what a handler may call, not what it does call; and one statement per
service gives each of its actions on all of that service's named resources.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cfnlint
import yaml
from iam_actions_support import kinds, record
from iam_support import listed

from infra.cloudformation import CALLERS_OWN

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ROOT / "infra/policies"
TEMPLATES = ROOT / "infra/templates"
SCHEMAS = Path(cfnlint.__file__).parent / "data/schemas"
HANDLERS = ("create", "read", "update", "delete")
PARTS: Mapping[str, frozenset[str]] = {
    "traffic": frozenset(),
    "network": frozenset({"keys", "network", "users"}),
    "database": frozenset({"database", "global-database", "secrets"}),
    "options": frozenset({"cloudfront", "notifications", "readiness", "region-switch"}),
}
"""Policy -> its templates; the first has all that are in no other. A policy has a limited size."""
NOT_OF_THE_ROLE = frozenset(template.removesuffix(".yaml") for template in CALLERS_OWN)
"""Templates whose stacks are made with the caller's permissions."""
ACCOUNT, REGIONS = "111122223333", ("us-east-1", "us-west-2")
LABEL = "example-com"
TAGGED = {"StringEquals": {"aws:ResourceTag/two-region-api:domain": "example.com"}}

NOT_NEEDED: Mapping[str, str] = {
    "acm-pca:": "certificates are public ones",
    "apigateway:UpdateRestApiPolicy": "the external API has no resource policy",
    "cloudfront:CreateConnectionGroup": "the distribution has no tenants",
    "cloudfront:CreateDistributionWithTags": "IAM has no action of that name",
    "cloudfront:GetConnectionGroup": "the distribution has no tenants",
    "cloudfront:GetVpcOrigin": "the origin is public",
    "cloudfront:UpdateDistributionWithStagingConfig": "there is no staging distribution",
    "cognito-idp:AddCustomAttributes": "the pools have no attributes of their own",
    "ec2:AssociateSubnetCidrBlock": "subnets have no IPv6",
    "ec2:CreateVpcEncryptionControl": "the VPC does not ask for it",
    "ec2:DisassociateSubnetCidrBlock": "subnets have no IPv6",
    "ec2:ModifyVpcTenancy": "the VPC's tenancy is not given",
    "firehose:": "logs go nowhere else",
    "iam:DeleteRolePermissionsBoundary": "roles have no boundary in the templates",
    "iam:ListRoles": "instances have no role for enhanced monitoring",
    "iam:PutRolePermissionsBoundary": "roles have no boundary in the templates",
    "logs:AssociateKmsKey": "log groups have no key of their own",
    "logs:CreateLogDelivery": "logs go nowhere else",
    "logs:DeleteDataProtectionPolicy": "log groups have no such policy",
    "logs:DeleteIndexPolicy": "log groups have no such policy",
    "logs:DeleteResourcePolicy": "log groups have no such policy",
    "logs:DisassociateKmsKey": "log groups have no key of their own",
    "logs:PutBearerTokenAuthentication": "nobody logs in with a bearer token",
    "logs:PutDataProtectionPolicy": "log groups have no such policy",
    "logs:PutIndexPolicy": "log groups have no such policy",
    "logs:PutLogGroupDeletionProtection": "log groups are not protected",
    "logs:PutResourcePolicy": "log groups have no such policy",
    "rds:AddRoleToDBCluster": "clusters have no associated roles",
    "rds:AddRoleToDBInstance": "instances have no associated roles",
    "rds:CreateDBInstanceReadReplica": "instances are members of clusters",
    "rds:CreateDBSnapshot": "instances are members of clusters",
    "rds:DescribeDBClusterAutomatedBackups": "nothing is restored",
    "rds:DescribeDBInstanceAutomatedBackups": "nothing is restored",
    "rds:DisableHttpEndpoint": "the Data API is not used",
    "rds:EnableHttpEndpoint": "the Data API is not used",
    "rds:PromoteReadReplica": "instances are members of clusters",
    "rds:RemoveRoleFromDBCluster": "clusters have no associated roles",
    "rds:RemoveRoleFromDBInstance": "instances have no associated roles",
    "rds:RestoreDB": "nothing is restored",
    "rds:StartDBInstanceAutomatedBackupsReplication": "instances are members of clusters",
    "rds:StopDBInstanceAutomatedBackupsReplication": "instances are members of clusters",
    "route53:CreateQueryLoggingConfig": "queries are not logged",
    "route53:DeleteQueryLoggingConfig": "queries are not logged",
    "s3:": "the Body is in the template",
    "sns:PutDataProtectionPolicy": "topics have no such policy",
    "vpc-lattice:": "the endpoint is an interface endpoint",
    "vpce:": "the endpoint is of its own region",
}
"""Action, or the beginning of some -> why it is not asked for here."""

NOT_NEEDED_BY: Mapping[tuple[str, str], str] = {
    ("AWS::ApiGateway::RestApi", "iam:PassRole"): "integrations have no credentials",
    ("AWS::Cognito::UserPool", "iam:"): "nothing is sent by SMS or e-mail",
    ("AWS::Cognito::UserPool", "kms:"): "the pools have no key of their own",
    ("AWS::Cognito::UserPoolClient", "iam:"): "no analytics",
    ("AWS::Cognito::UserPoolDomain", "cloudfront:"): "the pools' domains are Cognito's own",
    ("AWS::Cognito::UserPoolDomain", "kms:"): "the pools have no key of their own",
    ("AWS::RDS::DBInstance", "iam:"): "instances have no role for enhanced monitoring",
    ("AWS::SNS::Subscription", "iam:"): "nothing goes to a delivery stream",
    ("AWS::SNS::Topic", "iam:"): "deliveries are not logged",
}
"""The same, of one resource type."""

NOT_NEEDED_IN: Mapping[tuple[str, str], str] = {
    ("database", "iam:AttachRolePolicy"): "the proxy's role has a policy of its own",
    ("database", "iam:DetachRolePolicy"): "the proxy's role has a policy of its own",
    ("options", "iam:AttachRolePolicy"): "the plan's role has policies of its own",
    ("options", "iam:DetachRolePolicy"): "the plan's role has policies of its own",
    ("traffic", "iam:DeleteRolePolicy"): "the role for logs has AWS's policy only",
    ("traffic", "iam:PutRolePolicy"): "the role for logs has AWS's policy only",
}
"""The same, of one part."""

ADDED: Mapping[str, tuple[str, ...]] = {
    "database": ("kms:Decrypt", "kms:GenerateDataKey"),
}
"""What the schemas do not say: Secrets Manager asks KMS as the caller when a secret has a key of
its own (Secrets Manager user guide, "Secret encryption and decryption")."""


def _named(service: str, *names: str) -> list[str]:
    """In both regions, because a name with the domain in it is ours in any."""
    return [f"arn:aws:{service}:*:{ACCOUNT}:{name}" for name in names]


def _anywhere(service: str, *names: str) -> list[str]:
    """Ids that AWS makes up: in the two regions only."""
    return [f"arn:aws:{service}:{region}:{ACCOUNT}:{name}" for name in names for region in REGIONS]


ARNS: Mapping[str, Mapping[str, list[str]]] = {
    "acm": {"certificate": _anywhere("acm", "certificate/*")},
    "arc-region-switch": {"plan": [f"arn:aws:arc-region-switch::{ACCOUNT}:plan/{LABEL}:*"]},
    "cloudfront": {"distribution": [f"arn:aws:cloudfront::{ACCOUNT}:distribution/*"]},
    "cloudwatch": {
        "alarm": _named("cloudwatch", f"alarm:{LABEL}-*"),
        "dashboard": [f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{LABEL}-*"],
    },
    "cognito-idp": {"userpool": _anywhere("cognito-idp", "userpool/*")},
    "ec2": {
        kind: _anywhere("ec2", f"{kind}/*")
        for kind in (
            "route-table", "security-group", "security-group-rule", "subnet", "vpc", "vpc-endpoint",
        )
    },
    "iam": {"role": [f"arn:aws:iam::{ACCOUNT}:role/{LABEL}-*"]},
    "kms": {
        "alias": _named("kms", f"alias/{LABEL}-data"),
        "key": _anywhere("kms", "key/*"),
    },
    "logs": {"log-group": _named("logs", f"log-group:{LABEL}-*")},
    "rds": {
        "cluster": _named("rds", f"cluster:db-{LABEL}-*"),
        "cluster-pg": _named("rds", f"cluster-pg:{LABEL}-*"),
        "cluster-snapshot": _named("rds", f"cluster-snapshot:{LABEL}-*"),
        "db": _named("rds", f"db:{LABEL}-*"),
        "global-cluster": [f"arn:aws:rds::{ACCOUNT}:global-cluster:db-{LABEL}"],
        "og": _named("rds", "og:default:*"),
        "pg": _named("rds", f"pg:{LABEL}-*"),
        "proxy": _anywhere("rds", "db-proxy:*"),
        "proxy-endpoint": _anywhere("rds", "db-proxy-endpoint:*"),
        "subgrp": _named("rds", f"subgrp:{LABEL}-*"),
        "target-group": _anywhere("rds", "target-group:*"),
    },
    "route53": {
        "change": ["arn:aws:route53:::change/*"],
        "healthcheck": ["arn:aws:route53:::healthcheck/*"],
        "hostedzone": ["arn:aws:route53:::hostedzone/*"],
    },
    "route53-recovery-control-config": {
        "cluster": [f"arn:aws:route53-recovery-control::{ACCOUNT}:cluster/*"],
        "controlpanel": [f"arn:aws:route53-recovery-control::{ACCOUNT}:controlpanel/*"],
    },
    "route53-recovery-readiness": {
        kind: [f"arn:aws:route53-recovery-readiness::{ACCOUNT}:{name}/example_com*"]
        for kind, name in (
            ("cell", "cell"), ("readinesscheck", "readiness-check"),
            ("recoverygroup", "recovery-group"), ("resourceset", "resource-set"),
        )
    },
    "secretsmanager": {"Secret": _named("secretsmanager", "secret:todo/*")},
    "sns": {"topic": _anywhere("sns", f"{LABEL}-alarms")},
}
"""Service -> kind of resource -> how ours are named. Controls and safety rules are below panels."""

API_GATEWAY = [
    f"arn:aws:apigateway:{region}::/{path}"
    for path in (
        "account", "domainnames", "domainnames/*.example.com", "domainnames/*.example.com/*",
        "restapis", "restapis/*", "tags/*",
    )
    for region in REGIONS
]  # fmt: skip
SIDS = {
    "acm": "CloudCertificates", "apigateway": "CloudApis",
    "arc-region-switch": "CloudPlanOfRegionSwitch", "cloudfront": "CloudDistribution",
    "cloudwatch": "CloudAlarmsAndDashboards", "cognito-idp": "CloudUserPools",
    "ec2": "CloudNetworks", "iam": "CloudRolesOfStacks", "kms": "CloudKeys",
    "logs": "CloudAccessLogs", "rds": "CloudDatabases",
    "route53": "CloudZonesAndHealthChecks", "route53-recovery-control-config": "CloudSwitches",
    "route53-recovery-readiness": "CloudReadiness", "secretsmanager": "CloudLoginsOfTheDatabase",
    "sns": "CloudTopicsOfAlarms",
}  # fmt: skip
CREATES, REMOVES = "CloudLooksAndCreatesWithoutNames", "CloudRemovesOnlyWhatIsTagged"
BELOW = {"routingcontrol": "controlpanel", "safetyrule": "controlpanel"}
REMOVED_BY_TAG = frozenset({
    "acm:DeleteCertificate", "cloudfront:DeleteDistribution", "cognito-idp:DeleteUserPool",
    "ec2:DeleteRouteTable", "ec2:DeleteSecurityGroup", "ec2:DeleteSubnet",
    "ec2:DeleteVpc", "ec2:DeleteVpcEndpoints",
    "kms:ScheduleKeyDeletion", "rds:DeleteDBProxy", "rds:DeleteDBProxyEndpoint",
    "route53-recovery-control-config:DeleteCluster",
    "route53-recovery-control-config:DeleteControlPanel",
    "route53-recovery-control-config:DeleteSafetyRule",
})  # fmt: skip
"""What destroys something whose id AWS made up and which has the stack's tags."""
PASSED_TO = {
    "traffic": "apigateway.amazonaws.com",
    "database": "rds.amazonaws.com",
    "options": "arc-region-switch.amazonaws.com",
}
LOG_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
SPECIAL = {
    "iam:AttachRolePolicy": "CloudGivesRolesThePolicyForLogsOnly",
    "iam:DetachRolePolicy": "CloudGivesRolesThePolicyForLogsOnly",
    "iam:CreateServiceLinkedRole": "CloudMakesTheRoleOfRds",
    "iam:PassRole": "CloudPassesRoles",
    "kms:Decrypt": "CloudKeysThroughSecretsManager",
    "kms:GenerateDataKey": "CloudKeysThroughSecretsManager",
}
"""Actions that a condition or a single resource narrows -> their statement."""


@cache
def schema(kind: str) -> dict[str, Any]:
    """The provider's schema of a resource type, as us-west-2 has it: ARC's types are there."""
    path = SCHEMAS / f"resources/{_files()[kind]}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["typeName"] == kind
    return found


@cache
def _files() -> dict[str, str]:
    files: dict[str, str] = json.loads((SCHEMAS / "providers/us-west-2.json").read_text())
    return files


class _Loader(yaml.CSafeLoader):
    """Any short form is as good as none: only types are read."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def types_of(part: str) -> set[str]:
    """Resource types of the templates of a part."""
    of_others = NOT_OF_THE_ROLE.union(*PARTS.values())
    found = set()
    for path in TEMPLATES.glob("*.yaml"):
        if path.stem in PARTS[part] or (part == "traffic" and path.stem not in of_others):
            document = yaml.load(path.read_text(), _Loader)
            found |= {body["Type"] for body in document["Resources"].values()}
    return found


def asked_for(kind: str) -> Iterator[str]:
    """The actions of a type's handlers, as IAM spells them."""
    handlers = schema(kind).get("handlers", {})
    for name in HANDLERS:
        yield from handlers.get(name, {}).get("permissions", [])


def needless(kind: str, action: str) -> str:
    """Why `action` is not needed for resources of that type here, or empty."""
    reasons = [
        why for (of, begin), why in NOT_NEEDED_BY.items() if of == kind and action.startswith(begin)
    ]
    reasons += [why for begin, why in NOT_NEEDED.items() if action.startswith(begin)]
    return reasons[0] if reasons else ""


def required(part: str) -> set[str]:
    return {
        action
        for kind in types_of(part)
        for action in asked_for(kind)
        if not needless(kind, action) and (part, action) not in NOT_NEEDED_IN
    } | set(ADDED.get(part, ()))


def resources_of(action: str) -> list[str]:
    """The ARNs of ours on which `action` is asked for; `*` when it knows no resources."""
    service = action.partition(":")[0]
    if service == "apigateway":
        return API_GATEWAY
    arns = ARNS[service]
    named = {BELOW.get(kind, kind) for kind in kinds()[action]}
    return sorted({arn for kind in named & arns.keys() for arn in arns[kind]}) or ["*"]


def policy(part: str) -> dict[str, Any]:
    """The policy of a part, as it stands in infra/policies."""
    free: set[str] = set()
    removing: set[str] = set()
    services: dict[str, set[str]] = {}
    for action in required(part) - SPECIAL.keys():
        if resources_of(action) == ["*"]:
            free.add(action)
        elif action in REMOVED_BY_TAG:
            removing.add(action)
        else:
            services.setdefault(action.partition(":")[0], set()).add(action)
    statements = [
        _statement(SIDS[service], actions) for service, actions in sorted(services.items())
    ]
    statements += _special(part)
    if removing:
        statements.append(_statement(REMOVES, removing) | {"Condition": TAGGED})
    statements.append(_statement(CREATES, free))
    return {"Version": "2012-10-17", "Statement": statements}


def _statement(sid: str, actions: set[str]) -> dict[str, Any]:
    resources = sorted({arn for action in actions for arn in resources_of(action)})
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(actions),
        "Resource": "*" if resources == ["*"] else resources,
    }


def _special(part: str) -> Iterator[dict[str, Any]]:
    needed = required(part) & SPECIAL.keys()
    for sid in sorted({SPECIAL[action] for action in needed}):
        statement = _statement(sid, {action for action in needed if SPECIAL[action] == sid})
        key, values = _narrowed(part)[sid]
        if key == "Resource":
            yield {**statement, "Resource": values}
        else:
            yield {**statement, "Condition": {"StringEquals": {key: values}}}


def _narrowed(part: str) -> Mapping[str, tuple[str, Any]]:
    own = "aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
    return {
        "CloudGivesRolesThePolicyForLogsOnly": ("iam:PolicyARN", LOG_POLICY),
        "CloudMakesTheRoleOfRds": ("Resource", f"arn:aws:iam::{ACCOUNT}:role/{own}"),
        "CloudPassesRoles": ("iam:PassedToService", PASSED_TO.get(part, "")),
        "CloudKeysThroughSecretsManager": (
            "kms:ViaService", [f"secretsmanager.{region}.amazonaws.com" for region in REGIONS],
        ),
    }  # fmt: skip


def actions_of_all() -> Iterator[str]:
    """What the policies will have: those written by hand as they are, those of the parts anew."""
    for path in POLICIES.glob("*.json"):
        if path.stem.removeprefix("cloudformation-") not in PARTS:
            for statement in json.loads(path.read_text())["Statement"]:
                yield from listed(statement["Action"])
    for part in PARTS:
        yield from required(part)


def main() -> int:
    used = {service: {*arns, *BELOW} for service, arns in ARNS.items()}
    record(actions_of_all(), used)
    for part in PARTS:
        document = policy(part)
        path = POLICIES / f"cloudformation-{part}.json"
        path.write_text(json.dumps(document, indent=2) + "\n")
        size = len(json.dumps(document, separators=(",", ":")))
        sys.stdout.write(f"{path.name}: {len(required(part))} actions, {size} of 6144 characters\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
