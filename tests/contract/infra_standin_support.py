"""A local AWS for `infra` from end to end: what Chalice calls (`chalice_support`) and, behind the
same HTTP server, the AWS in memory of the unit tests (`infra_aws_fakes`), one account of both.

Requests and answers pass through botocore's models in both directions, so the fakes are driven by
real bytes from the real boto3. What one part makes the other sees: a REST API that Chalice imported
is found by `infra`; a routing stack makes routing controls, a certificate stack its validation
records, a logging stack the account's setting for logs.

Downside: a stack is done at the second look at the latest, nothing inside it takes time, and its
resources are names and outputs, not services that answer.
"""

# ruff: noqa: N803 - arguments have the names that AWS gives them

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aws_protocol_support import NotImitated, Refused, Request
from botocore import xform_name
from botocore.exceptions import ClientError
from chalice_services_support import ACCOUNT, Account, role_arn
from chalice_support import Call, LocalAws, Permission, permissions_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))
from infra_aws_fakes import DOMAIN, FakeAws, FakeChangeSet, FakeStack
from infra_services_fakes import NotFound

ENDPOINT_REGIONS = ("ap-northeast-1", "ap-southeast-2", "eu-west-1", "us-east-1", "us-west-2")
CLUSTER_PATH = "/v1"
NO_PERMISSION = frozenset({"sts:GetCallerIdentity"})
"""Anybody may (STS, GetCallerIdentity)."""


class WholeAws(FakeAws):
    """The fakes, with the account of Chalice's part in place of their own functions and APIs."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self.account = account
        self.url = ""
        self.slow: dict[str, int] = {}
        """Step -> looks that its next operation takes."""
        self.roles_of_stacks: dict[str, str] = {}
        """Stack -> the service role that CloudFormation keeps for it."""
        self.provider: set[tuple[str, str]] = set()
        """(resource type, create, update or delete): what CloudFormation had to do."""

    # ---- stacks and what they make

    def cloudformation_create_change_set(self, region: str, **given: Any) -> Any:
        answer = super().cloudformation_create_change_set(region, **given)
        if "RoleARN" in given:
            self.roles_of_stacks[given["StackName"]] = given["RoleARN"]
        return answer

    def cloudformation_describe_stacks(self, region: str, **given: Any) -> Any:
        answer = super().cloudformation_describe_stacks(region, **given)
        for stack in answer["Stacks"]:
            if stack["StackName"] in self.roles_of_stacks:
                stack["RoleARN"] = self.roles_of_stacks[stack["StackName"]]
        return answer

    def cloudformation_execute_change_set(self, region: str, **given: Any) -> None:
        found = self.change_sets[given["ChangeSetName"]]
        fails = found.stack.step in self.failing
        super().cloudformation_execute_change_set(region, **given)
        found.stack.looks = self.slow.pop(found.stack.step, 0)
        self.provider |= set(_work(found))
        if not fails:
            self._made(found)

    def _made(self, found: FakeChangeSet) -> None:
        stack, types = found.stack, {body["Type"] for body in found.template["Resources"].values()}
        for value in stack.outputs.values():
            if ":routingcontrol/" in value or "/routingcontrol/" in value:
                self.states.setdefault(value, "Off")
        if "AWS::CertificateManager::Certificate" in types:
            record = _validation(stack)
            if record not in self.records:
                self.records.append(record)
        if ("AWS::ApiGateway::Account", "create") in set(_work(found)):
            self.account.log_roles[stack.region] = role_arn(f"{stack.name}-LogRole-1A2B3C")

    def cloudformation_delete_stack(self, region: str, StackName: str, **given: Any) -> None:
        super().cloudformation_delete_stack(region, StackName, **given)
        stack = self._find(region, StackName)
        kept = {"Retain"} if stack.next == "DELETE_COMPLETE" else {"Retain", "Delete"}
        for body in stack.template.get("Resources", {}).values():
            if body.get("DeletionPolicy", "Delete") not in kept:
                self.provider.add((body["Type"], "delete"))
        for value in stack.outputs.values():
            self.states.pop(value, None)

    # ---- ARC

    def route53_recovery_control_config_describe_cluster(
        self, region: str, ClusterArn: str
    ) -> Any:
        answer = super().route53_recovery_control_config_describe_cluster(region, ClusterArn)
        answer["Cluster"]["ClusterEndpoints"] = [
            {"Endpoint": f"{self.url}{CLUSTER_PATH}", "Region": each} for each in ENDPOINT_REGIONS
        ]
        return answer

    # ---- what Chalice made

    def lambda_list_functions(self, region: str) -> Any:
        own = self.account.region(region).functions
        return {"Functions": [function.configuration for function in own.values()]}

    def lambda_invoke(self, region: str, FunctionName: str, Payload: bytes) -> Any:
        if FunctionName not in self.account.region(region).functions:
            raise Refused("ResourceNotFoundException", f"no function {FunctionName}")
        self.log_groups.add((region, f"/aws/lambda/{FunctionName}"))
        return super().lambda_invoke(region, FunctionName, Payload)

    def apigateway_get_rest_apis(self, region: str, **paging: Any) -> Any:
        own = self.account.region(region).apis.values()
        items = [{"id": api.id, "name": api.definition["info"]["title"]} for api in own]
        for stack in self.stacks.values():
            if stack.region == region and stack.step == f"gateway-{region}" and stack.outputs:
                items.append({"id": stack.outputs["RestApiId"], "name": f"api.{DOMAIN}"})
        return {"items": items}

    def apigateway_get_resources(
        self, region: str, restApiId: str, embed: list[str], **paging: Any
    ) -> Any:
        assert embed == ["methods"]
        paths = self.account.region(region).apis[restApiId].definition["paths"]
        return {
            "items": [
                {
                    "path": path,
                    "resourceMethods": {
                        method.upper(): {
                            "methodIntegration": {
                                "uri": operation["x-amazon-apigateway-integration"].get("uri", "")
                            }
                        }
                        for method, operation in methods.items()
                    },
                }
                for path, methods in paths.items()
            ]
        }

    def apigateway_get_account(self, region: str) -> Any:
        return {"cloudwatchRoleArn": self.account.log_roles.get(region, "")}

    def apigateway_update_account(self, region: str, patchOperations: list[Any]) -> Any:
        self.account.log_roles[region] = patchOperations[0]["value"]
        return {}

    # ---- logs

    @property
    def log_groups(self) -> set[tuple[str, str]]:
        groups: set[tuple[str, str]] = self.__dict__.setdefault("_log_groups", set())
        return groups

    def logs_delete_log_group(self, region: str, logGroupName: str) -> None:
        if (region, logGroupName) not in self.log_groups:
            super().logs_delete_log_group(region, logGroupName)
        self.log_groups.remove((region, logGroupName))


def _work(found: FakeChangeSet) -> Iterator[tuple[str, str]]:
    verbs = {"Add": "create", "Modify": "update", "Remove": "delete"}
    for change in found.changes:
        each = change["ResourceChange"]
        yield each["ResourceType"], verbs[each["Action"]]


def _validation(stack: FakeStack) -> dict[str, Any]:
    name = f"_{stack.region.replace('-', '')}.{DOMAIN}."
    value = [{"Value": "_2a.acm-validations.aws."}]
    return {"Name": name, "Type": "CNAME", "TTL": 300, "ResourceRecords": value}


class LocalDeployment(LocalAws):
    """The server. `aws` is the account; `watch` is called after every request, outside of all
    locks, before it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.aws = WholeAws(self.account)
        self.aws.url = self.url
        self.answered = threading.local()
        """The thread's last call."""
        self.watch: Callable[[Call], None] | None = None

    def handle(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, bytes, str]:
        answer = super().handle(method, target, headers, body)
        if self.watch:
            self.watch(self.answered.call)
        return answer

    def record(self, call: Call) -> None:
        super().record(call)
        self.answered.call = call

    def operation(self, request: Request) -> Callable[[Request], Any]:
        try:
            return super().operation(request)
        except NotImitated:
            name = f"{request.service}_{xform_name(request.operation.name)}".replace("-", "_")
            if not hasattr(self.aws, name):
                raise
        if request.service == "route53-recovery-cluster":
            assert request.path.startswith(CLUSTER_PATH), request.path
        return lambda request: self._in_memory(name, request)

    def _in_memory(self, name: str, request: Request) -> Any:
        try:
            self.aws.arrived(request.service, request.region, name, request.params)
            return getattr(self.aws, name)(request.region, **request.params) or {}
        except NotFound as error:
            raise Refused("ResourceNotFoundException", str(error)) from None
        except ClientError as error:
            said = error.response["Error"]
            raise Refused(said["Code"], said["Message"]) from None

    def permissions(self, request: Request) -> Iterator[Permission]:
        if request.service in ("iam", "apigateway"):
            yield from permissions_of(request)
        elif request.service == "lambda":
            if request.operation.name == "ListFunctions":
                yield Permission("lambda:ListFunctions", "*")
                return
            for each in permissions_of(request):
                action = each.action.replace("lambda:Invoke", "lambda:InvokeFunction")
                yield Permission(action, each.resource, each.context)
        else:
            yield from self._of_infra(request)

    def _of_infra(self, request: Request) -> Iterator[Permission]:
        action = f"{request.service}:{request.operation.name}"
        if request.service == "cloudformation":
            yield from self._of_stacks(request, action)
        elif action not in NO_PERMISSION:
            for resource in _resources(request):
                yield Permission(action, resource)

    def _of_stacks(self, request: Request, action: str) -> Iterator[Permission]:
        """Actions on a change set are asked for on its stack."""
        params = request.params
        given = params.get("StackName", "")
        if not given and "ChangeSetName" in params:
            given = self.change_set_stacks.get(params["ChangeSetName"], "")
        if not given:
            yield Permission(action, "*")
            if request.operation.name == "DescribeStacks":  # all of them
                yield Permission("cloudformation:ListStacks", "*")
            return
        name = given.rsplit("/", 2)[1] if given.startswith("arn:") else given
        stack = f"arn:aws:cloudformation:{request.region}:{ACCOUNT}:stack/{name}/1"
        role = (("cloudformation:RoleArn", params["RoleARN"]),) if "RoleARN" in params else ()
        yield Permission(action, stack, role)
        if params.get("Tags"):
            yield Permission("cloudformation:TagResource", stack)
        if "RoleARN" in params:
            to = (("iam:PassedToService", "cloudformation.amazonaws.com"),)
            yield Permission("iam:PassRole", params["RoleARN"], to)

    @property
    def change_set_stacks(self) -> dict[str, str]:
        """Change set -> stack; also of those that are gone."""
        known: dict[str, str] = self.__dict__.setdefault("_change_set_stacks", {})
        known |= {handle: each.stack.name for handle, each in self.aws.change_sets.items()}
        return known


def _resources(request: Request) -> list[str]:
    """What the action is asked for on (Service Authorization Reference of each service)."""
    params, region = request.params, request.region
    zone = params.get("HostedZoneId") or params.get("Id")
    if request.service == "route53" and zone:
        return [f"arn:aws:route53:::hostedzone/{zone}"]
    return {
        "DescribeCertificate": lambda: [params["CertificateArn"]],
        "DescribeCluster": lambda: [params["ClusterArn"]],
        "ListSafetyRules": lambda: [params["ControlPanelArn"]],
        "DescribeGlobalClusters": lambda: [
            f"arn:aws:rds::{ACCOUNT}:global-cluster:{params['GlobalClusterIdentifier']}"
        ],
        "DeleteLogGroup": lambda: [
            f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{params['logGroupName']}"
        ],
        "UpdateRoutingControlStates": lambda: [
            entry["RoutingControlArn"] for entry in params["UpdateRoutingControlStateEntries"]
        ],
    }.get(request.operation.name, lambda: ["*"])()


def snapshot(local: LocalDeployment) -> dict[str, Any]:
    """All that a deployment decides; comparable, and independent of what happens later."""
    aws = local.aws
    with local.lock:  # a command that was interrupted may have left a request under way
        return copy.deepcopy(
            {
                "stacks": {
                    (stack.region, stack.step): (stack.status, stack.template, stack.parameters)
                    for stack in aws.stacks.values()
                },
                "switches": aws.states,
                **{region: local.state(region) for region in ("us-east-1", "us-west-2")},
            }
        )
