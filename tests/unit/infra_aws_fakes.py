"""AWS in memory, behind `infra.clients.Clients`. Every request and every answer is held against
botocore's service models, so neither side can say what AWS does not know.

Stacks are resolved by the lab's resolver; an operation takes one look (`describe_stacks`) to end.
Downside: what the models do not say (which changes replace a resource, when a deletion fails) is
written here by hand, only as far as the tests need it.
"""

# ruff: noqa: N803 - arguments have the names that AWS gives them

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.validate import ParamValidator
from infra_services_fakes import ACCOUNT, DOMAIN, NOW, FakeServices, NotFound, error

from infra.cloudformation import Pace
from infra.errors import InterruptedDeployError
from infra.steps import Application, Outputs, access_log_of
from infra.topology import Service, Topology
from lab.stacks.template import Prepared, StackRun

REGIONS = ("us-east-1", "us-west-2")
_SESSION = botocore.session.Session()
_MODELS: dict[str, Any] = {}
_REPLACING = {
    ("AWS::ApiGateway::DomainName", "DomainName"),
    ("AWS::RDS::DBCluster", "DBClusterIdentifier"),
    ("AWS::RDS::DBCluster", "KmsKeyId"),
    ("AWS::RDS::GlobalCluster", "SourceDBClusterIdentifier"),
    ("AWS::RDS::GlobalCluster", "GlobalClusterIdentifier"),
    ("AWS::Route53::HealthCheck", "HealthCheckConfig"),  # its Type, which is all that changes here
    ("AWS::Route53RecoveryControl::ControlPanel", "ClusterArn"),
}
_CONDITIONAL = {("AWS::RDS::DBCluster", "GlobalClusterIdentifier")}
"""Replaced or not, which a change set cannot say; both sets are held against the schemas."""


def topology(*, database: bool = False, **services: Service) -> Topology:
    declared = services or {"a": Service("a")}
    if database:
        declared = {**declared, "todo": Service("todo", database="aurora")}
    return Topology(DOMAIN, REGIONS, declared)


@dataclass
class FakeStack:
    name: str
    region: str
    status: str
    template: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    policy: str = ""
    next: str = ""
    """What the status becomes at the next look."""
    looks: int = 0
    """How many looks are answered before that."""

    @property
    def id(self) -> str:
        return f"arn:aws:cloudformation:{self.region}:{ACCOUNT}:stack/{self.name}/1"

    @property
    def step(self) -> str:
        return self.tags.get("two-region-api:step", self.name)


@dataclass
class FakeChangeSet:
    stack: FakeStack
    template: dict[str, Any]
    parameters: dict[str, str]
    tags: dict[str, str]
    changes: list[dict[str, Any]]
    new: bool


def _described(stack: FakeStack) -> dict[str, Any]:
    return {
        "StackName": stack.name,
        "StackId": stack.id,
        "CreationTime": NOW,
        "StackStatus": stack.status,
        "Outputs": _pairs("Output", stack.outputs),
        "Parameters": _pairs("Parameter", stack.parameters),
        "Tags": [{"Key": k, "Value": v} for k, v in stack.tags.items()],
    }


class FakeClient:
    def __init__(self, aws: FakeAws, service: str, region: str) -> None:
        self._aws, self._service, self._region = aws, service, region
        if service not in _MODELS:
            _MODELS[service] = _SESSION.get_service_model(service)
        model = _MODELS[service]
        self._operations = {xform_name(n): model.operation_model(n) for n in model.operation_names}
        self.exceptions = SimpleNamespace(ResourceNotFoundException=NotFound)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = self._operations[name]

        def call(**params: Any) -> Any:
            report = ParamValidator().validate(params, operation.input_shape)
            assert not report.has_errors(), f"{name}: {report.generate_report()}"
            with self._aws.lock:
                self._aws.arrived(self._service, self._region, name, params)
                handler = getattr(self._aws, f"{self._service}_{name}".replace("-", "_"))
                answer = handler(self._region, **params) or {}
                if self._aws.after:
                    self._aws.after()
            if operation.output_shape is not None:
                report = ParamValidator().validate(answer, operation.output_shape)
                assert not report.has_errors(), f"{name} answers: {report.generate_report()}"
            return answer

        return call

    def get_paginator(self, name: str) -> Any:
        def paginate(**params: Any) -> Iterator[Any]:
            yield getattr(self, name)(**params)

        return SimpleNamespace(paginate=paginate)


class FakeAws(FakeServices):
    """All services; also `Clients`."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.stacks: dict[tuple[str, str], FakeStack] = {}
        self.change_sets: dict[str, FakeChangeSet] = {}
        self.calls: list[tuple[str, str, str, Mapping[str, Any]]] = []
        self.executed: list[str] = []
        """Steps whose change set was carried out, in order; `step` or `delete step`."""
        self.left: list[str] = []
        """What a deleted stack left behind."""
        self.failing: dict[str, str] = {}
        """Step -> reason with which its next operation fails."""
        self.hook: Callable[[str, str, str, Mapping[str, Any]], None] | None = None
        self.after: Callable[[], None] | None = None
        self.shows_moves = False
        """Change sets show what a move of the database left."""

    # ---- Clients

    def get(self, service: str, region: str) -> Any:
        return FakeClient(self, service, region)

    def cluster_endpoint(self, url: str, region: str) -> Any:
        assert url.endswith("/v1")
        return FakeClient(self, "route53-recovery-cluster", region)

    def arrived(self, service: str, region: str, name: str, params: Mapping[str, Any]) -> None:
        self.calls.append((service, region, name, params))
        if self.hook:
            self.hook(service, region, name, params)

    def stack(self, step: str) -> FakeStack:
        return next(s for s in self.stacks.values() if s.step == step)

    # ---- CloudFormation

    def _find(self, region: str, name: str) -> FakeStack:
        for stack in self.stacks.values():
            if stack.region == region and name in (stack.name, stack.id):
                return stack
        raise error("ValidationError", f"Stack with id {name} does not exist")

    def cloudformation_describe_stacks(self, region: str, StackName: str = "") -> Any:
        if not StackName:
            listed = [s for s in self.stacks.values() if s.region == region]
            return {"Stacks": [_described(s) for s in listed if s.status != "DELETE_COMPLETE"]}
        stack = self._find(region, StackName)
        if stack.looks:
            stack.looks -= 1
        elif stack.next:
            self._arrive(stack)
        if stack.status == "DELETE_COMPLETE" and StackName == stack.name:
            del self.stacks[region, stack.name]
            raise error("ValidationError", f"Stack with id {StackName} does not exist")
        return {"Stacks": [_described(stack)]}

    def _arrive(self, stack: FakeStack) -> None:
        stack.status, stack.next = stack.next, ""
        if stack.status == "DELETE_COMPLETE":
            resources = stack.template.get("Resources", {})
            self.left += [
                f"{stack.step}.{name}"
                for name, body in resources.items()
                if body.get("DeletionPolicy") == "Retain"
                and body["Type"] != "AWS::Logs::LogGroup"
                and ("Condition" not in body or not stack.parameters.get("ExistingHostedZoneId"))
            ]

    def cloudformation_create_change_set(self, region: str, **given: Any) -> Any:
        name = given["StackName"]
        template = json.loads(given["TemplateBody"])
        parameters = {p["ParameterKey"]: p["ParameterValue"] for p in given["Parameters"]}
        tags = {tag["Key"]: tag["Value"] for tag in given["Tags"]}
        stack = self.stacks.get((region, name))
        new = given["ChangeSetType"] == "CREATE"
        if new:
            if stack and stack.status not in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
                raise error("AlreadyExistsException", f"Stack [{name}] already exists")
            stack = FakeStack(name, region, "REVIEW_IN_PROGRESS", tags=tags)
            self.stacks[region, name] = stack
        assert stack is not None
        if stack.next:
            raise error("ValidationError", f"Stack:{stack.id} is in {stack.status} state")
        changes = self._changes(stack, template, parameters)
        handle = f"arn:aws:cloudformation:{region}:{ACCOUNT}:changeSet/{given['ChangeSetName']}/1"
        self.change_sets[handle] = FakeChangeSet(stack, template, parameters, tags, changes, new)
        return {"Id": handle, "StackId": stack.id}

    def _changes(
        self, stack: FakeStack, template: dict[str, Any], parameters: dict[str, str]
    ) -> list[dict[str, Any]]:
        before = _effective(stack.template, stack.parameters)
        after = _effective(template, parameters)
        changes = [_change("Add", n, after[n]) for n in after if n not in before]
        changes += [_change("Remove", n, before[n]) for n in before if n not in after]
        for name in before.keys() & after.keys():
            old, new = before[name].get("Properties", {}), after[name].get("Properties", {})
            names = [p for p in {**old, **new} if old.get(p) != new.get(p)]
            if before[name].get("DeletionPolicy") != after[name].get("DeletionPolicy"):
                names.append("DeletionPolicy")
            if self.shows_moves and after[name]["Type"] == "AWS::RDS::GlobalCluster":
                names.append("SourceDBClusterIdentifier")
            if self.shows_moves and after[name]["Type"] == "AWS::RDS::DBCluster":
                names.append("GlobalClusterIdentifier")
            if names:
                changes.append(_change("Modify", name, after[name], names))
        return changes

    def cloudformation_describe_change_set(self, region: str, **given: Any) -> Any:
        found = self.change_sets[given["ChangeSetName"]]
        if not found.changes:
            reason = "The submitted information didn't contain changes."
            return {"Status": "FAILED", "StatusReason": reason, "Changes": []}
        half = len(found.changes) // 2
        if given.get("NextToken"):
            return {"Status": "CREATE_COMPLETE", "Changes": found.changes[half:]}
        if not half:
            return {"Status": "CREATE_COMPLETE", "Changes": found.changes}
        page = found.changes[:half]
        return {"Status": "CREATE_COMPLETE", "Changes": page, "NextToken": "more"}

    def cloudformation_delete_change_set(self, region: str, ChangeSetName: str) -> None:
        del self.change_sets[ChangeSetName]

    def cloudformation_execute_change_set(self, region: str, **given: Any) -> None:
        found = self.change_sets.pop(given["ChangeSetName"])
        stack, verb = found.stack, "CREATE" if found.new else "UPDATE"
        assert found.new == bool(given.get("RetainExceptOnCreate"))
        stack.status = f"{verb}_IN_PROGRESS"
        token = given["ClientRequestToken"]
        self._event(stack, stack.id, stack.status, token)
        self.executed.append(stack.step)
        reason = self.failing.pop(stack.step, "")
        if reason:
            self._event(stack, "x-1", f"{verb}_FAILED", token, reason)
            self._event(stack, "x-2", f"{verb}_FAILED", token, "Resource creation cancelled")
            stack.next = "ROLLBACK_COMPLETE" if found.new else "UPDATE_ROLLBACK_COMPLETE"
            return
        faults: list[str] = []
        run = StackRun(
            stack.name, stack.region, Prepared.of(found.template), found.parameters, faults
        )
        _, stack.outputs = run.resolve()
        assert not faults, faults
        stack.template, stack.parameters, stack.tags = found.template, found.parameters, found.tags
        stack.next = f"{verb}_COMPLETE"

    def _event(
        self, stack: FakeStack, physical: str, status: str, token: str, reason: str = ""
    ) -> None:
        event = {
            "StackId": stack.id,
            "EventId": str(len(stack.events)),
            "StackName": stack.name,
            "Timestamp": NOW,
            "PhysicalResourceId": physical,
            "LogicalResourceId": stack.name if physical == stack.id else "Thing",
            "ResourceType": "AWS::Some::Thing",
            "ResourceStatus": status,
            "ClientRequestToken": token,
        }
        stack.events.insert(0, {**event, **({"ResourceStatusReason": reason} if reason else {})})

    def cloudformation_describe_stack_events(self, region: str, StackName: str) -> Any:
        return {"StackEvents": self._find(region, StackName).events}

    def cloudformation_set_stack_policy(self, region: str, **given: Any) -> None:
        self._find(region, given["StackName"]).policy = given["StackPolicyBody"]

    def cloudformation_get_template(self, region: str, StackName: str) -> Any:
        return {"TemplateBody": json.dumps(self._find(region, StackName).template)}

    def cloudformation_delete_stack(self, region: str, StackName: str, **given: Any) -> None:
        stack = self._find(region, StackName)
        token = given["ClientRequestToken"]
        self._event(stack, stack.id, "DELETE_IN_PROGRESS", token)
        self.executed.append(f"delete {stack.step}")
        fault = self._deletion_fault(stack)
        stack.status = "DELETE_IN_PROGRESS"
        stack.next = "DELETE_FAILED" if fault else "DELETE_COMPLETE"
        if fault:
            self._event(stack, "x-1", "DELETE_FAILED", token, fault)

    def _deletion_fault(self, stack: FakeStack) -> str:
        for body in stack.template.get("Resources", {}).values():
            goes = body.get("DeletionPolicy", "Delete") == "Delete"
            if goes and body.get("Properties", {}).get("DeletionProtection") in (True, "ACTIVE"):
                return "deletion protection is on"
        others = [s for s in self._members() if s is not stack]
        if stack.step == f"database-{self.writer}" and others:
            return "the writer cannot leave its global cluster before the others"
        return ""

    def database_regions(self) -> list[str]:
        return [stack.region for stack in self._members()]

    def _members(self) -> list[FakeStack]:
        return [
            s
            for s in self.stacks.values()
            if s.step.startswith("database-") and s.template and s.status != "DELETE_COMPLETE"
        ]

    def cloudformation_detect_stack_drift(self, region: str, StackName: str) -> Any:
        return {"StackDriftDetectionId": "1"}

    def cloudformation_describe_stack_drift_detection_status(
        self, region: str, **given: Any
    ) -> Any:
        return {
            "StackId": "1", "StackDriftDetectionId": "1", "Timestamp": NOW,
            "DetectionStatus": "DETECTION_COMPLETE",
        }  # fmt: skip

    drifts: Mapping[str, list[dict[str, Any]]] = {}

    def cloudformation_describe_stack_resource_drifts(self, region: str, StackName: str) -> Any:
        return {"StackResourceDrifts": self.drifts.get(self._find(region, StackName).step, [])}


def _pairs(kind: str, values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{f"{kind}Key": k, f"{kind}Value": v} for k, v in values.items()]


def _change(
    action: str, name: str, body: Mapping[str, Any], properties: list[str] | None = None
) -> dict[str, Any]:
    change: dict[str, Any] = {
        "Action": action,
        "LogicalResourceId": name,
        "ResourceType": body["Type"],
        "Details": [
            {
                "Target": {"Attribute": "DeletionPolicy"}
                if each == "DeletionPolicy"
                else {"Attribute": "Properties", "Name": each}
            }
            for each in properties or []
        ],
    }
    if action == "Modify":
        named = {(body["Type"], each) for each in properties or []}
        certain = "True" if named & _REPLACING else "False"
        change["Replacement"] = "Conditional" if named & _CONDITIONAL else certain
    return {"Type": "Resource", "ResourceChange": change}


def _effective(template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Resources with the values of parameters put in, as far as a comparison needs it."""
    declared = template.get("Parameters", {})
    defaults = {name: str(each["Default"]) for name, each in declared.items() if "Default" in each}
    values = {**defaults, **parameters}

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"Ref"} and value["Ref"] in values:
                return values[value["Ref"]]
            return {k: put(v) for k, v in value.items()}
        if isinstance(value, list):
            return [put(v) for v in value]
        if isinstance(value, str):
            for name, text in values.items():
                value = value.replace(f"${{{name}}}", text)
        return value

    return {n: put(b) for n, b in template.get("Resources", {}).items()}


class FakeApplications:
    """Applications in memory: a REST API id per service and region."""

    def __init__(self, aws: FakeAws) -> None:
        self._aws = aws
        self.apis: dict[str, str] = {}
        self.deployed: list[str] = []
        self.differing: dict[str, tuple[str, ...]] = {}
        """Step -> what would be set on its REST API."""

    def settings(self, step: Application, outputs: Outputs) -> tuple[str, ...]:
        access_log_of(step, outputs)
        return self.differing.get(step.name, ())

    def outputs(self, step: Application) -> Mapping[str, str]:
        return {"RestAPIId": self.apis[step.name]} if step.name in self.apis else {}

    def deploy(self, step: Application, outputs: Outputs) -> Mapping[str, str]:
        with self._aws.lock:
            self._aws.arrived("chalice", step.region, "deploy", {"step": step.name})
            self.deployed.append(step.name)
            self.apis.setdefault(step.name, f"{len(self.apis):010}")
        return self.outputs(step)

    def delete(self, step: Application) -> None:
        with self._aws.lock:
            self._aws.arrived("chalice", step.region, "delete", {"step": step.name})
            self.apis.pop(step.name, None)


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.stopped = threading.Event()

    def sleep(self, seconds: float) -> None:
        if self.stopped.is_set():
            raise InterruptedDeployError("interrupted", "again")
        self.now += seconds
        self.slept.append(seconds)

    def pace(self) -> Pace:
        return Pace(self.sleep, lambda: self.now, 5.0, 600.0)
