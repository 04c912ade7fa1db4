"""The services besides CloudFormation in `infra_aws_fakes`: ARC, Lambda, API Gateway and others."""

# ruff: noqa: N803 - arguments have the names that AWS gives them

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

ACCOUNT = "111122223333"
DOMAIN = "shop.example-domain.com"
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def error(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


def put(stage: dict[str, Any], path: str, value: str) -> None:
    """One `replace` of UpdateStage (API Gateway API reference, "Patch operations")."""
    if path.startswith("/accessLogSettings/"):
        stage.setdefault("accessLogSettings", {})[path.rpartition("/")[2]] = value
        return
    members = {"rateLimit": "throttlingRateLimit", "burstLimit": "throttlingBurstLimit"}
    method, _, name = path.removeprefix("/").partition("/throttling/")
    stage.setdefault("methodSettings", {}).setdefault(method, {})[members[name]] = int(value)


class NotFound(ClientError):
    """As `client.exceptions` has it."""


class _Body(bytes):
    def read(self) -> bytes:
        return bytes(self)


class FakeServices:
    """A method for each operation: `<service>_<operation>(region, **params)`."""

    def __init__(self) -> None:
        self.writer = "us-east-1"
        self.zones: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self.states: dict[str, str] = {}
        self.pending: list[str] = []
        """Names of rules that are still PENDING, for one look each."""
        self.functions: dict[tuple[str, str], dict[str, Any]] = {}
        self.apis: dict[tuple[str, str], dict[str, Any]] = {}
        self.alarms: dict[tuple[str, str], dict[str, Any]] = {}
        """(region, name) -> take-over alarm."""
        self.invoked: list[tuple[str, str, Any]] = []
        self.dead_endpoints: set[str] = set()

    def database_regions(self) -> list[str]:
        """Regions that have a member of the global database."""
        raise NotImplementedError

    # ---- ARC

    def _panel(self, panel: str) -> list[str]:
        return [arn for arn in self.states if arn.startswith(f"{panel}/")]

    def add_controls(self, document: Mapping[str, Any]) -> None:
        """Every control of a recovery document, Off as new ones are."""
        for entry in document["services"].values():
            arns = [*entry.get("routing_controls", {}).values()]
            arns += entry.get("database", {}).get("routing_controls", {}).values()
            self.states |= dict.fromkeys(arns, "Off")

    def route53_recovery_control_config_describe_cluster(
        self, region: str, ClusterArn: str
    ) -> Any:
        assert region == "us-west-2"
        endpoints = [
            {"Endpoint": f"https://{n}.route53-recovery-cluster.{r}.amazonaws.com/v1", "Region": r}
            for n, r in enumerate(("ap-northeast-1", "us-east-1", "us-west-2"))
        ]
        return {"Cluster": {"Status": "DEPLOYED", "ClusterEndpoints": endpoints}}

    def route53_recovery_control_config_list_routing_controls(
        self, region: str, ControlPanelArn: str
    ) -> Any:
        return {
            "RoutingControls": [
                {"RoutingControlArn": arn, "Name": arn[-4:], "Status": "DEPLOYED",
                 "ControlPanelArn": ControlPanelArn}
                for arn in self._panel(ControlPanelArn)
            ]
        }  # fmt: skip

    def route53_recovery_control_config_list_safety_rules(
        self, region: str, ControlPanelArn: str
    ) -> Any:
        status = "PENDING" if self.pending else "DEPLOYED"
        rule = {
            "Name": self.pending.pop() if self.pending else "rule",
            "Status": status,
            "AssertedControls": [],
            "ControlPanelArn": ControlPanelArn,
            "RuleConfig": {"Inverted": False, "Threshold": 1, "Type": "ATLEAST"},
            "SafetyRuleArn": f"{ControlPanelArn}/safetyrule/1",
            "WaitPeriodMs": 5000,
        }
        return {"SafetyRules": [{"ASSERTION": rule}]}

    def route53_recovery_cluster_list_routing_controls(
        self, region: str, ControlPanelArn: str, **given: Any
    ) -> Any:
        self._answers(region)
        found = self._panel(ControlPanelArn)
        if "NextToken" not in given and len(found) > 1:
            return {"RoutingControls": self._shown(found[:1]), "NextToken": "more"}
        return {"RoutingControls": self._shown(found[1:] or found)}

    def _shown(self, arns: list[str]) -> list[dict[str, str]]:
        return [
            {"RoutingControlArn": arn, "RoutingControlState": self.states[arn]} for arn in arns
        ]

    def route53_recovery_cluster_update_routing_control_states(
        self, region: str, UpdateRoutingControlStateEntries: list[Any]
    ) -> None:
        self._answers(region)
        if self.refused_by_rule:
            raise error("ConflictException", self.refused_by_rule)
        self.states |= {
            entry["RoutingControlArn"]: entry["RoutingControlState"]
            for entry in UpdateRoutingControlStateEntries
        }

    refused_by_rule = ""

    def _answers(self, region: str) -> None:
        if region in self.dead_endpoints:
            raise error("EndpointTemporarilyUnavailableException", "try another one")

    # ---- CloudWatch

    def add_alarms(self, document: Mapping[str, Any]) -> None:
        """Every take-over alarm of a recovery document; nothing was published yet."""
        for entry in document["services"].values():
            for one in entry.get("takeover", {}).values():
                self.alarms[one["region"], one["alarm"]] = {
                    "AlarmName": one["alarm"],
                    "Namespace": one["namespace"],
                    "MetricName": one["metric"],
                    "Dimensions": [
                        {"Name": name, "Value": value}
                        for name, value in one["dimensions"].items()
                    ],
                    "StateValue": "INSUFFICIENT_DATA",
                }

    def cloudwatch_describe_alarms(
        self, region: str, AlarmNames: list[str], AlarmTypes: list[str], MaxRecords: int
    ) -> Any:
        assert AlarmTypes == ["MetricAlarm"]
        assert 0 < len(AlarmNames) <= MaxRecords <= 100
        found = [self.alarms.get((region, name)) for name in AlarmNames]
        return {"MetricAlarms": [alarm for alarm in found if alarm]}

    # ---- others

    def sts_get_caller_identity(self, region: str) -> Any:
        return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/deployer"}

    def rds_describe_global_clusters(self, region: str, GlobalClusterIdentifier: str) -> Any:
        members = [
            {
                "DBClusterArn": f"arn:aws:rds:{member}:{ACCOUNT}:cluster:c",
                "IsWriter": member == self.writer,
            }
            for member in self.database_regions()
        ]
        return {"GlobalClusters": [{"GlobalClusterMembers": members}]}

    def route53_list_hosted_zones_by_name(self, region: str, **given: Any) -> Any:
        return {"HostedZones": self.zones, "IsTruncated": False, "MaxItems": "10"}

    def route53_get_hosted_zone(self, region: str, Id: str) -> Any:
        for zone in self.zones:
            if zone["Id"].endswith(Id):
                return {"HostedZone": zone}
        return {
            "HostedZone": {"Id": Id, "Name": f"{DOMAIN}.", "CallerReference": "x"},
            "DelegationSet": {"NameServers": ["ns-1.awsdns-0.com", "ns-2.awsdns-0.net"]},
        }

    def route53_list_resource_record_sets(self, region: str, HostedZoneId: str) -> Any:
        return {"ResourceRecordSets": self.records, "IsTruncated": False, "MaxItems": "100"}

    def route53_change_resource_record_sets(self, region: str, **given: Any) -> Any:
        for change in given["ChangeBatch"]["Changes"]:
            self.records.remove(change["ResourceRecordSet"])
        return {"ChangeInfo": {"Id": "1", "Status": "PENDING", "SubmittedAt": NOW}}

    def acm_list_certificates(self, region: str, **given: Any) -> Any:
        arn = f"arn:aws:acm:{region}:{ACCOUNT}:certificate/1"
        summary = {"CertificateArn": arn, "DomainName": f"*.{DOMAIN}"}
        return {"CertificateSummaryList": [summary]}

    def acm_describe_certificate(self, region: str, CertificateArn: str) -> Any:
        record = {"Name": f"_1.{DOMAIN}.", "Type": "CNAME", "Value": "_2.acm-validations.aws."}
        option = {"DomainName": f"*.{DOMAIN}", "ResourceRecord": record}
        return {"Certificate": {"DomainValidationOptions": [option]}}

    def apigateway_get_rest_apis(self, region: str) -> Any:
        found = [(i, api["name"]) for (r, i), api in self.apis.items() if r == region]
        return {"items": [{"id": i, "name": name} for i, name in found]}

    def apigateway_get_resources(self, region: str, restApiId: str, embed: list[str]) -> Any:
        uri = self.apis[region, restApiId]["uri"]
        methods = {"GET": {"methodIntegration": {"uri": uri}}}
        return {"items": [{"resourceMethods": methods}, {"id": "root"}]}

    def apigateway_get_rest_api(self, region: str, restApiId: str) -> Any:
        return {"disableExecuteApiEndpoint": self.apis[region, restApiId].get("off", False)}

    def apigateway_get_stage(self, region: str, restApiId: str, stageName: str) -> Any:
        stage = self.apis[region, restApiId].setdefault("stage", {})
        if stage is None:
            raise error("NotFoundException", "Invalid stage identifier specified")
        return stage

    def apigateway_update_rest_api(
        self, region: str, restApiId: str, patchOperations: list[Any]
    ) -> Any:
        (patch,) = patchOperations
        assert patch == {"op": "replace", "path": "/disableExecuteApiEndpoint", "value": "True"}
        self.apis[region, restApiId]["off"] = True
        return {}

    def apigateway_update_stage(
        self, region: str, restApiId: str, stageName: str, patchOperations: list[Any]
    ) -> Any:
        api = self.apis[region, restApiId]
        for patch in patchOperations:
            put(api["stage"], patch["path"], patch["value"])
        api["closed"] = api.get("off", False)  # in force only now
        return api["stage"]

    log_role = ""

    def apigateway_get_account(self, region: str) -> Any:
        return {"cloudwatchRoleArn": self.log_role}

    def apigateway_update_account(self, region: str, patchOperations: list[Any]) -> Any:
        self.log_role = patchOperations[0]["value"]
        return {}

    def lambda_list_functions(self, region: str) -> Any:
        return {"Functions": [f for (r, _), f in self.functions.items() if r == region]}

    def lambda_list_tags(self, region: str, Resource: str) -> Any:
        return {"Tags": self.tags_of.get(Resource, {})}

    def lambda_tag_resource(self, region: str, Resource: str, Tags: dict[str, str]) -> None:
        self.tags_of.setdefault(Resource, {}).update(Tags)

    @property
    def tags_of(self) -> dict[str, dict[str, str]]:
        return self.__dict__.setdefault("_tags_of", {})

    migration_error = ""

    def lambda_invoke(self, region: str, FunctionName: str, Payload: bytes) -> Any:
        self.invoked.append((region, FunctionName, json.loads(Payload)))
        body = {"region": region, "applied": [1], "version": 1}
        text = json.dumps({"errorMessage": self.migration_error} if self.migration_error else body)
        answer: dict[str, Any] = {"StatusCode": 200, "Payload": _Body(text.encode())}
        return {**answer, **({"FunctionError": "Unhandled"} if self.migration_error else {})}

    def logs_delete_log_group(self, region: str, logGroupName: str) -> None:
        answer: Any = {"Error": {"Code": "ResourceNotFoundException", "Message": ""}}
        raise NotFound(answer, "DeleteLogGroup")
